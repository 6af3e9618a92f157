// What the matrix products written for Hopper share (sm_90a): barriers, bulk copies, operands of `wgmma`, 16-bit floats and the gelu.
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
