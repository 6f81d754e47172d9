// Memory and registers: loads widen what is stored (halves, bfloat16, floats, bytes) to sixteen lanes, stores round or
// cut it again, once. Conversions give the bits of common/half.h and common/bfloat16.h on every instruction set.
#pragma once
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "common/bfloat16.h"
#include "cpu/simd/vector.h"

namespace fp16engine {
namespace {

typedef f32x16::Part FloatPart;
typedef i32x16::Part IntPart;

template <class V>
struct __attribute__((packed, may_alias)) Unaligned {
    V value;
};

// Lanes as they are stored: float, int32_t, uint32_t.
template <class T>
FP16_INLINE Vector<T> load(const T* p) {
    typedef Unaligned<typename Vector<T>::Part> Stored;
    Vector<T> v;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) v.part[i] = reinterpret_cast<const Stored*>(p + i * kPartLanes)->value;
    return v;
}

template <class T>
FP16_INLINE void store(T* p, Vector<T> v) {
    typedef Unaligned<typename Vector<T>::Part> Stored;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) reinterpret_cast<Stored*>(p + i * kPartLanes)->value = v.part[i];
}

// --- halves, a part at a time ---------------------------------------------------------------------------------------

#if defined(__AVX512F__)
typedef __m256i HalfPart;
FP16_INLINE HalfPart load_part(const half* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
FP16_INLINE void store_part(half* p, HalfPart h) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), h); }
FP16_INLINE FloatPart widen(HalfPart h) { return (FloatPart)_mm512_cvtph_ps(h); }
FP16_INLINE HalfPart narrow(FloatPart v) {
    return _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#elif defined(__AVX2__)  // with F16C
typedef __m128i HalfPart;
FP16_INLINE HalfPart load_part(const half* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
FP16_INLINE void store_part(half* p, HalfPart h) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), h); }
FP16_INLINE FloatPart widen(HalfPart h) { return (FloatPart)_mm256_cvtph_ps(h); }
FP16_INLINE HalfPart narrow(FloatPart v) {
    return _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#else
// Four halves in the low 16 bits of integer lanes, the upper bits zero or copies of the sign. The steps are those of
// to_float and to_half.
typedef IntPart HalfPart;
#if defined(__SSE2__)
FP16_INLINE HalfPart load_part(const half* p) {
    return (HalfPart)_mm_unpacklo_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)), _mm_setzero_si128());
}
FP16_INLINE void store_part(half* p, HalfPart h) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32((__m128i)h, (__m128i)h));
}
#else
typedef uint16_t HalfBits __attribute__((vector_size(kPartLanes * sizeof(half))));
FP16_INLINE HalfPart load_part(const half* p) {
    return __builtin_convertvector(reinterpret_cast<const Unaligned<HalfBits>*>(p)->value, HalfPart);
}
FP16_INLINE void store_part(half* p, HalfPart h) {
    reinterpret_cast<Unaligned<HalfBits>*>(p)->value = __builtin_convertvector(h, HalfBits);
}
#endif

FP16_INLINE FloatPart widen(HalfPart h) {
    const IntPart magnitude = h & 0x7fff, sign = h << 16 & INT32_MIN;
    const IntPart special = (magnitude > 0x7bff) & (112 << 23), quiet = (magnitude > 0x7c00) & 0x400000;
    const IntPart normal = (magnitude << 13) + (112 << 23) + special;
    const IntPart subnormal = (IntPart)(__builtin_convertvector(magnitude, FloatPart) * 0x1p-24f);
    return (FloatPart)(sign | quiet | (magnitude < 0x400 ? subnormal : normal));
}
FP16_INLINE HalfPart narrow(FloatPart v) {
    const IntPart bits = (IntPart)v, magnitude = bits & INT32_MAX, sign = bits >> 31 << 15;
    const IntPart normal = (magnitude - (112 << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    // Adding 0.5 puts the last half-subnormal bit (2^-24) at the last float bit, so the addition itself rounds.
    const IntPart subnormal = (IntPart)((FloatPart)magnitude + 0.5f) - (126 << 23);
    const IntPart finite = magnitude < 113 << 23 ? subnormal : normal;
    const IntPart payload = (magnitude > 0x7f800000) & (0x200 | (magnitude >> 13 & 0x3ff));
    return sign | (magnitude < 0x477ff000 ? finite : 0x7c00 | payload);  // infinity from 65520 on
}
#endif

FP16_INLINE f32x16 load(const half* p) {
    f32x16 v;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) v.part[i] = widen(load_part(p + i * kPartLanes));
    return v;
}

FP16_INLINE void store(half* p, f32x16 v) {
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) store_part(p + i * kPartLanes, narrow(v.part[i]));
}

// One rounding to the storage type, kept in float registers.
FP16_INLINE f32x16 round_half(f32x16 v) {
    return each_part<float>([](FloatPart x) { return widen(narrow(x)); }, v);
}

// --- bfloat16, a part at a time: the upper halves of floats
// ------------------------------------------------------------

typedef u32x16::Part WordPart;

#if defined(__AVX512F__)
FP16_INLINE FloatPart load_part(const bfloat16* p) {
    return (FloatPart)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
                                        16);
}
FP16_INLINE void store_part(bfloat16* p, IntPart v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16((__m512i)v));
}
#elif defined(__AVX2__)
FP16_INLINE FloatPart load_part(const bfloat16* p) {
    return (FloatPart)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
                                        16);
}
FP16_INLINE void store_part(bfloat16* p, IntPart v) {
    const __m128i low = _mm256_castsi256_si128((__m256i)v), high = _mm256_extracti128_si256((__m256i)v, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packs_epi32(low, high));
}
#elif defined(__SSE2__)
FP16_INLINE FloatPart load_part(const bfloat16* p) {
    return (FloatPart)_mm_unpacklo_epi16(_mm_setzero_si128(), _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
FP16_INLINE void store_part(bfloat16* p, IntPart v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi32((__m128i)v, (__m128i)v));
}
#else
FP16_INLINE FloatPart load_part(const bfloat16* p) {
    return (FloatPart)(__builtin_convertvector(reinterpret_cast<const Unaligned<HalfBits>*>(p)->value, IntPart) << 16);
}
FP16_INLINE void store_part(bfloat16* p, IntPart v) {
    reinterpret_cast<Unaligned<HalfBits>*>(p)->value = __builtin_convertvector(v, HalfBits);
}
#endif

// The float whose upper half is the nearest bfloat16; a NaN becomes quiet. The lower half is left as it comes.
FP16_INLINE WordPart nearest_bfloat16(FloatPart v) {
    const WordPart bits = (WordPart)v;
    const WordPart rounded = bits + 0x7fffu + (bits >> 16 & 1u);
    return (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x400000u : rounded;
}

FP16_INLINE f32x16 load(const bfloat16* p) {
    f32x16 v;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) v.part[i] = load_part(p + i * kPartLanes);
    return v;
}

FP16_INLINE void store(bfloat16* p, f32x16 v) {
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) store_part(p + i * kPartLanes, (IntPart)nearest_bfloat16(v.part[i]) >> 16);
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
template <>
FP16_INLINE f32x16 round_to<bfloat16>(f32x16 v) {
    return each_part<float>([](FloatPart x) { return (FloatPart)(nearest_bfloat16(x) & 0xffff0000u); }, v);
}

// --- bytes: integers of which eight bits are stored ------------------------------------------------------------------

FP16_INLINE i32x16 load(const uint8_t* p) {
    i32x16 v;
#if defined(__AVX512F__)
    v.part[0] = (IntPart)_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
    v.part[0] = (IntPart)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    v.part[1] = (IntPart)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)));
#elif defined(__SSE2__)
    const __m128i zero = _mm_setzero_si128(), bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i low = _mm_unpacklo_epi8(bytes, zero), high = _mm_unpackhi_epi8(bytes, zero);
    v.part[0] = (IntPart)_mm_unpacklo_epi16(low, zero);
    v.part[1] = (IntPart)_mm_unpackhi_epi16(low, zero);
    v.part[2] = (IntPart)_mm_unpacklo_epi16(high, zero);
    v.part[3] = (IntPart)_mm_unpackhi_epi16(high, zero);
#else
    for (int i = 0; i < kLanes; i++) v.part[i / kPartLanes][i % kPartLanes] = p[i];
#endif
    return v;
}

FP16_INLINE void store(uint8_t* p, i32x16 v) {
    v = v & 0xff;
#if defined(__AVX512F__)
    const __m128i bytes = _mm512_cvtepi32_epi8((__m512i)v.part[0]);
#elif defined(__AVX2__)
    const __m256i words = _mm256_packus_epi32((__m256i)v.part[0], (__m256i)v.part[1]);  // lanes 0-3, 8-11, 4-7, 12-15
    const __m256i sorted = _mm256_permute4x64_epi64(words, _MM_SHUFFLE(3, 1, 2, 0));
    const __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(sorted), _mm256_extracti128_si256(sorted, 1));
#elif defined(__SSE2__)
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32((__m128i)v.part[0], (__m128i)v.part[1]),
                                           _mm_packs_epi32((__m128i)v.part[2], (__m128i)v.part[3]));
#else
    uint8_t bytes[kLanes];
    for (int i = 0; i < kLanes; i++) bytes[i] = static_cast<uint8_t>(v[i]);
#endif
    std::memcpy(p, &bytes, kLanes);
}

// --- the first n < 16 lanes: the others read as zero and are not written ---------------------------------------------

#if defined(__AVX512F__)
FP16_INLINE __mmask16 first_lanes(int n) { return static_cast<__mmask16>((1u << n) - 1); }

FP16_INLINE f32x16 load(const float* p, int n) {
    f32x16 v;
    v.part[0] = (FloatPart)_mm512_maskz_loadu_ps(first_lanes(n), p);
    return v;
}
FP16_INLINE f32x16 load(const half* p, int n) {
    f32x16 v;
    v.part[0] = widen(_mm256_maskz_loadu_epi16(first_lanes(n), p));
    return v;
}
FP16_INLINE f32x16 load(const bfloat16* p, int n) {
    f32x16 v;
    v.part[0] = (FloatPart)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p)), 16);
    return v;
}
FP16_INLINE i32x16 load(const uint8_t* p, int n) {
    i32x16 v;
    v.part[0] = (IntPart)_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p));
    return v;
}
FP16_INLINE void store(float* p, f32x16 v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), (__m512)v.part[0]); }
FP16_INLINE void store(half* p, f32x16 v, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow(v.part[0])); }
FP16_INLINE void store(bfloat16* p, f32x16 v, int n) {
    const IntPart rounded = (IntPart)nearest_bfloat16(v.part[0]) >> 16;
    _mm256_mask_storeu_epi16(p, first_lanes(n), _mm512_cvtepi32_epi16((__m512i)rounded));
}
FP16_INLINE void store(uint8_t* p, i32x16 v, int n) {
    _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(n), (__m512i)v.part[0]);
}
#else
template <class T>
FP16_INLINE auto load(const T* p, int n) {
    T tile[kLanes] = {};
    std::memcpy(tile, p, n * sizeof(T));
    return load(tile);
}
template <class T, class V>
FP16_INLINE void store(T* p, V v, int n) {
    T tile[kLanes];
    store(tile, v);
    std::memcpy(p, tile, n * sizeof(T));
}
#endif

}  // namespace
}  // namespace fp16engine
