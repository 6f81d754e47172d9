// Sixteen float lanes on every instruction set: one zmm, two ymm, four xmm, or plain code.
// The logical width never changes, so partial sums, and with them the bits of every kernel here, are the same on all of
// them. Included only by translation units compiled for one instruction set; nothing here may have external linkage.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "common/half.h"

namespace fp16engine {
namespace {

constexpr int kLanes = 16;
typedef float f32x16 __attribute__((vector_size(64)));
typedef int32_t i32x16 __attribute__((vector_size(64)));
typedef uint32_t u32x16 __attribute__((vector_size(64)));

#define FP16_INLINE inline __attribute__((always_inline))

template <class To, class From>
FP16_INLINE To bit_cast(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "bit_cast keeps the size");
    std::memcpy(&to, &from, sizeof to);
    return to;
}

FP16_INLINE f32x16 splat(float value) { return value - f32x16{}; }
FP16_INLINE i32x16 splat_int(int32_t value) { return value - i32x16{}; }

FP16_INLINE f32x16 load(const float* p) {
    f32x16 v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

FP16_INLINE void store(float* p, f32x16 v) { std::memcpy(p, &v, sizeof v); }

FP16_INLINE f32x16 load(const half* p) {
#if defined(__AVX512F__)
    return bit_cast<f32x16>(_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))));
#elif defined(__F16C__)
    f32x16 v;
    const __m256 low = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256 high = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)));
    std::memcpy(&v, &low, sizeof low);
    std::memcpy(reinterpret_cast<char*>(&v) + sizeof low, &high, sizeof high);
    return v;
#else
    f32x16 v;
    for (int i = 0; i < kLanes; i++) v[i] = to_float(p[i]);
    return v;
#endif
}

FP16_INLINE void store(half* p, f32x16 v) {
#if defined(__AVX512F__)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(bit_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
    __m256 low, high;
    std::memcpy(&low, &v, sizeof low);
    std::memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof low, sizeof high);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8),
                     _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
    for (int i = 0; i < kLanes; i++) p[i] = to_half(v[i]);
#endif
}

// The first n < 16 lanes; the others read as zero and are not written.
template <class T>
FP16_INLINE f32x16 load(const T* p, int n) {
    T tile[kLanes] = {};
    std::memcpy(tile, p, n * sizeof(T));
    return load(tile);
}

template <class T>
FP16_INLINE void store(T* p, f32x16 v, int n) {
    T tile[kLanes];
    store(tile, v);
    std::memcpy(p, tile, n * sizeof(T));
}

// One rounding to the storage type, kept in float registers.
FP16_INLINE f32x16 round_half(f32x16 v) {
    half tile[kLanes];
#if defined(__AVX512F__)
    (void)tile;
    return bit_cast<f32x16>(
        _mm512_cvtph_ps(_mm512_cvtps_ph(bit_cast<__m512>(v), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)));
#else
    store(tile, v);
    return load(tile);
#endif
}

template <class T>
FP16_INLINE f32x16 round_to(f32x16 v);
template <>
FP16_INLINE f32x16 round_to<float>(f32x16 v) {
    return v;
}
template <>
FP16_INLINE f32x16 round_to<half>(f32x16 v) {
    return round_half(v);
}

// a * b + c, fused where the hardware fuses. Only where an order or rounding is not documented (FP32 dot products).
FP16_INLINE f32x16 multiply_add(f32x16 a, f32x16 b, f32x16 c) {
#if defined(__AVX512F__)
    return bit_cast<f32x16>(_mm512_fmadd_ps(bit_cast<__m512>(a), bit_cast<__m512>(b), bit_cast<__m512>(c)));
#else
    return a * b + c;
#endif
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
    const i32x16 inexact_even = ((error > 0.0f) | (error < 0.0f)) & ((bits & 1) == 0);  // lanes of 0 or -1
    const i32x16 away = ((error > 0.0f) == (sum > 0.0f));  // true value lies farther from zero
    const i32x16 toward_odd = away ? splat_int(1) : splat_int(-1);
    return round_half(bit_cast<f32x16>(bits + (inexact_even & toward_odd)));
}

FP16_INLINE f32x16 vmax(f32x16 a, f32x16 b) { return a > b ? a : b; }

// Lanes are added in a fixed tree: 8 apart, 4, 2, 1.
FP16_INLINE float lane_sum(f32x16 v) {
    float lanes[kLanes];
    store(lanes, v);
    for (int step = kLanes / 2; step; step /= 2)
        for (int i = 0; i < step; i++) lanes[i] += lanes[i + step];
    return lanes[0];
}

}  // namespace
}  // namespace fp16engine
