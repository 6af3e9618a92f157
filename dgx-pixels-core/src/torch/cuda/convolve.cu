// Convolutions of pictures with channels last, for sm_90a: `hopper.cu` comes before. For each pixel the taps around it, one after the other, are a row of
// numbers, and out[M, N] = A W^T with a bias, a vector for each picture and a residual added.
//
// A persistent grid: each block goes through tiles of 128 pixels. A producer warp fills a ring of shared-memory stages of 64 numbers of K by
// TMA, which gives zeros for what lies outside of a picture, and each of two warpgroups multiplies half of the pixels.

// Numbers of K of a stage.
constexpr int kStep = 64;

// d (+)= a b^T for 64 rows, 160 columns and 16 of K.
__device__ __forceinline__ void multiply(float (&d)[80], unsigned long long a, unsigned long long b, int add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %82, 0;\n"
#if BF16
      "wgmma.mma_async.sync.aligned.m64n160k16.f32.bf16.bf16 "
#else
      "wgmma.mma_async.sync.aligned.m64n160k16.f32.f16.f16 "
#endif
      "{"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
      "}, %80, %81, p, 1, 1, 0, 0;\n"
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
#if BF16
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
#else
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
#endif
      "{"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
      "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
      "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
      "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
      "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
      "}, %128, %129, p, 1, 1, 0, 0;\n"
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

// `added` has a vector of N for each picture, `added_stride` apart, or is absent; so is what `residual` shows. The
// maps of `residual` and `out` have boxes of 32 columns of a warpgroup's 64 pixels, swizzled by 64 bytes.
template <int COLUMNS, int STAGES>
__device__ __forceinline__ void convolve(
    const TensorMap& a, const TensorMap& weight, const TensorMap& residual, const TensorMap& out, const unsigned short* bias,
    const unsigned short* added, long long added_stride, int has_residual, const Work& work) {
  constexpr int kStage = (ROWS + COLUMNS) * 128;
  constexpr int kBox = 64 * 64;
  constexpr int kOut = COLUMNS / 32 * kBox;
  __shared__ float columns[2][COLUMNS];
  const unsigned base = shared_address(memory);
  const unsigned outs = base + STAGES * kStage;
  const unsigned full = outs + 2 * kOut;
  const unsigned empty = full + 8 * STAGES;
  const unsigned arrived = empty + 8 * STAGES;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;

  if (threadIdx.x == 0) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&a) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&weight) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&out) : "memory");
    begin_barriers(full, empty, STAGES);
    barrier_init(arrived, 1);
    barrier_init(arrived + 8, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");

  if (warp < 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (warp == 0 && lane == 0) {
      produce<STAGES, ROWS, COLUMNS, kStep, false>(&a, &weight, work, 0, base, full, empty);
    }
    __syncwarp();
    return;
  }
  asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  const int which = __shfl_sync(0xffffffffu, warp / 4 - 1, 0);
  const int thread = threadIdx.x % 128;
  const unsigned staging = outs + which * kOut;
  const unsigned residual_here = arrived + 8 * which;
  const int row_in = warp % 4 * 16 + lane / 4;
  const int tiles = work.across * work.down * work.pictures * work.tiles_n;
  const int chunks = (work.channels + kStep - 1) / kStep;
  const int steps = chunks * work.taps;
  // Of the last chunk, in products of 16.
  const int rest = (work.channels - (chunks - 1) * kStep + 15) / 16;
  float* const of_columns = columns[which];

  float d[COLUMNS / 2];
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
        barrier_expect(residual_here, kOut);
        for (int part = 0; part < COLUMNS / 32; ++part) {
          load_pixels(
              staging + part * kBox, &residual, at.n * COLUMNS + part * 32, x, y, at.picture, residual_here);
        }
      }
    }
    // Read now, and needed when the sums are there.
    Column own[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      own[i] = column_at(nullptr, bias, added == nullptr ? nullptr : added + at.picture * added_stride,
                         min(at.n * COLUMNS + thread + i * 128, work.outer - 1));
    }
    unsigned last = 0;
    int chunk = 0;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      barrier_wait(full + 8 * stage, parity);
      const unsigned long long da = descriptor(base + stage * kStage + which * 8192);
      const unsigned long long db = descriptor(base + stage * kStage + ROWS * 128);
      const int count = ++chunk == chunks ? rest : kStep / 16;
      if (chunk == chunks) {
        chunk = 0;
      }
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
      if (count == kStep / 16) {
#pragma unroll
        for (int i = 0; i < kStep / 16; ++i) {
          multiply(d, da + 2 * i, db + 2 * i, step + i);
        }
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
      if (++stage == STAGES) {
        stage = 0;
        parity ^= 1;
      }
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (lane == 0) {
      barrier_arrive(last);
    }
#pragma unroll
    for (int i = 0; i < COLUMNS / 2; ++i) {
      asm volatile("" : "+f"(d[i])::"memory");
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (thread + i * 128 < COLUMNS) {
        of_columns[thread + i * 128] = arrived_column(own[i]).y;
      }
    }
    // With it the staging rows are free.
    sync_warpgroup(which);
    if (has_residual) {
      barrier_wait(residual_here, arrived_parity);
      arrived_parity ^= 1;
    }
    // In a box of 32 columns, rows 8 apart are swizzled alike.
    auto staged = [&](int block, int row) {
      return staging + block / 4 * kBox + row * 64 + ((block % 4) ^ (row_in / 2 % 4)) * 16 + lane % 4 * 4;
    };
#pragma unroll
    for (int some = 0; some < COLUMNS / 8; some += 4) {
      // All reads before all writes: no read passes a write, and waiting for one after the other takes long.
      unsigned before[8] = {};
      if (has_residual) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          asm volatile("ld.shared.b32 %0, [%1];"
                       : "=r"(before[i])
                       : "r"(staged(some + i / 2, row_in + i % 2 * 8))
                       : "memory");
        }
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const float2 of = *reinterpret_cast<const float2*>(of_columns + (some + i / 2) * 8 + lane % 4 * 2);
        const float* sums = d + (some * 2 + i) * 2;
        float low, high;
        widen(before[i], low, high);
        low += sums[0] + of.x;
        high += sums[1] + of.y;
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(staged(some + i / 2, row_in + i % 2 * 8)),
                     "r"(narrow(low, high))
                     : "memory");
      }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    sync_warpgroup(which);
    if (thread == 0) {
      for (int part = 0; part < COLUMNS / 32; ++part) {
        store_pixels(&out, at.n * COLUMNS + part * 32, x, y, at.picture, staging + part * kBox);
      }
      asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    }
  }
  if (thread == 0) {
    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
  }
}

// `convolution.rs` asks for STAGES * (128 + COLUMNS) * 128 + 256 * COLUMNS + 16 * STAGES + 16 bytes of shared memory.
#define CONVOLVE(COLUMNS, STAGES)                                                                                         \
  extern "C" __global__ void __launch_bounds__(384, 1) convolve_##COLUMNS(                                                \
      const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap weight,                                      \
      const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap out, const unsigned short* bias,      \
      const unsigned short* added, long long added_stride, int has_residual, const __grid_constant__ Work work) {         \
    convolve<COLUMNS, STAGES>(a, weight, residual, out, bias, added, added_stride, has_residual, work);                   \
  }

CONVOLVE(160, 5)
CONVOLVE(256, 3)
