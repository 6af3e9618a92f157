// Products of 8-bit floats (e4m3) for sm_90a: `hopper.cu` comes before. out[M, N] = factor of row * factor of column * (A W^T) + bias, where A is rows of
// numbers, or the pixels of pictures with their neighbours: then the product is a convolution, and W has the taps one after the other.
//
// A persistent grid: each block goes through tiles of 128 rows. A producer warp fills a ring of shared-memory stages of 128 numbers of K by
// TMA, which gives zeros for what lies outside of a picture, and two warpgroups multiply 64 rows each. 160 columns divide SDXL's widths such that
// 128 or nearly twice or four times as many tiles are to be done by 132 multiprocessors.

#define ROWS 128
#define A_BYTES (ROWS * 128)

extern __shared__ __align__(1024) unsigned char memory[];

// Row by row: a picture of one row, `across` tiles wide. Pixels: boxes of `box_w * box_h` = 128.
struct Work {
  // Tiles across and down, pictures, and tiles of columns.
  int across, down, pictures, tiles_n;
  int box_w, box_h;
  // Numbers of a row or pixel, and 1 or 9 of them for each output.
  int channels, taps;
  int rows, outer;
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

// Fills the ring for all tiles of this block. B_ROWS rows of W belong to a tile; they are `apart` rows apart in two halves where PAIRED.
template <int STAGES, int B_ROWS, bool PAIRED>
__device__ __forceinline__ void produce(
    const TensorMap* a, const TensorMap* weight, const Work& work, int apart, unsigned base, unsigned full, unsigned empty) {
  constexpr int kStage = A_BYTES + B_ROWS * 128;
  const int tiles = work.across * work.down * work.pictures * work.tiles_n;
  const int chunks = (work.channels + 127) / 128;
  const int steps = chunks * work.taps;
  auto load_weight = [&](int stage, int n, int step) {
    const unsigned to = base + stage * kStage + A_BYTES;
    const unsigned barrier = full + 8 * stage;
    const int k = step / chunks * work.channels + step % chunks * 128;
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
    int tap = 0, chunk = 0;
    for (int step = 0; step < steps; ++step) {
      if (ahead > 0) {
        --ahead;
      } else {
        barrier_wait(empty + 8 * stage, parity);
        load_weight(stage, at.n, step);
      }
      const int dx = work.taps == 1 ? 0 : tap % 3 - 1;
      const int dy = work.taps == 1 ? 0 : tap / 3 - 1;
      load_pixels(base + stage * kStage, a, chunk * 128, at.x + dx, at.y + dy, at.picture, full + 8 * stage);
      if (++chunk == chunks) {
        chunk = 0;
        ++tap;
      }
      if (++stage == STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
  }
}

// d (+)= a b^T for 64 rows, 160 columns and 32 of K, of e4m3.
__device__ __forceinline__ void multiply(float (&d)[80], unsigned long long a, unsigned long long b, int add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %82, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n160k32.f32.e4m3.e4m3 "
      "{"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
      "}, %80, %81, p, 1, 1;\n"
      "}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
        "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
        "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
        "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
        "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
      : "l"(a), "l"(b), "r"(add));
}

// And 256 columns.
__device__ __forceinline__ void multiply(float (&d)[128], unsigned long long a, unsigned long long b, int add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k32.f32.e4m3.e4m3 "
      "{"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, p, 1, 1;\n"
      "}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
        "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
        "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
        "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
        "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
        "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
        "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
        "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
        "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
        "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
        "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
        "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
      : "l"(a), "l"(b), "r"(add));
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

// Factor and summand of a column; zeros from `outer` on.
__device__ __forceinline__ float2 of_column(
    const float* factors, const unsigned short* bias, const unsigned short* added, int column, int outer) {
  float2 of = make_float2(0, 0);
  if (column < outer) {
    of.x = __ldg(factors + column);
    of.y = (bias != nullptr ? widened(__ldg(bias + column)) : 0.0f) + (added != nullptr ? widened(added[column]) : 0.0f);
  }
  return of;
}

#define LINEAR_STAGES 5
#define LINEAR_N 160
#define LINEAR_STAGE_BYTES (A_BYTES + LINEAR_N * 128)
// Five boxes of 32 columns for each warpgroup, of 64 rows, swizzled by 64 bytes.
#define LINEAR_OUT_BYTES (ROWS * LINEAR_N * 2)

// BLOCKS: `row_factors` has one for each 128 numbers of K, as [K / 128, M]; otherwise it is [M], or absent.
// `added` has a vector of N for each picture, `added_stride` apart, or is absent; so are `bias` and what `residual` shows.
template <bool BLOCKS>
__device__ __forceinline__ void linear(
    const TensorMap& a, const TensorMap& weight, const TensorMap& residual, const TensorMap& out, const float* row_factors,
    const float* column_factors, const unsigned short* bias, const unsigned short* added, long long added_stride,
    int has_residual, const Work& work) {
  __shared__ float2 columns[2][LINEAR_N];
  const unsigned base = shared_address(memory);
  const unsigned outs = base + LINEAR_STAGES * LINEAR_STAGE_BYTES;
  const unsigned full = outs + LINEAR_OUT_BYTES;
  const unsigned empty = full + 8 * LINEAR_STAGES;
  const unsigned arrived = empty + 8 * LINEAR_STAGES;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  if (threadIdx.x == 0) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&a) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&weight) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&out) : "memory");
    begin_barriers(full, empty, LINEAR_STAGES);
    barrier_init(arrived, 1);
    barrier_init(arrived + 8, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");

  if (warp < 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (warp == 0 && lane == 0) {
      produce<LINEAR_STAGES, LINEAR_N, false>(&a, &weight, work, 0, base, full, empty);
    }
    __syncwarp();
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const int which = __shfl_sync(0xffffffffu, warp / 4 - 1, 0);
  const int quarter = warp % 4;
  const int thread = threadIdx.x % 128;
  const unsigned staging = outs + which * (LINEAR_OUT_BYTES / 2);
  const int row_in = quarter * 16 + lane / 4;
  const int tiles = work.across * work.down * work.pictures * work.tiles_n;
  const int chunks = (work.channels + 127) / 128;
  const int steps = chunks * work.taps;
  // Of the last chunk, in products of 32.
  const int rest = (work.channels - (chunks - 1) * 128 + 31) / 32;
  float2* const of_columns = columns[which];

  float d[LINEAR_N / 2];
  int stage = 0;
  unsigned parity = 0;
  unsigned arrived_parity = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Tile at = tile_at(work, tile);
    // This warpgroup's half of the box.
    const int x = at.x + (work.box_h > 1 ? 0 : which * 64);
    const int y = at.y + (work.box_h > 1 ? which * (work.box_h / 2) : 0);
    if (thread == 0) {
      // What was stored before must have been read.
      asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
      if (has_residual) {
        barrier_expect(arrived + 8 * which, LINEAR_OUT_BYTES / 2);
        for (int part = 0; part < LINEAR_N / 32; ++part) {
          load_pixels(
              staging + part * 4096, &residual, at.n * LINEAR_N + part * 32, x, y, at.picture, arrived + 8 * which);
        }
      }
    }
    // Read now, and needed when the sums are there.
    float2 own[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      own[i] = of_column(column_factors, bias, added == nullptr ? nullptr : added + at.picture * added_stride,
                         at.n * LINEAR_N + thread + i * 128, i == 0 || thread < LINEAR_N - 128 ? work.outer : 0);
    }
    const int row = min(at.x + which * 64 + row_in, work.rows - 1);
    const int next_row = min(at.x + which * 64 + row_in + 8, work.rows - 1);
    float factors[2] = {1.0f, 1.0f};
    if (BLOCKS) {
      float part[LINEAR_N / 2];
#pragma unroll
      for (int i = 0; i < LINEAR_N / 2; ++i) {
        d[i] = 0.0f;
      }
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        const float f0 = row_factors[static_cast<long long>(step) * work.rows + row];
        const float f1 = row_factors[static_cast<long long>(step) * work.rows + next_row];
        barrier_wait(full + 8 * stage, parity);
        const unsigned long long da = descriptor(base + stage * LINEAR_STAGE_BYTES + which * 8192);
        const unsigned long long db = descriptor(base + stage * LINEAR_STAGE_BYTES + A_BYTES);
#pragma unroll
        for (int i = 0; i < LINEAR_N / 2; ++i) {
          asm volatile("" : "+f"(part[i])::"memory");
        }
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        multiply(part, da, db, 0);
        multiply(part, da + 2, db + 2, 1);
        multiply(part, da + 4, db + 4, 1);
        multiply(part, da + 6, db + 6, 1);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        if (lane == 0) {
          barrier_arrive(empty + 8 * stage);
        }
#pragma unroll
        for (int i = 0; i < LINEAR_N / 2; ++i) {
          asm volatile("" : "+f"(part[i])::"memory");
        }
#pragma unroll
        for (int i = 0; i < LINEAR_N / 2; ++i) {
          d[i] = fmaf(part[i], i % 4 < 2 ? f0 : f1, d[i]);
        }
        if (++stage == LINEAR_STAGES) {
          stage = 0;
          parity ^= 1;
        }
      }
    } else {
      if (row_factors != nullptr) {
        factors[0] = row_factors[row];
        factors[1] = row_factors[next_row];
      }
      unsigned last = 0;
      int chunk = 0;
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        barrier_wait(full + 8 * stage, parity);
        const unsigned long long da = descriptor(base + stage * LINEAR_STAGE_BYTES + which * 8192);
        const unsigned long long db = descriptor(base + stage * LINEAR_STAGE_BYTES + A_BYTES);
        const int count = ++chunk == chunks ? rest : 4;
        if (chunk == chunks) {
          chunk = 0;
        }
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        if (count == 4) {
          multiply(d, da, db, step);
          multiply(d, da + 2, db + 2, 1);
          multiply(d, da + 4, db + 4, 1);
          multiply(d, da + 6, db + 6, 1);
        } else {
#pragma unroll 1
          for (int i = 0; i < count; ++i) {
            multiply(d, da + 2 * i, db + 2 * i, step + i);
            asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
          }
        }
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        if (step > 0) {
          asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
          if (lane == 0) {
            barrier_arrive(last);
          }
        }
        last = empty + 8 * stage;
        if (++stage == LINEAR_STAGES) {
          stage = 0;
          parity ^= 1;
        }
      }
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
      if (lane == 0) {
        barrier_arrive(last);
      }
    }
#pragma unroll
    for (int i = 0; i < LINEAR_N / 2; ++i) {
      asm volatile("" : "+f"(d[i])::"memory");
    }
    of_columns[thread] = own[0];
    if (thread < LINEAR_N - 128) {
      of_columns[thread + 128] = own[1];
    }
    // With it the staging rows are free.
    sync_warpgroup(which);
    if (has_residual) {
      barrier_wait(arrived + 8 * which, arrived_parity);
      arrived_parity ^= 1;
    }
#pragma unroll
    for (int block = 0; block < LINEAR_N / 8; ++block) {
      const float4 of = *reinterpret_cast<const float4*>(of_columns + block * 8 + lane % 4 * 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int at_row = row_in + r * 8;
        const unsigned to =
            staging + block / 4 * 4096 + at_row * 64 + ((block % 4) ^ (at_row / 2 % 4)) * 16 + lane % 4 * 4;
        float low = fmaf(d[block * 4 + r * 2] * factors[r], of.x, of.y);
        float high = fmaf(d[block * 4 + r * 2 + 1] * factors[r], of.z, of.w);
        if (has_residual) {
          unsigned before;
          asm volatile("ld.shared.b32 %0, [%1];" : "=r"(before) : "r"(to) : "memory");
          float before_low, before_high;
          widen(before, before_low, before_high);
          low += before_low;
          high += before_high;
        }
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(narrow(low, high)) : "memory");
      }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    sync_warpgroup(which);
    if (thread == 0) {
      for (int part = 0; part < LINEAR_N / 32; ++part) {
        store_pixels(&out, at.n * LINEAR_N + part * 32, x, y, at.picture, staging + part * 4096);
      }
      asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    }
  }
  if (thread == 0) {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
}

#define LINEAR(NAME, BLOCKS)                                                                                              \
  extern "C" __global__ void __launch_bounds__(384, 1) NAME(                                                              \
      const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap weight,                                      \
      const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap out, const float* row_factors,        \
      const float* column_factors, const unsigned short* bias, const unsigned short* added, long long added_stride,       \
      int has_residual, const __grid_constant__ Work work) {                                                              \
    linear<BLOCKS>(                                                                                                       \
        a, weight, residual, out, row_factors, column_factors, bias, added, added_stride, has_residual, work);           \
  }

LINEAR(linear_e4m3, false)
LINEAR(linear_e4m3_blocks, true)

#define GEGLU_STAGES 4
#define GEGLU_N 256
#define GEGLU_STAGE_BYTES (A_BYTES + GEGLU_N * 128)

// out[M, W] = (A Wh^T + bh) * gelu(A Wg^T + bg), in e4m3 with a factor for each row and 128 columns, in `factors` [W / 128, M]. A thread's columns, 32 of
// each 128, lie beside each other in `out`: column 8 b + 2 q + e at 32 q + 2 b + e, for b below 16, q below 4 and e below 2.
extern "C" __global__ void __launch_bounds__(384, 1) linear_geglu_e4m3(
    const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap weight, const float* row_factors,
    const float* column_factors, const unsigned short* bias, unsigned char* out, float* factors, int width,
    const __grid_constant__ Work work) {
  // For each warpgroup two, of which one is read while the next is written.
  __shared__ float2 columns[2][2][GEGLU_N];
  const unsigned base = shared_address(memory);
  const unsigned full = base + GEGLU_STAGES * GEGLU_STAGE_BYTES;
  const unsigned empty = full + 8 * GEGLU_STAGES;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  if (threadIdx.x == 0) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&a) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&weight) : "memory");
    begin_barriers(full, empty, GEGLU_STAGES);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");

  if (warp < 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (warp == 0 && lane == 0) {
      produce<GEGLU_STAGES, GEGLU_N, true>(&a, &weight, work, width, base, full, empty);
    }
    __syncwarp();
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const int which = __shfl_sync(0xffffffffu, warp / 4 - 1, 0);
  const int quarter = warp % 4;
  const int thread = threadIdx.x % 128;
  const int tiles = work.across * work.tiles_n;
  const int steps = work.channels / 128;
  float2* of_columns = columns[which][0];
  float2* next_columns = columns[which][1];

  float d[GEGLU_N / 2];
  // The tile before, whose gates are applied while the tensor cores work on this one.
  unsigned hidden[32] = {};
  unsigned gate[32] = {};
  float largest[2] = {};
  int held_n = -1;
  int held_row = 0;

  // 16 columns of it; behind the last the whole is rounded.
  auto finish = [&](int part) {
    // A branch of its own, so that the compiler leaves the work where the tensor cores are busy.
    asm volatile("" : "+r"(held_n)::"memory");
    if (held_n < 0) {
      return;
    }
    if (part == 0) {
      largest[0] = largest[1] = 1e-12f;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float low, high;
      widen(gate[part * 4 + i], low, high);
      hidden[part * 4 + i] = product(hidden[part * 4 + i], narrow(gelu(low), gelu(high)));
      widen(hidden[part * 4 + i], low, high);
      largest[i % 2] = fmaxf(largest[i % 2], fmaxf(fabsf(low), fabsf(high)));
    }
    if (part < 7) {
      return;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(0xffffffffu, largest[r], 1));
      largest[r] = fmaxf(largest[r], __shfl_xor_sync(0xffffffffu, largest[r], 2));
      const float factor = 448.0f / largest[r];
      unsigned words[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float a0, a1, b0, b1;
        widen(hidden[i * 4 + r], a0, a1);
        widen(hidden[i * 4 + 2 + r], b0, b1);
        unsigned short low, high;
        asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(a1 * factor), "f"(a0 * factor));
        asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(b1 * factor), "f"(b0 * factor));
        words[i] = low | static_cast<unsigned>(high) << 16;
      }
      const int row = held_row + r * 8;
      if (row < work.rows) {
        uint4* to = reinterpret_cast<uint4*>(out + static_cast<long long>(row) * width + held_n * 128 + lane % 4 * 32);
        to[0] = make_uint4(words[0], words[1], words[2], words[3]);
        to[1] = make_uint4(words[4], words[5], words[6], words[7]);
        if (lane % 4 == 0) {
          factors[static_cast<long long>(held_n) * work.rows + row] = largest[r] * (1.0f / 448.0f);
        }
      }
    }
  };

  int stage = 0;
  unsigned parity = 0;
  unsigned last = 0;
  auto advance = [&](int step) {
    barrier_wait(full + 8 * stage, parity);
    const unsigned long long da = descriptor(base + stage * GEGLU_STAGE_BYTES + which * 8192);
    const unsigned long long db = descriptor(base + stage * GEGLU_STAGE_BYTES + A_BYTES);
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    multiply(d, da, db, step);
    multiply(d, da + 2, db + 2, 1);
    multiply(d, da + 4, db + 4, 1);
    multiply(d, da + 6, db + 6, 1);
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
    if (step > 0) {
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
      if (lane == 0) {
        barrier_arrive(last);
      }
    }
    last = empty + 8 * stage;
    if (++stage == GEGLU_STAGES) {
      stage = 0;
      parity ^= 1;
    }
  };

  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Tile at = tile_at(work, tile);
    const int row = at.x + which * 64 + quarter * 16 + lane / 4;
    const float row_factor = row_factors[min(row, work.rows - 1)];
    const float next_factor = row_factors[min(row + 8, work.rows - 1)];
    float2 own[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      own[half] = of_column(column_factors, bias, nullptr, half * width + at.n * 128 + thread, 2 * width);
    }
#pragma unroll
    for (int part = 0; part < 8; ++part) {
      if (part < steps) {
        advance(part);
      }
      finish(part);
    }
#pragma unroll 1
    for (int step = 8; step < steps; ++step) {
      advance(step);
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (lane == 0) {
      barrier_arrive(last);
    }
#pragma unroll
    for (int i = 0; i < GEGLU_N / 2; ++i) {
      asm volatile("" : "+f"(d[i])::"memory");
    }
    of_columns[thread] = own[0];
    of_columns[128 + thread] = own[1];
    sync_warpgroup(which);
#pragma unroll
    for (int block = 0; block < 16; ++block) {
      const float4 of_hidden = *reinterpret_cast<const float4*>(of_columns + block * 8 + lane % 4 * 2);
      const float4 of_gate = *reinterpret_cast<const float4*>(of_columns + 128 + block * 8 + lane % 4 * 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float factor = r == 0 ? row_factor : next_factor;
        const float* sums = d + block * 4 + r * 2;
        hidden[block * 2 + r] = narrow(
            fmaf(sums[0] * factor, of_hidden.x, of_hidden.y), fmaf(sums[1] * factor, of_hidden.z, of_hidden.w));
        gate[block * 2 + r] = narrow(
            fmaf(sums[64] * factor, of_gate.x, of_gate.y), fmaf(sums[65] * factor, of_gate.z, of_gate.w));
      }
    }
    held_n = at.n;
    held_row = row;
    float2* const read = of_columns;
    of_columns = next_columns;
    next_columns = read;
  }
#pragma unroll
  for (int part = 0; part < 8; ++part) {
    finish(part);
  }
}
