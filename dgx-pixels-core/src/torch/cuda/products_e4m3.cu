// Products of 8-bit floats (e4m3) for sm_90a: `hopper.cu` comes before. out[M, N] = factor of row * factor of column * (A W^T) + bias, where A is rows of
// numbers, or the pixels of pictures with their neighbours: then the product is a convolution, and W has the taps one after the other.
//
// A persistent grid: each block goes through tiles of 128 rows. A producer warp fills a ring of shared-memory stages of 128 numbers of K by
// TMA, which gives zeros for what lies outside of a picture, and two warpgroups multiply 64 rows each. 160 columns divide SDXL's widths such that
// 128 or nearly twice or four times as many tiles are to be done by 132 multiprocessors.

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

// And 80 columns.
__device__ __forceinline__ void multiply(float (&d)[40], unsigned long long a, unsigned long long b, int add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %42, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n80k32.f32.e4m3.e4m3 "
      "{"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39"
      "}, %40, %41, p, 1, 1;\n"
      "}\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
        "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
        "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
        "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
        "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
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

#define LINEAR_STAGES 5
#define LINEAR_N 160

// BLOCKS: `row_factors` has one for each 128 numbers of K, as [K / 128, M]; otherwise it is [M], or absent.
// `added` has a vector of N for each picture, `added_stride` apart, or is absent; so are `bias` and what `residual` shows.
// SHORT: tiles of 64 rows, of which each warpgroup has half of the columns, for products with too few tiles of 128.
template <bool BLOCKS, bool SHORT>
__device__ __forceinline__ void linear(
    const TensorMap& a, const TensorMap& weight, const TensorMap& residual, const TensorMap& out, const float* row_factors,
    const float* column_factors, const unsigned short* bias, const unsigned short* added, long long added_stride,
    int has_residual, const Work& work) {
  constexpr int kRows = SHORT ? ROWS / 2 : ROWS;
  constexpr int kStage = (kRows + LINEAR_N) * 128;
  constexpr int kOut = kRows * LINEAR_N * 2;
  // Of a warpgroup.
  constexpr int kColumns = SHORT ? LINEAR_N / 2 : LINEAR_N;
  __shared__ float2 columns[2][kColumns];
  const unsigned base = shared_address(memory);
  const unsigned outs = base + LINEAR_STAGES * kStage;
  const unsigned full = outs + kOut;
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
      produce<LINEAR_STAGES, kRows, LINEAR_N, 128, false>(&a, &weight, work, 0, base, full, empty);
    }
    __syncwarp();
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const int which = __shfl_sync(0xffffffffu, warp / 4 - 1, 0);
  const int quarter = warp % 4;
  const int thread = threadIdx.x % 128;
  const int first_row = SHORT ? 0 : which * 64;
  const int first_column = SHORT ? which * kColumns : 0;
  const unsigned staging = outs + first_row * (LINEAR_N * 2);
  // One thread loads and stores the rows that a warpgroup has, or that both share.
  const bool leads = thread == 0 && (!SHORT || which == 0);
  const unsigned residual_here = arrived + (SHORT ? 0 : 8 * which);
  auto sync = [&]() {
    if (SHORT) {
      asm volatile("bar.sync 1, 256;" ::: "memory");
    } else {
      sync_warpgroup(which);
    }
  };
  const int row_in = quarter * 16 + lane / 4;
  const int tiles = work.across * work.down * work.pictures * work.tiles_n;
  const int chunks = (work.channels + 127) / 128;
  const int steps = chunks * work.taps;
  // Of the last chunk, in products of 32.
  const int rest = (work.channels - (chunks - 1) * 128 + 31) / 32;
  float2* const of_columns = columns[which];

  float d[kColumns / 2];
  int stage = 0;
  unsigned parity = 0;
  unsigned arrived_parity = 0;
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Tile at = tile_at(work, tile);
    // This warpgroup's half of the box.
    const int x = at.x + (work.box_h > 1 ? 0 : first_row);
    const int y = at.y + (work.box_h > 1 ? which * (work.box_h / 2) : 0);
    if (leads) {
      // What was stored before must have been read.
      asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
      if (has_residual) {
        barrier_expect(residual_here, LINEAR_N / 32 * 4096);
        for (int part = 0; part < LINEAR_N / 32; ++part) {
          load_pixels(staging + part * 4096, &residual, at.n * LINEAR_N + part * 32, x, y, at.picture, residual_here);
        }
      }
    }
    // Read now, and needed when the sums are there.
    Column own[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      own[i] = column_at(column_factors, bias, added == nullptr ? nullptr : added + at.picture * added_stride,
                         min(at.n * LINEAR_N + first_column + thread + i * 128, work.outer - 1));
    }
    const int row = min(at.x + first_row + row_in, work.rows - 1);
    const int next_row = min(at.x + first_row + row_in + 8, work.rows - 1);
    float factors[2] = {1.0f, 1.0f};
    if (BLOCKS) {
      float part[kColumns / 2];
#pragma unroll
      for (int i = 0; i < kColumns / 2; ++i) {
        d[i] = 0.0f;
      }
      // Read a step ahead.
      float next[2] = {row_factors[row], row_factors[next_row]};
#pragma unroll 1
      for (int step = 0; step < steps; ++step) {
        const float f0 = next[0];
        const float f1 = next[1];
        const long long ahead = static_cast<long long>(min(step + 1, steps - 1)) * work.rows;
        next[0] = row_factors[ahead + row];
        next[1] = row_factors[ahead + next_row];
        barrier_wait(full + 8 * stage, parity);
        const unsigned long long da = descriptor(base + stage * kStage + first_row * 128);
        const unsigned long long db = descriptor(base + stage * kStage + (kRows + first_column) * 128);
#pragma unroll
        for (int i = 0; i < kColumns / 2; ++i) {
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
        for (int i = 0; i < kColumns / 2; ++i) {
          asm volatile("" : "+f"(part[i])::"memory");
        }
#pragma unroll
        for (int i = 0; i < kColumns / 2; ++i) {
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
        const unsigned long long da = descriptor(base + stage * kStage + first_row * 128);
        const unsigned long long db = descriptor(base + stage * kStage + (kRows + first_column) * 128);
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
    for (int i = 0; i < kColumns / 2; ++i) {
      asm volatile("" : "+f"(d[i])::"memory");
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (thread + i * 128 < kColumns) {
        of_columns[thread + i * 128] = arrived_column(own[i]);
      }
    }
    // With it the staging rows are free.
    sync();
    if (has_residual) {
      barrier_wait(residual_here, arrived_parity);
      arrived_parity ^= 1;
    }
    // In a box of 32 columns, rows 8 apart are swizzled alike.
    auto staged = [&](int block, int r) {
      const int column = first_column / 8 + block;
      return staging + column / 4 * 4096 + (row_in + r * 8) * 64 + ((column % 4) ^ (row_in / 2 % 4)) * 16 + lane % 4 * 4;
    };
#pragma unroll
    for (int some = 0; some < kColumns / 8; some += 5) {
      // All reads before all writes: no read passes a write, and waiting for one after the other takes long.
      float4 of[5];
      unsigned before[10] = {};
#pragma unroll
      for (int i = 0; i < 5; ++i) {
        of[i] = *reinterpret_cast<const float4*>(of_columns + (some + i) * 8 + lane % 4 * 2);
      }
      if (has_residual) {
#pragma unroll
        for (int i = 0; i < 10; ++i) {
          asm volatile("ld.shared.b32 %0, [%1];" : "=r"(before[i]) : "r"(staged(some + i / 2, i % 2)) : "memory");
        }
      }
#pragma unroll
      for (int i = 0; i < 10; ++i) {
        const float* sums = d + (some * 2 + i) * 2;
        float low, high;
        widen(before[i], low, high);
        low += fmaf(sums[0] * factors[i % 2], of[i / 2].x, of[i / 2].y);
        high += fmaf(sums[1] * factors[i % 2], of[i / 2].z, of[i / 2].w);
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(staged(some + i / 2, i % 2)), "r"(narrow(low, high)) : "memory");
      }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    sync();
    if (leads) {
      for (int part = 0; part < LINEAR_N / 32; ++part) {
        store_pixels(&out, at.n * LINEAR_N + part * 32, x, y, at.picture, staging + part * 4096);
      }
      asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    }
  }
  if (leads) {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
  }
}

#define LINEAR(NAME, BLOCKS, SHORT)                                                                                       \
  extern "C" __global__ void __launch_bounds__(384, 1) NAME(                                                              \
      const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap weight,                                      \
      const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap out, const float* row_factors,        \
      const float* column_factors, const unsigned short* bias, const unsigned short* added, long long added_stride,       \
      int has_residual, const __grid_constant__ Work work) {                                                              \
    linear<BLOCKS, SHORT>(                                                                                                \
        a, weight, residual, out, row_factors, column_factors, bias, added, added_stride, has_residual, work);            \
  }

LINEAR(linear_e4m3, false, false)
LINEAR(linear_e4m3_short, false, true)
LINEAR(linear_e4m3_blocks, true, false)

#define GEGLU_STAGES 4
#define GEGLU_N 256
#define GEGLU_STAGE_BYTES (A_BYTES + GEGLU_N * 128)

// Behind the products all is in pairs of f16, which have eight times the precision of e4m3 and take half of the instructions: the multiprocessor has
// little time beside the tensor cores.
__device__ __forceinline__ unsigned pair(float low, float high) {
  unsigned out;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

__device__ __forceinline__ unsigned pair_product(unsigned a, unsigned b) {
  unsigned out;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b));
  return out;
}

__device__ __forceinline__ unsigned pair_fma(unsigned a, unsigned b, unsigned c) {
  unsigned out;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
  return out;
}

// The larger of each half, without signs.
__device__ __forceinline__ unsigned larger(unsigned a, unsigned b) {
  unsigned out;
  asm("max.f16x2 %0, %1, %2;" : "=r"(out) : "r"(a), "r"(b & 0x7fff7fffu));
  return out;
}

// x/2 (1 + tanh(0.8001 x + 0.03472 x^3)), which is within 3e-4 of the gelu, and with rounding 1e-3.
__device__ __forceinline__ unsigned rough_gelu(unsigned x) {
  const unsigned inner = pair_product(x, pair_fma(pair_product(x, x), 0x28722872u, 0x3a673a67u));
  const unsigned half = pair_product(x, 0x38003800u);
  unsigned t;
  asm("tanh.approx.f16x2 %0, %1;" : "=r"(t) : "r"(inner));
  return pair_fma(half, t, half);
}

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
      produce<GEGLU_STAGES, ROWS, GEGLU_N, 128, true>(&a, &weight, work, width, base, full, empty);
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
  // Of eight parts of `finish`, those of a step: all should be done before the last.
  const int share = steps > 8 ? 1 : steps > 4 ? 2 : 4;
  float2* of_columns = columns[which][0];
  float2* next_columns = columns[which][1];

  float d[GEGLU_N / 2];
  // The tile before, whose gates are applied while the tensor cores work on this one.
  unsigned hidden[32] = {};
  unsigned gate[32] = {};
  unsigned largest[2] = {};
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
      largest[0] = largest[1] = 0;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      hidden[part * 4 + i] = pair_product(hidden[part * 4 + i], rough_gelu(gate[part * 4 + i]));
      largest[i % 2] = larger(largest[i % 2], hidden[part * 4 + i]);
    }
    if (part < 7) {
      return;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      largest[r] = larger(largest[r], __shfl_xor_sync(0xffffffffu, largest[r], 1));
      largest[r] = larger(largest[r], __shfl_xor_sync(0xffffffffu, largest[r], 2));
      largest[r] = larger(largest[r], largest[r] >> 16 | largest[r] << 16);
      // One that f16 has, as is its inverse.
      unsigned factor;
      float scale;
      asm("{\n"
          ".reg .b16 h, u;\n"
          ".reg .f32 f;\n"
          "mov.b32 {h, u}, %2;\n"
          "cvt.f32.f16 f, h;\n"
          "max.f32 f, f, 0f3BE00000;\n"
          "min.f32 f, f, 0f477FE000;\n"
          "div.full.f32 f, 0f43E00000, f;\n"
          "cvt.rz.f16.f32 h, f;\n"
          "mov.b32 %0, {h, h};\n"
          "cvt.f32.f16 f, h;\n"
          "rcp.approx.ftz.f32 %1, f;\n"
          "}\n"
          : "=r"(factor), "=f"(scale)
          : "r"(largest[r]));
      unsigned words[8];
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        unsigned short a, b;
        asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(a) : "r"(pair_product(hidden[i * 4 + r], factor)));
        asm("cvt.rn.satfinite.e4m3x2.f16x2 %0, %1;" : "=h"(b) : "r"(pair_product(hidden[i * 4 + 2 + r], factor)));
        words[i] = a | static_cast<unsigned>(b) << 16;
      }
      const int row = held_row + r * 8;
      if (row < work.rows) {
        uint4* to = reinterpret_cast<uint4*>(out + static_cast<long long>(row) * width + held_n * 128 + lane % 4 * 32);
        to[0] = make_uint4(words[0], words[1], words[2], words[3]);
        to[1] = make_uint4(words[4], words[5], words[6], words[7]);
        if (lane % 4 == 0) {
          factors[static_cast<long long>(held_n) * work.rows + row] = scale;
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
    Column own[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      own[half] = column_at(column_factors, bias, nullptr, half * width + at.n * 128 + thread);
    }
    int step = 0;
#pragma unroll
    for (int part = 0; part < 8; ++part) {
      if ((part & (share - 1)) == 0 && step < steps) {
        advance(step++);
      }
      finish(part);
    }
#pragma unroll 1
    for (; step < steps; ++step) {
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
    of_columns[thread] = arrived_column(own[0]);
    of_columns[128 + thread] = arrived_column(own[1]);
    sync_warpgroup(which);
#pragma unroll
    for (int block = 0; block < 16; ++block) {
      const float4 of_hidden = *reinterpret_cast<const float4*>(of_columns + block * 8 + lane % 4 * 2);
      const float4 of_gate = *reinterpret_cast<const float4*>(of_columns + 128 + block * 8 + lane % 4 * 2);
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float factor = r == 0 ? row_factor : next_factor;
        const float* sums = d + block * 4 + r * 2;
        hidden[block * 2 + r] = pair(
            fmaf(sums[0] * factor, of_hidden.x, of_hidden.y), fmaf(sums[1] * factor, of_hidden.z, of_hidden.w));
        gate[block * 2 + r] = pair(
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
