// What the matrix products written for Hopper share (sm_90a): barriers, bulk copies, operands of `wgmma`, 16-bit floats, the gelu, tiles, and the
// producer that fills shared memory.
// Each of their texts is compiled with this one before it.
//
// BF16 is 1 for bf16, 0 for f16. No header is included: NVRTC then needs no CUDA installation.

struct __align__(128) TensorMap {
  unsigned long long opaque[16];
};

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

__device__ __forceinline__ void barrier_init(unsigned barrier, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_expect(unsigned barrier, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_wait(unsigned barrier, unsigned parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 done, [%0], %1;\n"
      "@done bra.uni end;\n"
      "bra.uni again;\n"
      "end:\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void barrier_arrive(unsigned barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void load_tile(unsigned to, const TensorMap* map, int column, int row, unsigned barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
          to),
      "l"(map), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}

// Of a picture with channels last: channel, column, row and picture.
__device__ __forceinline__ void load_pixels(
    unsigned to, const TensorMap* map, int channel, int x, int y, int image, unsigned barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::
          "r"(to),
      "l"(map), "r"(channel), "r"(x), "r"(y), "r"(image), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void store_tile(const TensorMap* map, int column, int row, unsigned from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map),
               "r"(column), "r"(row), "r"(from)
               : "memory");
}

__device__ __forceinline__ void store_pixels(const TensorMap* map, int channel, int x, int y, int image, unsigned from) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(map),
               "r"(channel), "r"(x), "r"(y), "r"(image), "r"(from)
               : "memory");
}

// A K-major operand of 128-byte rows, swizzled by 128 bytes.
__device__ __forceinline__ unsigned long long descriptor(unsigned address) {
  return (1ull << 62) | (64ull << 32) | (1ull << 16) | ((address & 0x3ffff) >> 4);
}

__device__ __forceinline__ unsigned narrow(float low, float high) {
  unsigned out;
#if BF16
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#else
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
#endif
  return out;
}

__device__ __forceinline__ void widen(unsigned x, float& low, float& high) {
#if BF16
  low = __uint_as_float(x << 16);
  high = __uint_as_float(x & 0xffff0000u);
#else
  asm("{\n.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;\n}\n"
      : "=f"(low), "=f"(high)
      : "r"(x));
#endif
}

// The product of two 16-bit floats is exact in f32, so this rounds once, as f32 and back would.
__device__ __forceinline__ unsigned product(unsigned a, unsigned b) {
  unsigned out;
#if BF16
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
#else
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
#endif
  return out;
}

// x/2 * erfc(-x/sqrt(2)), by formula 7.1.26 of Abramowitz and Stegun, which is within 1.5e-7 and has no cancellation here.
__device__ __forceinline__ float gelu(float x) {
  // As in kernels.cu, with constants drawn together: gelu = max(x, 0) - |x| t P(t) 2^(-x^2 log2(e)/2), t = 1/(1 + p|x|/sqrt 2).
  float t, e;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(t) : "f"(fmaf(fabsf(x), 0.3275911f * 0.70710678118654752440f, 1.0f)));
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"((x * x) * -0.72134752044448170368f));
  float series = fmaf(t, 0.5f * 1.061405429f, 0.5f * -1.453152027f);
  series = fmaf(t, series, 0.5f * 1.421413741f);
  series = fmaf(t, series, 0.5f * -0.284496736f);
  series = fmaf(t, series, 0.5f * 0.254829592f);
  return fmaf(-fabsf(x), (t * series) * e, fmaxf(x, 0.0f));
}

#define ROWS 128
#define A_BYTES (ROWS * 128)

extern __shared__ __align__(1024) unsigned char memory[];

// What a persistent grid does. Rows are a picture of one row, `across` tiles wide; tiles of pixels are boxes of `box_w * box_h`.
struct Work {
  // Tiles across and down, pictures, and tiles of columns.
  int across, down, pictures, tiles_n;
  int box_w, box_h;
  // Numbers of a row or pixel, and columns.
  int channels, outer;
  int rows;
  // The pixels that are read for one: so many, in rows of so many, from this far left and above.
  int taps, taps_across, left, top;
};

struct Tile {
  int x, y, picture, n;
};

// Tiles go down 2048 rows, then to the next columns; a group has all columns done before the next group.
__device__ __forceinline__ Tile tile_at(const Work& work, int tile) {
  const int tiles_m = work.across * work.down * work.pictures;
  const int group = 2048 / ROWS;
  const int of = tile / (group * work.tiles_n);
  const int in = tile - of * group * work.tiles_n;
  const int here = min(group, tiles_m - of * group);
  Tile out;
  out.n = in / here;
  int m = of * group + in - out.n * here;
  out.x = m % work.across * work.box_w;
  m /= work.across;
  out.y = m % work.down * work.box_h;
  out.picture = m / work.down;
  return out;
}

// Fills the ring for all tiles of this block. A stage has NUMBERS of K, which are 128 bytes; B_ROWS rows of W belong to a tile, in two halves that
// are `apart` rows apart where PAIRED.
template <int STAGES, int A_ROWS, int B_ROWS, int NUMBERS, bool PAIRED>
__device__ __forceinline__ void produce(
    const TensorMap* a, const TensorMap* weight, const Work& work, int apart, unsigned base, unsigned full, unsigned empty) {
  constexpr int kStage = (A_ROWS + B_ROWS) * 128;
  const int tiles = work.across * work.down * work.pictures * work.tiles_n;
  const int chunks = (work.channels + NUMBERS - 1) / NUMBERS;
  const int steps = chunks * work.taps;
  auto load_weight = [&](int stage, int n, int step) {
    const unsigned to = base + stage * kStage + A_ROWS * 128;
    const unsigned barrier = full + 8 * stage;
    const int k = step / chunks * work.channels + step % chunks * NUMBERS;
    barrier_expect(barrier, kStage);
    if (PAIRED) {
      load_tile(to, weight, k, n * (B_ROWS / 2), barrier);
      load_tile(to + B_ROWS * 64, weight, k, apart + n * (B_ROWS / 2), barrier);
    } else {
      load_tile(to, weight, k, n * B_ROWS, barrier);
    }
  };
  // Weights are there before the kernel ends that this one reads from.
  int ahead = 0;
  if (blockIdx.x < tiles) {
    ahead = min(STAGES, steps);
    const int n = tile_at(work, blockIdx.x).n;
    for (int step = 0; step < ahead; ++step) {
      load_weight(step, n, step);
    }
  }
  asm volatile("griddepcontrol.wait;" ::: "memory");
  int stage = 0;
  unsigned parity = 1;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Tile at = tile_at(work, tile);
    int chunk = 0, dx = work.left, dy = work.top;
    for (int step = 0; step < steps; ++step) {
      if (ahead > 0) {
        --ahead;
      } else {
        barrier_wait(empty + 8 * stage, parity);
        load_weight(stage, at.n, step);
      }
      load_pixels(base + stage * kStage, a, chunk * NUMBERS, at.x + dx, at.y + dy, at.picture, full + 8 * stage);
      if (++chunk == chunks) {
        chunk = 0;
        if (++dx == work.left + work.taps_across) {
          dx = work.left;
          ++dy;
        }
      }
      if (++stage == STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

__device__ __forceinline__ void begin_barriers(unsigned full, unsigned empty, int stages) {
  for (int s = 0; s < stages; ++s) {
    barrier_init(full + 8 * s, 1);
    barrier_init(empty + 8 * s, 8);
  }
}

__device__ __forceinline__ void sync_warpgroup(int which) {
  asm volatile("bar.sync %0, 128;" ::"r"(1 + which) : "memory");
}

__device__ __forceinline__ float widened(unsigned short x) {
#if BF16
  return __uint_as_float(static_cast<unsigned>(x) << 16);
#else
  float low, high;
  widen(x, low, high);
  return low;
#endif
}

// What a column has, as it lies in memory: nothing is to be computed from it, that is waited for, before the products are on their way.
struct Column {
  float factor;
  unsigned short bias, added;
};

__device__ __forceinline__ Column column_at(
    const float* factors, const unsigned short* bias, const unsigned short* added, int column) {
  Column out = {factors != nullptr ? __ldg(factors + column) : 1.0f, 0, 0};
  if (bias != nullptr) {
    out.bias = __ldg(bias + column);
  }
  if (added != nullptr) {
    out.added = added[column];
  }
  return out;
}

// Its factor and summand.
__device__ __forceinline__ float2 arrived_column(Column column) {
  asm volatile("" : "+f"(column.factor), "+h"(column.bias), "+h"(column.added)::"memory");
  return make_float2(column.factor, widened(column.bias) + widened(column.added));
}
