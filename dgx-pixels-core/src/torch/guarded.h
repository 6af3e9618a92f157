#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

// Notes the type of the error that is being handled, for `dgx_ran_out_of_memory`.
extern "C" void dgx_note_error() noexcept;

// Runs `work`; returns null, or what went wrong as a string that the caller frees with `free`.
template <typename Work>
char* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    dgx_note_error();
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    dgx_note_error();
    return strdup(error.what());
  }
}
