// Streams, events and graphs of GPUs. `stream.rs` is the only caller and documents each.
//
// As `device.cpp` this uses no CUDA header: streams and events go through c10's device-generic interfaces, and the graph, for
// which there is none, through the symbols of libtorch_cuda.so, which is loaded at run time.

#include "../guarded.h"

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/headeronly/version.h>

#include <dlfcn.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

namespace {

// The stream that all our work on a GPU goes to: graphs cannot be captured on the default one.
c10::Stream stream_of(int8_t index) {
  static std::mutex mutex;
  static std::map<int8_t, c10::Stream> streams;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = streams.find(index);
  if (found != streams.end()) {
    return found->second;
  }
  const c10::impl::VirtualGuardImpl cuda(c10::kCUDA);
  const auto stream = cuda.getStreamFromGlobalPool(c10::Device(c10::kCUDA, index));
  streams.emplace(index, stream);
  return stream;
}

template <typename Function>
Function symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "libtorch_cuda has no `", name, "`; expected that of libtorch ", TORCH_VERSION);
  return reinterpret_cast<Function>(found);
}

using PoolId = std::pair<unsigned long long, unsigned long long>;

// `at::cuda::CUDAGraph`, whose header needs CUDA's.
class Graph {
 public:
  Graph() {
    symbol<void (*)(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb")(place_, false);
  }

  ~Graph() {
    symbol<void (*)(void*)>("_ZN2at4cuda9CUDAGraphD1Ev")(place_);
  }

  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void begin(PoolId pool) {
    // Other threads may use the GPU meanwhile: `cudaStreamCaptureModeThreadLocal`.
    symbol<void (*)(void*, PoolId, int)>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode")(
        place_, pool, 1);
  }

  void end() {
    symbol<void (*)(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv")(place_);
  }

  void replay() {
    symbol<void (*)(void*)>("_ZN2at4cuda9CUDAGraph6replayEv")(place_);
  }

 private:
  // Several times of what it takes in libtorch 2.11.
  alignas(64) unsigned char place_[4096] = {};
};

} // namespace

extern "C" {

char* dgx_stream_enter(int8_t index, c10::StreamGuard** out) {
  return guarded([&] { *out = new c10::StreamGuard(stream_of(index)); });
}

void dgx_stream_leave(c10::StreamGuard* guard) {
  delete guard;
}

char* dgx_stream_handle(int8_t index, void** out) {
  return guarded([&] { *out = stream_of(index).native_handle(); });
}

char* dgx_event_record(int8_t index, c10::Event** out) {
  return guarded([&] {
    auto* event = new c10::Event(c10::kCUDA);
    *out = event;
    event->record(stream_of(index));
  });
}

char* dgx_event_synchronize(const c10::Event* event) {
  return guarded([&] { event->synchronize(); });
}

void dgx_event_free(c10::Event* event) {
  delete event;
}

char* dgx_graph_pool(uint64_t* first, uint64_t* second) {
  return guarded([&] {
    const auto pool = symbol<PoolId (*)()>("_ZN2at4cuda17graph_pool_handleEv")();
    *first = pool.first;
    *second = pool.second;
  });
}

char* dgx_graph_begin(uint64_t first, uint64_t second, Graph** out) {
  return guarded([&] {
    *out = new Graph();
    (*out)->begin({first, second});
  });
}

char* dgx_graph_end(Graph* graph) {
  return guarded([&] { graph->end(); });
}

char* dgx_graph_replay(Graph* graph) {
  return guarded([&] { graph->replay(); });
}

// Destroying it may only warn, not throw.
void dgx_graph_free(Graph* graph) {
  delete graph;
}

} // extern "C"
