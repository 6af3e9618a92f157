// The few calls of libtorch that tch does not bind. `device.rs` is the only caller and documents each.
//
// No header or symbol of CUDA is used: libtorch_cuda.so is loaded at run time where there is a GPU, and reached
// through c10's device-generic interfaces. One program so serves machines with and without CUDA's libraries.

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <torch/headeronly/version.h>

#include <cstdint>
#include <cstring>
#include <exception>
#include <string>

namespace {

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

} // namespace

extern "C" {

const char* dgx_libtorch_version() {
  return TORCH_VERSION;
}

at::Generator* dgx_generator_new(uint64_t seed) {
  return new at::Generator(at::detail::createCPUGenerator(seed));
}

void dgx_generator_free(at::Generator* generator) {
  delete generator;
}

char* dgx_randn(at::Generator* generator, const int64_t* shape, size_t rank, int8_t kind, at::Tensor** out) {
  return guarded([&] {
    auto options = at::TensorOptions().dtype(static_cast<at::ScalarType>(kind)).device(at::kCPU);
    *out = new at::Tensor(at::randn(at::IntArrayRef(shape, rank), *generator, options));
  });
}

char* dgx_channels_last(const at::Tensor* tensor, at::Tensor** out) {
  return guarded([&] { *out = new at::Tensor(tensor->contiguous(at::MemoryFormat::ChannelsLast)); });
}

c10::InferenceMode* dgx_inference_mode_new() {
  return new c10::InferenceMode();
}

void dgx_inference_mode_free(c10::InferenceMode* guard) {
  delete guard;
}

char* dgx_allocator_stats(int8_t index, int64_t* allocated, int64_t* peak, int64_t* reserved) {
  return guarded([&] {
    using c10::CachingAllocator::StatType;
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(index);
    const auto sum = static_cast<size_t>(StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[sum].current;
    *peak = stats.allocated_bytes[sum].peak;
    *reserved = stats.reserved_bytes[sum].current;
  });
}

char* dgx_reset_peak(int8_t index) {
  return guarded([&] { at::getDeviceAllocator(at::kCUDA)->resetPeakStats(index); });
}

char* dgx_empty_cache() {
  return guarded([&] { at::getDeviceAllocator(at::kCUDA)->emptyCache(); });
}

} // extern "C"
