// The passes over activations between matrix products, fused so that each reads and writes memory once. Compiled at run
// time for the GPU that is there; `ops.rs` launches them and documents each. Tensors are 16-bit floats, pictures have
// channels last, and arithmetic is in f32. Wherever ATen would write a tensor and read it again, a value is rounded here
// as well (`rounded`): so results differ from ATen's in the order of sums only.
//
// BF16 is 1 for bf16, 0 for f16. No header is included: NVRTC then needs no CUDA installation.

typedef unsigned short half16;

__device__ __forceinline__ float widen(half16 x) {
#if BF16
  return __uint_as_float(static_cast<unsigned>(x) << 16);
#else
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(x));
  return out;
#endif
}

__device__ __forceinline__ half16 narrow(float x) {
  half16 out;
#if BF16
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out) : "f"(x));
#else
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out) : "f"(x));
#endif
  return out;
}

__device__ __forceinline__ float rounded(float x) {
  return widen(narrow(x));
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
    out.at[2 * i] = widen(static_cast<half16>(words[i]));
    out.at[2 * i + 1] = widen(static_cast<half16>(words[i] >> 16));
  }
  return out;
}

__device__ __forceinline__ uint4 pack(const Eight& values) {
  unsigned words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = narrow(values.at[2 * i]) | static_cast<unsigned>(narrow(values.at[2 * i + 1])) << 16;
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ __forceinline__ Eight read(const half16* from) {
  return unpack(*reinterpret_cast<const uint4*>(from));
}

__device__ __forceinline__ void write(half16* to, const Eight& values) {
  *reinterpret_cast<uint4*>(to) = pack(values);
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

__device__ __forceinline__ float gelu(float x) {
  return x * 0.5f * (1.0f + erff(x * 0.70710678118654752440f));
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

// Eight channels of one pixel at a time.
struct Column {
  const half16* from;
  long long stride;
  bool has_bias;
  bool has_time;
  Eight bias;
  Eight time;

  __device__ Column(const Source& source, long long pixel, int image, int channel) {
    const bool in_a = channel < source.channels_a;
    stride = in_a ? source.channels_a : source.channels - source.channels_a;
    from = (in_a ? source.a + channel : source.b + (channel - source.channels_a)) + pixel * stride;
    has_bias = source.bias != nullptr;
    has_time = source.time != nullptr;
    if (has_bias) {
      bias = read(source.bias + channel);
    }
    if (has_time) {
      time = read(source.time + image * source.time_stride + channel);
    }
  }

  __device__ __forceinline__ Eight at(long long pixel) const {
    Eight values = read(from + pixel * stride);
    if (has_bias) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        values.at[i] = rounded(values.at[i] + bias.at[i]);
      }
    }
    if (has_time) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        values.at[i] = rounded(values.at[i] + time.at[i]);
      }
    }
    return values;
  }
};

// Mean and 1/deviation of each group of each picture. Grid: chunks of pixels, pictures. Each block leaves mean and squared
// deviations of its pixels in `partial [pictures, chunks, groups, 2]`; the last block of a picture joins them, in a fixed
// order, into `stats [pictures, groups, 2]`. `arrived [pictures]` is zero before and after.
extern "C" __global__ void group_stats(
    Source source, int pixels, int chunk_pixels, int groups, float eps, float* partial, unsigned* arrived, float* stats) {
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
  const Column values(source, static_cast<long long>(image) * pixels + first, image, column * 8);
#pragma unroll 4
  for (int pixel = row; pixel < count; pixel += rows) {
    const Eight value = values.at(pixel);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      sum.at[i] += value.at[i];
      square.at[i] += value.at[i] * value.at[i];
    }
  }
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
  float* out = partial + (static_cast<long long>(image) * gridDim.x + blockIdx.x) * groups * 2;
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
      out[2 * group] = mean;
      out[2 * group + 1] = deviation;
    }
  }

  // 3. of the picture, by the last block
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(arrived + image, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last) {
    return;
  }
  __threadfence();
  const float2* all = reinterpret_cast<const float2*>(partial) + static_cast<long long>(image) * gridDim.x * groups;
  const int last_count = pixels - (gridDim.x - 1) * chunk_pixels;
  for (int group = warp; group < groups; group += warps) {
    float total = 0;
    for (int i = lane; i < gridDim.x; i += 32) {
      total += __ldcg(all + i * groups + group).x * (i + 1 == gridDim.x ? last_count : chunk_pixels);
    }
    const float mean = sum_of_warp(total) / pixels;
    float deviation = 0;
    for (int i = lane; i < gridDim.x; i += 32) {
      const float2 part = __ldcg(all + i * groups + group);
      const float n = static_cast<float>(i + 1 == gridDim.x ? last_count : chunk_pixels) * width;
      deviation += part.y + n * (part.x - mean) * (part.x - mean);
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

// The norm itself, with SiLU behind it if `activate`. Grid and threads as of `group_stats`, which has made `stats`.
extern "C" __global__ void group_norm(
    Source source, int pixels, int chunk_pixels, int groups, int activate, const float* stats, const half16* weight,
    const half16* bias, half16* out) {
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
    const float* of_group = stats + (image * groups + (column * 8 + i) / width) * 2;
    scale.at[i] = of_group[1] * weights.at[i];
    shift.at[i] = biases.at[i] - of_group[0] * scale.at[i];
  }
  const long long start = static_cast<long long>(image) * pixels + first;
  const Column values(source, start, image, column * 8);
  half16* to = out + start * channels + column * 8;
#pragma unroll 4
  for (int pixel = row; pixel < count; pixel += rows) {
    Eight value = values.at(pixel);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      value.at[i] = value.at[i] * scale.at[i] + shift.at[i];
      if (activate) {
        value.at[i] = silu(rounded(value.at[i]));
      }
    }
    write(to + static_cast<long long>(pixel) * channels, value);
  }
}

// `sum = x + residual` where there is a residual, then the norm over the last dimension. A warp takes a row, and keeps it in
// registers: at most VECTORS * 256 numbers.
template <int VECTORS>
__device__ __forceinline__ void layer_norm(
    const half16* x, const half16* residual, const half16* weight, const half16* bias, int rows, int width, float eps,
    half16* sum, half16* out) {
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
  if (residual != nullptr) {
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
      const int at = (v * 32 + lane) * 8;
      if (at < width) {
        const Eight more = read(residual + start + at);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          kept[v].at[i] = rounded(kept[v].at[i] + more.at[i]);
        }
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
      write(out + start + at, kept[v]);
    }
  }
}

#define LAYER_NORM(VECTORS)                                                                                              \
  extern "C" __global__ void layer_norm_##VECTORS(                                                                       \
      const half16* x, const half16* residual, const half16* weight, const half16* bias, int rows, int width, float eps, \
      half16* sum, half16* out) {                                                                                        \
    layer_norm<VECTORS>(x, residual, weight, bias, rows, width, eps, sum, out);                                          \
  }
LAYER_NORM(1)
LAYER_NORM(3)
LAYER_NORM(5)
LAYER_NORM(8)

// Half of each row gates the other: `x [rows, 2 * width]` → `[rows, width]`.
extern "C" __global__ void geglu(const half16* x, int width, long long vectors, half16* out) {
  const int columns = width / 8;
  for (long long v = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; v < vectors;
       v += static_cast<long long>(gridDim.x) * blockDim.x) {
    const long long row = v / columns;
    const half16* hidden = x + row * 2 * width + (v - row * columns) * 8;
    const Eight value = read(hidden), gate = read(hidden + width);
    Eight result;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      result.at[i] = value.at[i] * rounded(gelu(gate.at[i]));
    }
    write(out + v * 8, result);
  }
}

// `x + bias + residual` for pixels of `channels`.
extern "C" __global__ void add(
    const half16* x, const half16* bias, const half16* residual, int channels, long long vectors, half16* out) {
  const int columns = channels / 8;
  for (long long v = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x; v < vectors;
       v += static_cast<long long>(gridDim.x) * blockDim.x) {
    Eight value = read(x + v * 8);
    const Eight biases = read(bias + v % columns * 8), more = read(residual + v * 8);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      value.at[i] = rounded(value.at[i] + biases.at[i]) + more.at[i];
    }
    write(out + v * 8, value);
  }
}
