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

// The first two words of every four of a and of b in turn, or the last two; the same of pairs of words.
#if defined(__AVX512F__)
#define FP16_INTERLEAVE(which) (WordPart) _mm512_unpack##which((__m512i)a, (__m512i)b)
#elif defined(__AVX2__)
#define FP16_INTERLEAVE(which) (WordPart) _mm256_unpack##which((__m256i)a, (__m256i)b)
#elif defined(__SSE2__)
#define FP16_INTERLEAVE(which) (WordPart) _mm_unpack##which((__m128i)a, (__m128i)b)
#endif
#if defined(FP16_INTERLEAVE)
FP16_INLINE WordPart first_words(WordPart a, WordPart b) { return FP16_INTERLEAVE(lo_epi32); }
FP16_INLINE WordPart last_words(WordPart a, WordPart b) { return FP16_INTERLEAVE(hi_epi32); }
FP16_INLINE WordPart first_pairs(WordPart a, WordPart b) { return FP16_INTERLEAVE(lo_epi64); }
FP16_INLINE WordPart last_pairs(WordPart a, WordPart b) { return FP16_INTERLEAVE(hi_epi64); }
#undef FP16_INTERLEAVE
#else
FP16_INLINE WordPart first_words(WordPart a, WordPart b) { return WordPart{a[0], b[0], a[1], b[1]}; }
FP16_INLINE WordPart last_words(WordPart a, WordPart b) { return WordPart{a[2], b[2], a[3], b[3]}; }
FP16_INLINE WordPart first_pairs(WordPart a, WordPart b) { return WordPart{a[0], a[1], b[0], b[1]}; }
FP16_INLINE WordPart last_pairs(WordPart a, WordPart b) { return WordPart{a[2], a[3], b[2], b[3]}; }
#endif

// words[4 * i + j] = word j of the counter whose words are counter + i (64 bits, low word first), third and fourth;
// others[4 * i + j], if they are asked for, word j ^ 2.
FP16_INLINE void philox(uint64_t counter, uint32_t third, uint32_t fourth, uint64_t key, uint32_t* words,
                        uint32_t* others = nullptr) {
    // Lane 4 * k + q works on counter 4 * q + k, so that transposing every four lanes is all that orders the words.
    static constexpr uint32_t kOrder[kLanes] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    const u32x16 order = load(kOrder), low = order + static_cast<uint32_t>(counter);
    const u32x16 carry = bit_cast<u32x16>(low < order);  // -1
    u32x16 c[4] = {low, u32x16(static_cast<uint32_t>(counter >> 32)) - carry, third, fourth};
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
    u32x16 ordered[4], swapped[4];
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) {
        const WordPart first01 = first_words(c[0].part[i], c[1].part[i]),
                       last01 = last_words(c[0].part[i], c[1].part[i]);
        const WordPart first23 = first_words(c[2].part[i], c[3].part[i]),
                       last23 = last_words(c[2].part[i], c[3].part[i]);
        ordered[0].part[i] = first_pairs(first01, first23);
        ordered[1].part[i] = last_pairs(first01, first23);
        ordered[2].part[i] = first_pairs(last01, last23);
        ordered[3].part[i] = last_pairs(last01, last23);
        swapped[0].part[i] = first_pairs(first23, first01);
        swapped[1].part[i] = last_pairs(first23, first01);
        swapped[2].part[i] = first_pairs(last23, last01);
        swapped[3].part[i] = last_pairs(last23, last01);
    }
    FP16_UNROLL
    for (int q = 0; q < 4; q++) {
        store(words + q * kLanes, ordered[q]);
        if (others) store(others + q * kLanes, swapped[q]);
    }
}

}  // namespace
}  // namespace fp16engine
