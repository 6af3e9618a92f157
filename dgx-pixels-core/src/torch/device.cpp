// The few calls of libtorch that tch does not bind. `device.rs` is the only caller and documents each.
//
// No header or symbol of CUDA is used: libtorch_cuda.so is loaded at run time where there is a GPU, and reached
// through c10's device-generic interfaces. One program so serves machines with and without CUDA's libraries.

#include "guarded.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/headeronly/version.h>

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <tuple>

namespace {

// `true` once this thread handled an error that was for lack of memory.
thread_local bool ran_out_of_memory = false;

// `cudaErrorMemoryAllocation`.
constexpr int32_t kCudaOutOfMemory = 2;

// Most of our calls are tch's, and torch-sys hands over an error's text alone. It asks the error for that text while it handles
// it, and libtorch then asks for the stack that belongs in the text. So this takes the stack's place, and notes the error's type.
//
// In a process that is not ours the stack is left alone, and `ThreadCounting` notes what allocators report.
//
// An error that libtorch itself handles, as cuDNN's when it looks for an algorithm, is asked for no text, and so not noted.
class NotingStack final : public c10::OptimisticLazyValue<std::string> {
 private:
  std::string compute() const override {
    dgx_note_error();
    return "no stack is kept";
  }
};

// The bytes that threads of ours have allocated on each device, in a process that is not ours. libtorch reports each
// allocation of a thread to the profiler of that thread, if it has one, and this takes the profiler's place on threads
// that have drawn. What such a thread frees is reported too. Nothing of other threads is seen or slowed down.
struct Counter {
  std::atomic<int64_t> used{0};
  std::atomic<int64_t> peak{0};

  void add(int64_t bytes) {
    const int64_t now = used.fetch_add(bytes, std::memory_order_relaxed) + bytes;
    int64_t known = peak.load(std::memory_order_relaxed);
    while (now > known && !peak.compare_exchange_weak(known, now, std::memory_order_relaxed)) {
    }
  }
};

// The CPU, then GPUs by their indices.
constexpr int kCounters = 129;
Counter counters[kCounters];

class ThreadCounting final : public c10::MemoryReportingInfoBase {
 public:
  bool memoryProfilingEnabled() const override {
    return true;
  }

  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device device) override {
    const int place = device.is_cuda() ? device.index() + 1 : 0;
    if (place >= 0 && place < kCounters) {
      counters[place].add(bytes);
    }
  }

  void reportOutOfMemory(int64_t, size_t, size_t, c10::Device) override {
    ran_out_of_memory = true;
  }
};

// Since `dgx_note_all_errors`, or never.
std::atomic<bool> owns_process{false};

// Has this thread counted from now on, in a process that is not ours.
void count_this_thread() {
  thread_local bool is_counted = false;
  if (!is_counted && !owns_process.load(std::memory_order_relaxed)) {
    is_counted = true;
    c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE, std::make_shared<ThreadCounting>());
  }
}

// Counts the bytes of tensors on the CPU, refuses those past a limit, and keeps large blocks for the next tensor.
//
// Malloc alone would do neither well: what it keeps of freed blocks makes the process grow to twice of what its tensors take,
// and with each large block mapped by itself (M_MMAP_THRESHOLD) a step takes 70 % longer, as every page of every tensor
// is new. So large blocks are mapped one by one and kept here, but hardly more than the tensors once took together: what is
// resident then follows from what was counted.
//
// Memory comes from the default allocator, whose blocks malloc knows the size of: nothing is kept beside them, and context
// and data are one pointer, which oneDNN's raw allocations rely on. Tensors from before this allocator keep the default's
// deleter.
class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner) {}

  c10::DataPtr allocate(size_t bytes) override {
    const int64_t limit = limit_.load(std::memory_order_relaxed);
    const int64_t used = used_.load(std::memory_order_relaxed);
    TORCH_CHECK_WITH(
        OutOfMemoryError,
        bytes <= static_cast<size_t>(std::max<int64_t>(limit - used, 0)),
        "out of memory: ", bytes, " bytes asked for, ", used, " in use, limit ", limit);
    if (bytes >= kLargeBytes) {
      if (void* kept = take(bytes)) {
        count(kept);
        return {kept, kept, &CountingAllocator::release, c10::Device(c10::kCPU)};
      }
    }
    auto data = from_default(bytes);
    const bool plain = data.compare_exchange_deleter(inner_->raw_deleter(), &CountingAllocator::release);
    TORCH_INTERNAL_ASSERT(plain, "the default CPU allocator frees its memory in a way of its own");
    count(data.get());
    return data;
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &CountingAllocator::release;
  }

  void copy_data(void* dest, const void* src, std::size_t count) const override {
    inner_->copy_data(dest, src, count);
  }

  // Gives all that is kept back to the system.
  void empty() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      shrink(0);
      most_.store(used_.load());
    }
    malloc_trim(0);
  }

  // Takes the default allocator's place, once.
  static CountingAllocator& installed() {
    static CountingAllocator* const only = [] {
      mallopt(M_MMAP_THRESHOLD, kLargeBytes);
      mallopt(M_TRIM_THRESHOLD, 8 * kLargeBytes);
      auto* allocator = new CountingAllocator(c10::GetDefaultCPUAllocator());
      c10::SetCPUAllocator(allocator);
      return allocator;
    }();
    return *only;
  }

  std::atomic<int64_t> used_{0};
  std::atomic<int64_t> kept_{0};
  std::atomic<int64_t> peak_{0};
  std::atomic<int64_t> limit_{INT64_MAX};

 private:
  // The default allocator's failure, which has no type of its own, as the one that it is.
  c10::DataPtr from_default(size_t bytes) {
    try {
      return inner_->allocate(bytes);
    } catch (const c10::Error& error) {
      TORCH_CHECK_WITH(OutOfMemoryError, false, error.msg());
    }
  }

  static constexpr size_t kLargeBytes = 256 << 10;
  // What may be kept beyond the most that was used: a step's last blocks need not make room for each other. `memory.rs`
  // tells of it.
  static constexpr int64_t kSparePart = 16;
  static constexpr int64_t kSpareBytes = 16 << 20;

  void count(void* data) {
    const auto size = static_cast<int64_t>(malloc_usable_size(data));
    const int64_t now = used_.fetch_add(size, std::memory_order_relaxed) + size;
    raise(peak_, now);
    raise(most_, now);
  }

  static void raise(std::atomic<int64_t>& most, int64_t now) {
    int64_t known = most.load(std::memory_order_relaxed);
    while (now > known && !most.compare_exchange_weak(known, now, std::memory_order_relaxed)) {
    }
  }

  // A kept block that fits, the newest of the smallest; without one, makes room for a new block.
  void* take(size_t bytes) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = blocks_.lower_bound(bytes);
    if (found != blocks_.end() && found->first <= bytes + bytes / 2) {
      void* data = found->second;
      kept_ -= static_cast<int64_t>(found->first);
      blocks_.erase(found);
      return data;
    }
    const int64_t used = used_.load() + static_cast<int64_t>(bytes);
    const int64_t most = std::max(most_.load(), used);
    shrink(most + most / kSparePart + kSpareBytes - used);
    return nullptr;
  }

  // Frees kept blocks, the largest first, until no more than `bytes` are kept. The caller holds the lock.
  void shrink(int64_t bytes) {
    while (kept_.load() > bytes && !blocks_.empty()) {
      const auto largest = std::prev(blocks_.end());
      kept_ -= static_cast<int64_t>(largest->first);
      inner_->raw_deleter()(largest->second);
      blocks_.erase(largest);
    }
  }

  static void release(void* data) {
    auto& self = installed();
    const size_t size = malloc_usable_size(data);
    if (size >= kLargeBytes) {
      const std::lock_guard<std::mutex> lock(self.mutex_);
      self.blocks_.emplace_hint(self.blocks_.lower_bound(size), size, data);
      self.kept_ += static_cast<int64_t>(size);
      self.used_ -= static_cast<int64_t>(size);
      return;
    }
    self.used_.fetch_sub(static_cast<int64_t>(size), std::memory_order_relaxed);
    self.inner_->raw_deleter()(data);
  }

  c10::Allocator* const inner_;
  // Most that was used at once since `empty`.
  std::atomic<int64_t> most_{0};
  std::mutex mutex_;
  std::multimap<size_t, void*> blocks_;
};

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

char* dgx_place(const at::Tensor* tensor, int8_t index, at::Tensor** out) {
  return guarded([&] {
    const auto device = c10::Device(c10::kCUDA, index);
    *out = new at::Tensor(tensor->pin_memory().to(device, tensor->scalar_type(), /*non_blocking=*/true));
  });
}

void dgx_note_error() noexcept {
  const auto error = std::current_exception();
  if (!error) {
    return;
  }
  try {
    std::rethrow_exception(error);
  } catch (const c10::OutOfMemoryError&) {
    ran_out_of_memory = true;
  } catch (const c10::AcceleratorError& failed) {
    ran_out_of_memory |= failed.get_error_code() == kCudaOutOfMemory;
  } catch (const std::bad_alloc&) {
    ran_out_of_memory = true;
  } catch (...) {
  }
}

bool dgx_ran_out_of_memory() {
  return ran_out_of_memory;
}

// Before anything is computed: libtorch reads it without a lock, in any thread that fails.
void dgx_note_all_errors() {
  owns_process = true;
  c10::SetStackTraceFetcher([]() -> c10::Backtrace { return std::make_shared<NotingStack>(); });
}

c10::InferenceMode* dgx_inference_mode_new() {
  count_this_thread();
  ran_out_of_memory = false;
  return new c10::InferenceMode();
}

void dgx_inference_mode_free(c10::InferenceMode* guard) {
  delete guard;
}

void dgx_thread_stats(int32_t counter, int64_t* allocated, int64_t* peak) {
  *allocated = counters[counter].used.load();
  *peak = counters[counter].peak.load();
}

void dgx_thread_reset_peak(int32_t counter) {
  counters[counter].peak.store(counters[counter].used.load());
}

void dgx_cpu_install() {
  CountingAllocator::installed();
}

void dgx_cpu_stats(int64_t* allocated, int64_t* peak, int64_t* reserved) {
  auto& counting = CountingAllocator::installed();
  *allocated = counting.used_.load();
  *peak = counting.peak_.load();
  *reserved = *allocated + counting.kept_.load();
}

void dgx_cpu_reset_peak() {
  auto& counting = CountingAllocator::installed();
  counting.peak_.store(counting.used_.load());
}

void dgx_cpu_empty_cache() {
  CountingAllocator::installed().empty();
}

void dgx_cpu_limit(int64_t bytes) {
  CountingAllocator::installed().limit_.store(bytes);
}

// Zeros before the first tensor on a GPU: until then the allocator knows of no device.
char* dgx_cuda_stats(int8_t index, int64_t* allocated, int64_t* peak, int64_t* reserved) {
  return guarded([&] {
    using c10::CachingAllocator::StatType;
    auto* allocator = at::getDeviceAllocator(at::kCUDA);
    if (!allocator->initialized()) {
      *allocated = *peak = *reserved = 0;
      return;
    }
    const auto stats = allocator->getDeviceStats(index);
    const auto sum = static_cast<size_t>(StatType::AGGREGATE);
    *allocated = stats.allocated_bytes[sum].current;
    *peak = stats.allocated_bytes[sum].peak;
    *reserved = stats.reserved_bytes[sum].current;
  });
}

char* dgx_cuda_reset_peak(int8_t index) {
  return guarded([&] {
    auto* allocator = at::getDeviceAllocator(at::kCUDA);
    if (allocator->initialized()) {
      allocator->resetPeakStats(index);
    }
  });
}

char* dgx_cuda_empty_cache() {
  return guarded([&] {
    auto* allocator = at::getDeviceAllocator(at::kCUDA);
    if (allocator->initialized()) {
      allocator->emptyCache();
    }
  });
}

// cudaMemGetInfo of one device.
char* dgx_cuda_memory(int8_t index, uint64_t* free, uint64_t* total) {
  return guarded([&] { std::tie(*free, *total) = at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(index); });
}

// The share of each GPU's memory that may be taken. The allocator reads it when it is made, before the first tensor.
char* dgx_cuda_limit(double share) {
  return guarded([&] {
    TORCH_CHECK(
        !at::getDeviceAllocator(at::kCUDA)->initialized(),
        "the limit is read before the first tensor on a GPU, and there are tensors already");
    c10::CachingAllocator::setAllocatorSettings("per_process_memory_fraction:" + std::to_string(share));
  });
}

// For attention that libtorch computes from now on, in all threads.
void dgx_without_cudnn_attention() {
  at::globalContext().setSDPUseCuDNN(false);
}

} // extern "C"
