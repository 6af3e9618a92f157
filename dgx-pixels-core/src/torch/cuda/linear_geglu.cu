// out[M, W] = (X Wh^T + bh) * gelu(X Wg^T + bg): a linear layer and the GEGLU after it in one pass, for sm_90a: `hopper.cu` comes before.
//
// A persistent grid: each block goes through tiles of 128 rows and 128 columns of `out`. A producer warp fills a ring of
// shared-memory stages by TMA, and two warpgroups multiply: each 64 rows by 128 hidden columns and the 128 gate columns
// that belong to them, as one m64n256 product, so that a thread has hidden and gate of the same element. The sums of a
// finished tile are rounded to 16 bits; the gelu and the stores then run while the tensor cores work on the next tile.

#define STAGES 4
// Rows of X that are worked on before the weights are gone through again.
#define GROUP 2048

#define B_BYTES 32768
#define STAGE_BYTES (A_BYTES + B_BYTES)
#define OUT_BYTES 32768
// `products.rs` asks for STAGES * STAGE_BYTES + OUT_BYTES + 16 * STAGES bytes of shared memory.

// d (+)= a b^T for 64 rows, 256 columns and 16 of K.
__device__ __forceinline__ void multiply(float (&d)[128], unsigned long long a, unsigned long long b, int add) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %130, 0;\n"
#if BF16
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
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
#else
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
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
#endif
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

extern "C" __global__ void __launch_bounds__(384, 1)
linear_geglu(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weight,
             const __grid_constant__ TensorMap out, const unsigned* __restrict__ bias, const int m, const int k,
             const int width) {
  const unsigned base = shared_address(memory);
  const unsigned outs = base + STAGES * STAGE_BYTES;
  const unsigned full = outs + OUT_BYTES;
  const unsigned empty = full + 8 * STAGES;

  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int steps = k / 64;
  // Tiles go down a group of rows, then to the next columns; a group has all columns done before the next group.
  const int tiles_m = (m + ROWS - 1) / ROWS;
  const int tiles_n = width / 128;
  const int tiles = tiles_m * tiles_n;
  const int group = GROUP / ROWS;

  if (threadIdx.x == 0) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&x) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&weight) : "memory");
    asm volatile("prefetch.tensormap [%0];" ::"l"(&out) : "memory");
    for (int s = 0; s < STAGES; ++s) {
      barrier_init(full + 8 * s, 1);
      barrier_init(empty + 8 * s, 8);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();
  // May be started before the kernel that it reads from has ended.
  asm volatile("griddepcontrol.wait;\ngriddepcontrol.launch_dependents;" ::: "memory");

  if (warp < 4) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (warp == 0 && lane == 0) {
      int stage = 0;
      unsigned parity = 1;
      for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int of = tile / (group * tiles_n);
        const int in = tile - of * group * tiles_n;
        const int here = min(group, tiles_m - of * group);
        const int n = in / here;
        const int row = (of * group + in - n * here) * ROWS;
        for (int step = 0; step < steps; ++step) {
          const unsigned a = base + stage * STAGE_BYTES;
          const unsigned b = a + A_BYTES;
          const unsigned barrier = full + 8 * stage;
          barrier_wait(empty + 8 * stage, parity);
          barrier_expect(barrier, STAGE_BYTES);
          load_tile(b, &weight, step * 64, n * 128, barrier);
          load_tile(b + 16384, &weight, step * 64, width + n * 128, barrier);
          load_tile(a, &x, step * 64, row, barrier);
          if (++stage == STAGES) {
            stage = 0;
            parity ^= 1;
          }
        }
      }
    }
    __syncwarp();
  } else {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
    const int which = __shfl_sync(0xffffffffu, warp / 4 - 1, 0);
    const int quarter = warp % 4;
    const unsigned staging = outs + which * 16384 + quarter * 2048;
    // Where this lane's row of the first of two columns of 8x8 matrices goes; the second is 16 bytes on, before swizzling.
    const unsigned staging_row = staging + (lane % 16) * 128;
    const unsigned staging_column = lane / 16;
    float d[128];
#pragma unroll
    for (int i = 0; i < 128; ++i) {
      d[i] = 0.0f;
    }
    // The tile before, whose gates are applied while the tensor cores work on this one.
    unsigned hidden[32] = {};
    unsigned gate[32] = {};
    int held_column = -1;
    int held_row = 0;

    // 16 columns of it.
    auto finish = [&](int part) {
      // A branch of its own, so that the compiler leaves the work where the tensor cores are busy.
      asm volatile("" : "+r"(held_column)::"memory");
      if (held_column < 0) {
        return;
      }
      if (part == 0) {
        // The rows that this warp stored before must have been read.
        if (lane == 0) {
          asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        }
        __syncwarp();
      }
      unsigned words[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float low, high;
        widen(gate[part * 4 + i], low, high);
        words[i] = product(hidden[part * 4 + i], narrow(gelu(low), gelu(high)));
      }
      const unsigned to = staging_row + (part / 4) * 8192 + (((part % 4 * 2 + staging_column) ^ (lane % 8)) * 16);
      asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(words[0]),
                   "r"(words[1]), "r"(words[2]), "r"(words[3])
                   : "memory");
      if (part % 4 == 3) {
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncwarp();
        if (lane == 0) {
          store_tile(&out, held_column + (part / 4) * 64, held_row, staging + (part / 4) * 8192);
          asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        }
      }
    };

    int stage = 0;
    unsigned parity = 0;
    unsigned last = 0;
    auto advance = [&](int step) {
      barrier_wait(full + 8 * stage, parity);
      const unsigned long long da = descriptor(base + stage * STAGE_BYTES + which * 8192);
      const unsigned long long db = descriptor(base + stage * STAGE_BYTES + A_BYTES);
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
      if (++stage == STAGES) {
        stage = 0;
        parity ^= 1;
      }
    };

    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
      const int of = tile / (group * tiles_n);
      const int in = tile - of * group * tiles_n;
      const int here = min(group, tiles_m - of * group);
      const int n = in / here;
      const int row = (of * group + in - n * here) * ROWS + which * 64 + quarter * 16;
      // Two neighbours' biases in each word.
      const unsigned bias_hidden[2] = {__ldg(bias + n * 64 + lane), __ldg(bias + n * 64 + 32 + lane)};
      const unsigned bias_gate[2] = {__ldg(bias + width / 2 + n * 64 + lane),
                                     __ldg(bias + width / 2 + n * 64 + 32 + lane)};
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
      for (int i = 0; i < 128; ++i) {
        asm volatile("" : "+f"(d[i])::"memory");
      }
#pragma unroll
      for (int block = 0; block < 16; ++block) {
        float h0, h1, g0, g1;
        widen(__shfl_sync(0xffffffffu, bias_hidden[block / 8], block % 8 * 4 + lane % 4), h0, h1);
        widen(__shfl_sync(0xffffffffu, bias_gate[block / 8], block % 8 * 4 + lane % 4), g0, g1);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          hidden[block * 2 + r] = narrow(d[block * 4 + r * 2] + h0, d[block * 4 + r * 2 + 1] + h1);
          gate[block * 2 + r] = narrow(d[64 + block * 4 + r * 2] + g0, d[64 + block * 4 + r * 2 + 1] + g1);
        }
      }
      held_column = n * 128;
      held_row = row;
    }
#pragma unroll
    for (int part = 0; part < 8; ++part) {
      finish(part);
    }
    if (lane == 0) {
      asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
    __syncwarp();
  }
}
