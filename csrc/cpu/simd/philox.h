// Random words by Philox4x32-10 (Salmon et al., SC'11), sixteen counters at a time.
#pragma once
#include "cpu/simd/storage.h"

namespace fp16engine {
namespace {

// The low words of eight 64-bit lanes, times a constant.
FP16_INLINE u64x8 multiply_low_words(u64x8 words, uint32_t factor) {
    return each_part<uint64_t>(
        [=](u64x8::Part w) {
#if defined(__AVX512F__)
            return (u64x8::Part)_mm512_mul_epu32((__m512i)w, _mm512_set1_epi32(static_cast<int>(factor)));
#elif defined(__AVX2__)
            return (u64x8::Part)_mm256_mul_epu32((__m256i)w, _mm256_set1_epi32(static_cast<int>(factor)));
#elif defined(__SSE2__)
            return (u64x8::Part)_mm_mul_epu32((__m128i)w, _mm_set1_epi32(static_cast<int>(factor)));
#else
            return (w & 0xffffffffu) * static_cast<uint64_t>(factor);
#endif
        },
        words);
}

// The 64-bit products of sixteen words with a constant, in halves: those of the even words, then those of the odd.
FP16_INLINE void multiply_wide(u32x16 words, uint32_t factor, u32x16& high, u32x16& low) {
    constexpr uint64_t kLow = 0xffffffffu, kHigh = kLow << 32;
    const u64x8 pairs = bit_cast<u64x8>(words);
    const u64x8 even = multiply_low_words(pairs, factor), odd = multiply_low_words(pairs >> 32, factor);
    high = bit_cast<u32x16>((even >> 32) | (odd & kHigh));
    low = bit_cast<u32x16>((even & kLow) | (odd << 32));
}

// words[4 * i + j] = word j of the counter whose words are counter + i (64 bits, low word first), third and fourth.
FP16_INLINE void philox(uint64_t counter, uint32_t third, uint32_t fourth, uint64_t key, uint32_t* words) {
    uint32_t tile[4][kLanes] = {};
    for (int i = 0; i < kLanes; i++) {
        tile[0][i] = static_cast<uint32_t>(counter + static_cast<uint64_t>(i));
        tile[1][i] = static_cast<uint32_t>((counter + static_cast<uint64_t>(i)) >> 32);
    }
    u32x16 c[4] = {load(tile[0]), load(tile[1]), third, fourth};
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; round++) {
        u32x16 high0, low0, high2, low2;
        multiply_wide(c[0], 0xD2511F53u, high0, low0);
        multiply_wide(c[2], 0xCD9E8D57u, high2, low2);
        c[0] = high2 ^ c[1] ^ k0;
        c[1] = low2;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int j = 0; j < 4; j++) store(tile[j], c[j]);
    for (int i = 0; i < kLanes; i++)
        for (int j = 0; j < 4; j++) words[4 * i + j] = tile[j][i];
}

}  // namespace
}  // namespace fp16engine
