#pragma once

#include <c10/util/Exception.h>

#include <cstring>
#include <exception>

// Runs `work`; returns null, or what went wrong as a string that the caller frees with `free`.
template <typename Work>
char* guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  }
}
