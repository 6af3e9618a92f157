// The passes over activations between matrix products, fused so that each reads and writes memory once. Compiled at run
// time for the GPU that is there; `pixels.rs` and `rows.rs` launch them and document each. Tensors are 16-bit floats, pictures have
// channels last, and arithmetic is in f32. Wherever ATen would write a tensor and read it again, a value is rounded here
// as well (`rounded`): so results differ from ATen's in the order of sums only.
//
// BF16 is 1 for bf16, 0 for f16. No header is included: NVRTC then needs no CUDA installation.

typedef unsigned short half16;

#if !BF16
__device__ __forceinline__ float widen(half16 x) {
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
  return out;
}
#endif

__device__ __forceinline__ unsigned narrow(float low, float high) {
  unsigned out;
#if BF16
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#else
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#endif
  return out;
}

// Eight neighbours, moved as 16 bytes.
struct Eight {
  float at[8];
};

__device__ __forceinline__ Eight unpack(uint4 bits) {
  const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
  Eight out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#if BF16
    out.at[2 * i] = __uint_as_float(words[i] << 16);
    out.at[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
#else
    out.at[2 * i] = widen(static_cast<half16>(words[i]));
    out.at[2 * i + 1] = widen(static_cast<half16>(words[i] >> 16));
#endif
  }
  return out;
}

__device__ __forceinline__ uint4 pack(const Eight& values) {
  unsigned words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = narrow(values.at[2 * i], values.at[2 * i + 1]);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// As if written and read again.
__device__ __forceinline__ Eight rounded(const Eight& values) {
  return unpack(pack(values));
}

__device__ __forceinline__ Eight read(const half16* from) {
  return unpack(*reinterpret_cast<const uint4*>(from));
}

__device__ __forceinline__ void write(half16* to, const Eight& values) {
  *reinterpret_cast<uint4*>(to) = pack(values);
}

__device__ __forceinline__ Eight operator+(const Eight& a, const Eight& b) {
  Eight out;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    out.at[i] = a.at[i] + b.at[i];
  }
  return out;
}

// Kernels may be started before the one they read from has ended (`Driver::launch`), and wait here until it has.
__device__ __forceinline__ void begin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

__device__ __forceinline__ float sum_of_warp(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, step);
  }
  return value;
}

__device__ __forceinline__ float silu(float x) {
  return __fdividef(x, 1.0f + __expf(-x));
}

// x/2 * erfc(-x/sqrt(2)), by formula 7.1.26 of Abramowitz and Stegun, which is within 1.5e-7 and has no cancellation here.
__device__ __forceinline__ float gelu(float x) {
  const float z = fabsf(x) * 0.70710678118654752440f;
  const float t = __fdividef(1.0f, 1.0f + 0.3275911f * z);
  const float series = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
  const float tail = 0.5f * x * series * __expf(-z * z);
  return x > 0.0f ? x - tail : tail;
}

// What a group norm reads: channels of `a`, then of `b`, with a vector for all pixels and one for each picture added.
struct Source {
  const half16* a;
  const half16* b;
  const half16* bias;
  const half16* time;
  long long time_stride;
  int channels_a;
  int channels;
};

// Eight channels of each pixel. OPEN: with vectors to be added.
template <bool OPEN>
struct Column {
  const half16* from;
  long long stride;
  bool has_time;
  Eight bias;
  Eight time;

  __device__ Column(const Source& source, long long pixel, int image, int channel) {
    const bool in_a = channel < source.channels_a;
    stride = in_a ? source.channels_a : source.channels - source.channels_a;
    from = (in_a ? source.a + channel : source.b + (channel - source.channels_a)) + pixel * stride;
    if (OPEN) {
      has_time = source.time != nullptr;
      bias = source.bias != nullptr ? read(source.bias + channel) : Eight{};
      if (has_time) {
        time = read(source.time + image * source.time_stride + channel);
      }
    }
  }

  __device__ __forceinline__ uint4 bits(int pixel) const {
    return *reinterpret_cast<const uint4*>(from + pixel * stride);
  }

  __device__ __forceinline__ Eight values(uint4 bits) const {
    Eight values = unpack(bits);
    if (OPEN) {
      values = rounded(values + bias);
      if (has_time) {
        values = rounded(values + time);
      }
    }
    return values;
  }
};

// Calls `work(pixel, bits)` for each of a thread's pixels, with several loads under way.
template <int AHEAD, typename Values, typename Work>
__device__ __forceinline__ void each_pixel(const Values& values, int row, int rows, int count, Work work) {
  int pixel = row;
  for (; pixel + (AHEAD - 1) * rows < count; pixel += AHEAD * rows) {
    uint4 bits[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      bits[i] = values.bits(pixel + i * rows);
    }
#pragma unroll
    for (int i = 0; i < AHEAD; ++i) {
      work(pixel + i * rows, bits[i]);
    }
  }
  for (; pixel < count; pixel += rows) {
    work(pixel, values.bits(pixel));
  }
}

// At most so many chunks of a picture: four for each lane of a warp.
constexpr int kChunksOfLane = 4;

// Mean and 1/deviation of each group of each picture. Grid: chunks of pixels, at most 128, and pictures. Each block leaves mean
// and squared deviations of its pixels in `partial [pictures, chunks, groups, 2]`; the last block of a picture joins them, in a
// fixed order, into `stats [pictures, groups, 2]`. `arrived [pictures]` is zero before and after.
template <bool OPEN>
__device__ __forceinline__ void group_stats(
    const Source& source, int pixels, int chunk_pixels, int groups, float eps, float* partial, unsigned* arrived,
    float* stats) {
  begin();
  extern __shared__ float shared[];
  const int channels = source.channels;
  const int columns = channels / 8;
  const int column = threadIdx.x % columns;
  const int row = threadIdx.x / columns;
  const int rows = blockDim.x / columns;
  const int image = blockIdx.y;
  const int first = blockIdx.x * chunk_pixels;
  const int count = min(chunk_pixels, pixels - first);

  // 1. sums of each channel
  Eight sum = {}, square = {};
  const Column<OPEN> values(source, static_cast<long long>(image) * pixels + first, image, column * 8);
  each_pixel<8>(values, row, rows, count, [&](int, uint4 bits) {
    const Eight value = values.values(bits);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum.at[i] += value.at[i];
      square.at[i] += value.at[i] * value.at[i];
    }
  });
  float* sums = shared;
  float* squares = shared + rows * channels;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    sums[row * channels + column * 8 + i] = sum.at[i];
    squares[row * channels + column * 8 + i] = square.at[i];
  }
  __syncthreads();
  for (int channel = threadIdx.x; channel < channels; channel += blockDim.x) {
    float total = 0, total_square = 0;
    for (int i = 0; i < rows; ++i) {
      total += sums[i * channels + channel];
      total_square += squares[i * channels + channel];
    }
    sums[channel] = total;
    squares[channel] = total_square;
  }
  __syncthreads();

  // 2. of each group
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
  const int width = channels / groups;
  const int chunks = gridDim.x;
  float2* all = reinterpret_cast<float2*>(partial) + static_cast<long long>(image) * chunks * groups;
  for (int group = warp; group < groups; group += warps) {
    float total = 0;
    for (int i = lane; i < width; i += 32) {
      total += sums[group * width + i];
    }
    const float mean = sum_of_warp(total) / (static_cast<float>(count) * width);
    float deviation = 0;
    for (int i = lane; i < width; i += 32) {
      const float s = sums[group * width + i];
      const float own = s / count;
      deviation += fmaxf(squares[group * width + i] - s * own, 0.0f) + count * (own - mean) * (own - mean);
    }
    deviation = sum_of_warp(deviation);
    if (lane == 0) {
      all[blockIdx.x * groups + group] = make_float2(mean, deviation);
    }
  }

  // 3. of the picture, by the last block
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(arrived + image, 1u) == chunks - 1;
  }
  __syncthreads();
  if (!is_last) {
    return;
  }
  __threadfence();
  for (int group = warp; group < groups; group += warps) {
    float2 parts[kChunksOfLane];
    float counts[kChunksOfLane];
    float total = 0;
#pragma unroll
    for (int i = 0; i < kChunksOfLane; ++i) {
      const int chunk = i * 32 + lane;
      const bool exists = chunk < chunks;
      parts[i] = exists ? __ldcg(all + chunk * groups + group) : make_float2(0, 0);
      counts[i] = exists ? min(chunk_pixels, pixels - chunk * chunk_pixels) : 0;
      total += parts[i].x * counts[i];
    }
    const float mean = sum_of_warp(total) / pixels;
    float deviation = 0;
#pragma unroll
    for (int i = 0; i < kChunksOfLane; ++i) {
      deviation += parts[i].y + counts[i] * width * (parts[i].x - mean) * (parts[i].x - mean);
    }
    deviation = sum_of_warp(deviation);
    if (lane == 0) {
      float* to = stats + (image * groups + group) * 2;
      to[0] = mean;
      to[1] = rsqrtf(deviation / (static_cast<float>(pixels) * width) + eps);
    }
  }
  if (threadIdx.x == 0) {
    arrived[image] = 0;
  }
}

// The largest of e4m3, an 8-bit float with 4 bits of exponent.
constexpr float kLargest8 = 448.0f;

// Eight numbers of e4m3, each `factor` times as large. From compute capability 8.9 on.
__device__ __forceinline__ void write8(unsigned char* to, const Eight& values, float factor) {
#if __CUDA_ARCH__ >= 890
  unsigned short pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;"
        : "=h"(pairs[i])
        : "f"(values.at[2 * i + 1] * factor), "f"(values.at[2 * i] * factor));
  }
  *reinterpret_cast<uint2*>(to) = make_uint2(pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16);
#endif
}

// The norm itself, with SiLU behind it if `activate`. Grid: chunks of pixels, and pictures. `group_stats` has made `stats`.
// EIGHT: what comes out is e4m3, `factor` times as large.
template <bool OPEN, bool EIGHT>
__device__ __forceinline__ void group_norm(
    const Source& source, int pixels, int chunk_pixels, int groups, int activate, const float* stats,
    const half16* weight, const half16* bias, void* out, float factor) {
  begin();
  const int channels = source.channels;
  const int columns = channels / 8;
  const int column = threadIdx.x % columns;
  const int row = threadIdx.x / columns;
  const int rows = blockDim.x / columns;
  const int image = blockIdx.y;
  const int first = blockIdx.x * chunk_pixels;
  const int count = min(chunk_pixels, pixels - first);
  const int width = channels / groups;

  const Eight weights = read(weight + column * 8), biases = read(bias + column * 8);
  Eight scale, shift;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float2 of_group = *reinterpret_cast<const float2*>(stats + (image * groups + (column * 8 + i) / width) * 2);
    scale.at[i] = of_group.y * weights.at[i];
    shift.at[i] = biases.at[i] - of_group.x * scale.at[i];
  }
  const long long start = static_cast<long long>(image) * pixels + first;
  const Column<OPEN> values(source, start, image, column * 8);
  const long long to = start * channels + column * 8;
  each_pixel<4>(values, row, rows, count, [&](int pixel, uint4 bits) {
    Eight value = values.values(bits);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      value.at[i] = value.at[i] * scale.at[i] + shift.at[i];
    }
    if (activate) {
      value = rounded(value);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        value.at[i] = silu(value.at[i]);
      }
    }
    const long long at = to + static_cast<long long>(pixel) * channels;
    if (EIGHT) {
      write8(static_cast<unsigned char*>(out) + at, value, factor);
    } else {
      write(static_cast<half16*>(out) + at, value);
    }
  });
}

#define GROUP_NORM(NAME, OPEN)                                                                                        \
  extern "C" __global__ void __launch_bounds__(512) group_stats_##NAME(                                               \
      Source source, int pixels, int chunk_pixels, int groups, float eps, float* partial, unsigned* arrived,          \
      float* stats) {                                                                                                 \
    group_stats<OPEN>(source, pixels, chunk_pixels, groups, eps, partial, arrived, stats);                            \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(512, 2) group_norm_##NAME(                                             \
      Source source, int pixels, int chunk_pixels, int groups, int activate, const float* stats, const half16* weight, \
      const half16* bias, void* out, float factor) {                                                                  \
    group_norm<OPEN, false>(source, pixels, chunk_pixels, groups, activate, stats, weight, bias, out, factor);        \
  }                                                                                                                   \
  extern "C" __global__ void __launch_bounds__(512, 2) group_norm_e4m3_##NAME(                                        \
      Source source, int pixels, int chunk_pixels, int groups, int activate, const float* stats, const half16* weight, \
      const half16* bias, void* out, float factor) {                                                                  \
    group_norm<OPEN, true>(source, pixels, chunk_pixels, groups, activate, stats, weight, bias, out, factor);         \
  }
GROUP_NORM(plain, false)
GROUP_NORM(open, true)

__device__ __forceinline__ float most_of_warp(float value) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}

__device__ __forceinline__ float most(const Eight& values, float so_far) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    so_far = fmaxf(so_far, fabsf(values.at[i]));
  }
  return so_far;
}

// What is still to be added to `x` goes to `sum`, then the norm over the last dimension: to the first `early_rows` rows the
// vector `early`, to the others `residual`, which has no row for the first; either may be absent. A warp takes a row, and keeps
// it in registers: at most VECTORS * 256 numbers. EIGHT: what comes out is e4m3, with a factor for each row in `scales`, and
// without NORM it is `x` itself.
template <int VECTORS, bool EIGHT, bool NORM>
__device__ __forceinline__ void layer_norm(
    const half16* x, const half16* residual, const half16* early, int early_rows, const half16* weight, const half16* bias,
    int rows, int width, float eps, half16* sum, void* out, float* scales) {
  begin();
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (row >= rows) {
    return;
  }
  const long long start = static_cast<long long>(row) * width;
  Eight kept[VECTORS];
  float total = 0;
#pragma unroll
  for (int v = 0; v < VECTORS; ++v) {
    const int at = (v * 32 + lane) * 8;
    if (at < width) {
      kept[v] = read(x + start + at);
    }
  }
  if (NORM) {
    const half16* added = row < early_rows ? early
        : residual != nullptr              ? residual + start - static_cast<long long>(early_rows) * width
                                           : nullptr;
    if (added != nullptr) {
#pragma unroll
      for (int v = 0; v < VECTORS; ++v) {
        const int at = (v * 32 + lane) * 8;
        if (at < width) {
          kept[v] = rounded(kept[v] + read(added + at));
          write(sum + start + at, kept[v]);
        }
      }
    }
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      if ((v * 32 + lane) * 8 < width) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          total += kept[v].at[i];
        }
      }
    }
    const float mean = sum_of_warp(total) / width;
    float deviation = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      if ((v * 32 + lane) * 8 < width) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          deviation += (kept[v].at[i] - mean) * (kept[v].at[i] - mean);
        }
      }
    }
    const float scale = rsqrtf(sum_of_warp(deviation) / width + eps);
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      const int at = (v * 32 + lane) * 8;
      if (at < width) {
        const Eight weights = read(weight + at), biases = read(bias + at);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          kept[v].at[i] = (kept[v].at[i] - mean) * scale * weights.at[i] + biases.at[i];
        }
      }
    }
  }
  float factor = 1.0f;
  if (EIGHT) {
    float largest = 0;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      if ((v * 32 + lane) * 8 < width) {
        largest = most(kept[v], largest);
      }
    }
    largest = fmaxf(most_of_warp(largest), 1e-12f);
    factor = kLargest8 / largest;
    if (lane == 0) {
      scales[row] = largest / kLargest8;
    }
  }
#pragma unroll
  for (int v = 0; v < VECTORS; ++v) {
    const int at = (v * 32 + lane) * 8;
    if (at < width) {
      if (EIGHT) {
        write8(static_cast<unsigned char*>(out) + start + at, kept[v], factor);
      } else {
        write(static_cast<half16*>(out) + start + at, kept[v]);
      }
    }
  }
}

#define OF_ROWS(NAME, VECTORS, EIGHT, NORM)                                                                              \
  extern "C" __global__ void NAME##_##VECTORS(                                                                           \
      const half16* x, const half16* residual, const half16* early, int early_rows, const half16* weight,                \
      const half16* bias, int rows, int width, float eps, half16* sum, void* out, float* scales) {                       \
    layer_norm<VECTORS, EIGHT, NORM>(                                                                                    \
        x, residual, early, early_rows, weight, bias, rows, width, eps, sum, out, scales);                               \
  }
#define OF_ROWS_OF_EACH_WIDTH(NAME, EIGHT, NORM) \
  OF_ROWS(NAME, 1, EIGHT, NORM)                  \
  OF_ROWS(NAME, 3, EIGHT, NORM)                  \
  OF_ROWS(NAME, 5, EIGHT, NORM)                  \
  OF_ROWS(NAME, 8, EIGHT, NORM)
OF_ROWS_OF_EACH_WIDTH(layer_norm, false, true)
OF_ROWS_OF_EACH_WIDTH(layer_norm_e4m3, true, true)
OF_ROWS_OF_EACH_WIDTH(round_e4m3, true, false)

// As `geglu`, to e4m3 with a factor for each row in `scales`. A block takes a row: at most 8192 numbers.
extern "C" __global__ void __launch_bounds__(128) geglu_e4m3(const half16* x, int width, unsigned char* out, float* scales) {
  begin();
  constexpr int kVectors = 8;
  __shared__ float largest_of_warps[4];
  const int lane = threadIdx.x % 32;
  const half16* hidden = x + static_cast<long long>(blockIdx.x) * 2 * width;
  Eight kept[kVectors];
  float largest = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = (v * 128 + threadIdx.x) * 8;
    if (at < width) {
      const Eight value = read(hidden + at);
      kept[v] = read(hidden + width + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        kept[v].at[i] = gelu(kept[v].at[i]) * value.at[i];
      }
      largest = most(kept[v], largest);
    }
  }
  largest = most_of_warp(largest);
  if (lane == 0) {
    largest_of_warps[threadIdx.x / 32] = largest;
  }
  __syncthreads();
  largest = fmaxf(
      fmaxf(largest_of_warps[0], largest_of_warps[1]), fmaxf(largest_of_warps[2], fmaxf(largest_of_warps[3], 1e-12f)));
  if (threadIdx.x == 0) {
    scales[blockIdx.x] = largest / kLargest8;
  }
  const float factor = kLargest8 / largest;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = (v * 128 + threadIdx.x) * 8;
    if (at < width) {
      write8(out + static_cast<long long>(blockIdx.x) * width + at, kept[v], factor);
    }
  }
}

// Half of each row gates the other: `x [rows, 2 * width]` → `[rows, width]`.
extern "C" __global__ void geglu(const half16* x, int width, unsigned vectors, half16* out) {
  begin();
  const unsigned columns = width / 8;
  for (unsigned v = blockIdx.x * blockDim.x + threadIdx.x; v < vectors; v += gridDim.x * blockDim.x) {
    const unsigned row = v / columns;
    const half16* hidden = x + static_cast<long long>(row) * 2 * width + (v - row * columns) * 8;
    const Eight value = read(hidden);
    Eight gate = read(hidden + width);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      gate.at[i] = gelu(gate.at[i]);
    }
    gate = rounded(gate);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      gate.at[i] *= value.at[i];
    }
    write(out + static_cast<long long>(v) * 8, gate);
  }
}

// `x + bias + residual` for pixels of `channels`; the last may be absent.
extern "C" __global__ void add(
    const half16* x, const half16* bias, const half16* residual, int channels, unsigned vectors, half16* out) {
  begin();
  const unsigned columns = channels / 8;
  for (unsigned v = blockIdx.x * blockDim.x + threadIdx.x; v < vectors; v += gridDim.x * blockDim.x) {
    const long long at = static_cast<long long>(v) * 8;
    Eight value = read(x + at) + read(bias + v % columns * 8);
    if (residual != nullptr) {
      value = rounded(value) + read(residual + at);
    }
    write(out + at, value);
  }
}

// Each pixel four times: `x [images, h, w, channels]` → `[images, 2h, 2w, channels]`. `vectors` of `x`.
extern "C" __global__ void upsample(const half16* x, int width, int channels, unsigned vectors, half16* out) {
  begin();
  const unsigned columns = channels / 8;
  for (unsigned v = blockIdx.x * blockDim.x + threadIdx.x; v < vectors; v += gridDim.x * blockDim.x) {
    const uint4 bits = *reinterpret_cast<const uint4*>(x + static_cast<long long>(v) * 8);
    const unsigned pixel = v / columns, column = v - pixel * columns;
    const unsigned row = pixel / width, at = pixel - row * width;
    uint4* to = reinterpret_cast<uint4*>(out) + (4LL * row * width + 2 * at) * columns + column;
    to[0] = bits;
    to[columns] = bits;
    to += 2LL * width * columns;
    to[0] = bits;
    to[columns] = bits;
  }
}

constexpr int kHead = 64;
// 16-byte parts of a head's row.
constexpr int kParts = kHead / 8;

// Where a part lies in shared memory: swapped within its row such that those read together are in different banks, be it
// one of eight rows or four of two.
__device__ __forceinline__ int place(int row, int part) {
  return row * kParts + (part ^ (row % 2 * 4 + row / 2 % 4));
}

__device__ __forceinline__ unsigned shared_address(const void* at) {
  return static_cast<unsigned>(__cvta_generic_to_shared(at));
}

// 16 bytes into shared memory in the background; zeros if not `exists`.
__device__ __forceinline__ void fetch(unsigned to, const half16* from, bool exists) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(exists ? 16 : 0) : "memory");
}

__device__ __forceinline__ void end_fetches() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Until all but the last PENDING groups of this block's fetches are there.
template <int PENDING>
__device__ __forceinline__ void await_fetches() {
  asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
  __syncthreads();
}

// sums [16, 8] += a [16, 16] * b [16, 8]
__device__ __forceinline__ void multiply(
    float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
#if BF16
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
#else
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
#endif
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Of the four threads that share a row.
__device__ __forceinline__ float largest_of_row(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}

__device__ __forceinline__ float power_of_two(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// Among four threads: thread `i` gives its word `j` to thread `j`, whose word `i` it becomes.
__device__ __forceinline__ uint4 transposed(uint4 words, int thread) {
  const bool odd = thread & 1, upper = thread & 2;
  const unsigned a = __shfl_xor_sync(0xffffffffu, odd ? words.x : words.y, 1);
  const unsigned b = __shfl_xor_sync(0xffffffffu, odd ? words.z : words.w, 1);
  const uint4 pairs = odd ? make_uint4(a, words.y, b, words.w) : make_uint4(words.x, a, words.z, b);
  const unsigned c = __shfl_xor_sync(0xffffffffu, upper ? pairs.x : pairs.z, 2);
  const unsigned d = __shfl_xor_sync(0xffffffffu, upper ? pairs.y : pairs.w, 2);
  return upper ? make_uint4(c, d, pairs.z, pairs.w) : make_uint4(pairs.x, pairs.y, c, d);
}

// Attention to few keys, as of text: `softmax(query key^T / 8) value` for heads of 64 numbers. `query` and `out` are `[pictures,
// rows, heads * 64]`; `key` and `value` are `[tokens, heads * 64]` for each picture, which starts `stride` numbers after the one
// before; 1 to KEYS tokens. Grid: chunks of WARPS * 16 rows, and pictures times heads.
//
// A block keeps keys and values of a head in shared memory, and a warp takes 16 rows. All scores of a row are in registers at
// once, so the softmax needs no second pass, and the second product takes them from where the first leaves them. Weights are
// rounded before that product, and divided by their sum after it.
template <int KEYS, int WARPS>
__device__ __forceinline__ void cross_attention(
    const half16* query, const half16* key, const half16* value, long long stride, int rows, int tokens, int heads,
    half16* out) {
  begin();
  constexpr int kTiles = KEYS / 8;
  __shared__ uint4 keys[KEYS * kParts], values[KEYS * kParts];
  const int lane = threadIdx.x % 32;
  // In the matrix unit's tiles a thread has the rows `group` and `group + 8`, and a quarter of their columns.
  const int group = lane / 4, quarter = lane % 4;
  const int picture = blockIdx.y / heads, head = blockIdx.y - picture * heads;
  const long long width = static_cast<long long>(heads) * kHead;

  const int first = blockIdx.x * WARPS * 16 + threadIdx.x / 32 * 16 + group;
  const half16* from = query + static_cast<long long>(picture) * rows * width + head * kHead + quarter * 8;
  half16* to = out + static_cast<long long>(picture) * rows * width + head * kHead + quarter * 8;
  // [row][half]: a thread's numbers are neighbours, 8 of each half. So columns come in another order than the matrix unit
  // has them, but in the same one as the keys', and the product does not depend on it.
  uint4 queries[2][2];
  const auto read_queries = [&] {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first + r * 8;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        queries[r][half] =
            row < rows ? *reinterpret_cast<const uint4*>(from + row * width + half * 32) : make_uint4(0, 0, 0, 0);
      }
    }
  };
  const auto fetch_all = [&](uint4* to, const half16* from) {
    // Whole eights of rows apart, which have their parts in the same places.
    constexpr int kRows = WARPS * 32 / kParts;
    static_assert(kRows % 8 == 0);
    const int row = threadIdx.x / kParts, part = threadIdx.x % kParts;
    from += picture * stride + head * kHead + part * 8;
    const half16* next = from + row * width;
    const unsigned own = shared_address(to + place(row, part));
#pragma unroll
    for (int i = 0; i < KEYS; i += kRows) {
      if (KEYS % kRows == 0 || row + i < KEYS) {
        const bool exists = row + i < tokens;
        fetch(own + i * kParts * 16, exists ? next : from, exists);
      }
      next += kRows * width;
    }
    end_fetches();
  };

  // The first product waits longest for these.
  read_queries();
  fetch_all(keys, key);
  fetch_all(values, value);
  const uint4* own_keys[2] = {keys + place(group, quarter), keys + place(group, quarter + 4)};
  const int swap = place(lane % 8, 0) % kParts;
  const unsigned own_values = shared_address(values + lane % 16 * kParts);
  await_fetches<1>();

  float scores[kTiles][4];
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    scores[tile][0] = scores[tile][1] = scores[tile][2] = scores[tile][3] = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 a = queries[0][half], b = queries[1][half], k = own_keys[half][tile * 8 * kParts];
      multiply(scores[tile], a.x, b.x, a.y, b.y, k.x, k.y);
      multiply(scores[tile], a.z, b.z, a.w, b.w, k.z, k.w);
    }
  }

  const auto mask = [&](int tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (tile * 8 + quarter * 2 + i % 2 >= tokens) {
        scores[tile][i] = -__int_as_float(0x7f800000);
      }
    }
  };
  mask(kTiles - 2);
  mask(kTiles - 1);
  if (tokens < KEYS - 16) {
#pragma unroll
    for (int tile = 0; tile < kTiles - 2; ++tile) {
      mask(tile);
    }
  }
  unsigned weights[kTiles][2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = fmaxf(scores[0][2 * r], scores[0][2 * r + 1]);
#pragma unroll
    for (int tile = 1; tile < kTiles; ++tile) {
      largest = fmaxf(largest, fmaxf(scores[tile][2 * r], scores[tile][2 * r + 1]));
    }
    // log2(e) / sqrt(kHead)
    const float scale = 0.18033688011112042f;
    const float shift = -largest_of_row(largest) * scale;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      weights[tile][r] = narrow(
          power_of_two(scores[tile][2 * r] * scale + shift), power_of_two(scores[tile][2 * r + 1] * scale + shift));
    }
  }

  await_fetches<0>();
  float sums[kParts][4] = {};
  // Of the weights, as a product with ones: the matrix unit has time for it.
  float totals[4] = {};
  constexpr unsigned kOnes = BF16 ? 0x3f803f80u : 0x3c003c00u;
#pragma unroll
  for (int tile = 0; tile < kTiles; tile += 2) {
    const unsigned (&a)[2] = weights[tile], (&b)[2] = weights[tile + 1];
    multiply(totals, a[0], a[1], b[0], b[1], kOnes, kOnes);
#pragma unroll
    for (int part = 0; part < kParts; part += 2) {
      // Of 16 keys the parts `part` and `part + 1`, transposed; each thread has the address of a key's part.
      unsigned v[4];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                   : "r"(own_values + (tile * 8 * kParts + ((part + lane / 16) ^ swap)) * 16));
      multiply(sums[part], a[0], a[1], b[0], b[1], v[0], v[1]);
      multiply(sums[part + 1], a[0], a[1], b[0], b[1], v[2], v[3]);
    }
  }

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first + r * 8;
    const float factor = __fdividef(1.0f, totals[2 * r]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      unsigned words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float* pair = sums[half * 4 + i] + 2 * r;
        words[i] = narrow(pair[0] * factor, pair[1] * factor);
      }
      // A thread has neighbours then, as it had of the query.
      const uint4 eight = transposed(make_uint4(words[0], words[1], words[2], words[3]), quarter);
      if (row < rows) {
        *reinterpret_cast<uint4*>(to + row * width + half * 32) = eight;
      }
    }
  }
}

constexpr int kAttentionWarps = 4;

// BLOCKS of a multiprocessor at once: registers allow no more.
#define CROSS_ATTENTION(KEYS, BLOCKS)                                                                                    \
  extern "C" __global__ void __launch_bounds__(kAttentionWarps * 32, BLOCKS) cross_attention_##KEYS(                     \
      const half16* query, const half16* key, const half16* value, long long stride, int rows, int tokens, int heads,    \
      half16* out) {                                                                                                     \
    cross_attention<KEYS, kAttentionWarps>(query, key, value, stride, rows, tokens, heads, out);                         \
  }
CROSS_ATTENTION(80, 5)
CROSS_ATTENTION(128, 4)
