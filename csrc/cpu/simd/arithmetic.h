// Arithmetic on sixteen lanes that is more than an operator.
#pragma once
#include "cpu/simd/storage.h"

namespace fp16engine {
namespace {

// a * b + c, fused where the hardware fuses. Only where an order or rounding is not documented (FP32 dot products).
FP16_INLINE f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
    return each_part<float>([](__m512 x, __m512 y, __m512 z) { return (FloatPart)_mm512_fmadd_ps(x, y, z); }, a, b, c);
#elif defined(__FMA__)
    return each_part<float>([](__m256 x, __m256 y, __m256 z) { return (FloatPart)_mm256_fmadd_ps(x, y, z); }, a, b, c);
#else
    return a * b + c;
#endif
}

// fl32(a * b + c) on every instruction set. Without the instruction: the product is exact in double, and the sum is
// rounded to odd there (53 >= 24 + 2 bits), so the second rounding, to float, is the only one that counts. That is a
// function, or a kernel would take minutes to compile.
#if defined(__FMA__)
FP16_INLINE f32x16 fused_multiply_add(f32x16 a, f32x16 b, f32x16 c) { return multiply_add(a, b, c); }
#elif defined(__FP_FAST_FMAF)  // other processors
FP16_INLINE f32x16 fused_multiply_add(f32x16 a, f32x16 b, f32x16 c) {
    return each_part<float>(
        [](FloatPart x, FloatPart y, FloatPart z) {
            for (int i = 0; i < kPartLanes; i++) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
            return z;
        },
        a, b, c);
}
#else
__attribute__((noinline, unused)) f32x16 fused_multiply_add(f32x16 a, f32x16 b, f32x16 c) {
    typedef double Doubles __attribute__((vector_size(2 * sizeof(FloatPart))));
    typedef int64_t Bits __attribute__((vector_size(sizeof(Doubles))));
    return each_part<float>(
        [](FloatPart x, FloatPart y, FloatPart z) {
            const Doubles product = __builtin_convertvector(x, Doubles) * __builtin_convertvector(y, Doubles);
            const Doubles addend = __builtin_convertvector(z, Doubles), sum = product + addend;
            const Doubles part = sum - product, error = (product - (sum - part)) + (addend - part);
            const Bits bits = (Bits)sum, inexact_even = ((error > 0.0) | (error < 0.0)) & ((bits & 1) == 0);
            const Bits toward_odd = ((error > 0.0) == (sum > 0.0)) * -2 - 1;  // away from zero: 1, else -1
            return __builtin_convertvector((Doubles)(bits + (inexact_even & toward_odd)), FloatPart);
        },
        a, b, c);
}
#endif

FP16_INLINE f32x16 vsqrt(f32x16 v) {
    return each_part<float>(
        [](FloatPart x) {
#if defined(__AVX512F__)
            return (FloatPart)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
            return (FloatPart)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
            return (FloatPart)_mm_sqrt_ps((__m128)x);
#else
            for (int i = 0; i < kPartLanes; i++) x[i] = __builtin_sqrtf(x[i]);
            return x;
#endif
        },
        v);
}

// fl16(acc + a * b) with one rounding, as a half-precision FMA instruction does. a, b, acc hold binary16 values.
// The product is exact in float32. The sum is rounded to odd in float32 first (24 >= 11 + 2 bits), so the
// second rounding, to binary16, is the only one that counts.
FP16_INLINE f32x16 half_fma(f32x16 a, f32x16 b, f32x16 acc) {
    const f32x16 product = a * b;
    const f32x16 sum = acc + product;
    const f32x16 part = sum - acc;
    const f32x16 error = (acc - (sum - part)) + (product - part);
    const i32x16 bits = bit_cast<i32x16>(sum);
    const i32x16 inexact_even = ((error > 0.0f) | (error < 0.0f)) & ((bits & 1) == 0);
    const i32x16 away = (error > 0.0f) == (sum > 0.0f);  // the true value lies farther from zero
    const i32x16 toward_odd = select(away, i32x16(1), i32x16(-1));
    return round_half(bit_cast<f32x16>(bits + (inexact_even & toward_odd)));
}

// Lanes are combined in a fixed tree: 8 apart, 4, 2, 1. combine(older, newer) takes floats and vectors of four.
template <class Combine>
FP16_INLINE float across(f32x16 v, Combine combine) {
    typedef float Quarter __attribute__((vector_size(16)));
    Quarter quarters[4];
    FP16_UNROLL
    for (int i = 0; i < 4; i++) std::memcpy(&quarters[i], reinterpret_cast<const char*>(&v) + i * 16, 16);
    const Quarter q = combine(combine(quarters[0], quarters[2]), combine(quarters[1], quarters[3]));
    return combine(combine(q[0], q[2]), combine(q[1], q[3]));
}

FP16_INLINE float lane_sum(f32x16 v) {
    return across(v, [](auto a, auto b) { return a + b; });
}

}  // namespace
}  // namespace fp16engine
