// Sums of scattered rows, and dropout by Philox4x32-10 (Salmon et al., SC'11), sixteen counters at a time.
#pragma once
#include "cpu/simd/columns.h"

namespace fp16engine {
namespace {

// y (K,) = sum of the rows x[order[j]] in the order given.
template <class T>
void sum_of_rows(const T* x, int64_t K, const int64_t* order, int64_t count, bool half_accumulator, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        f32x16 sum = {};
        for (int64_t j = 0; j < count; j++) {
            sum = sum + lanes.get(x + order[j] * K + k);
            if (half_accumulator) sum = round_half(sum);
        }
        lanes.put(y + k, sum);
    });
}

// The 64-bit products of sixteen words with a constant, in halves. The instructions multiply every second word.
FP16_INLINE void multiply_wide(u32x16 words, uint32_t factor, u32x16& high, u32x16& low) {
#if defined(__AVX512F__)
    const __m512i w = bit_cast<__m512i>(words), f = _mm512_set1_epi32(static_cast<int>(factor));
    const __m512i even = _mm512_mul_epu32(w, f), odd = _mm512_mul_epu32(_mm512_srli_epi64(w, 32), f);
    high = bit_cast<u32x16>(_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd));
    low = bit_cast<u32x16>(_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32)));
#elif defined(__AVX2__)
    __m256i parts[2], highs[2], lows[2];
    std::memcpy(parts, &words, sizeof words);
    const __m256i f = _mm256_set1_epi32(static_cast<int>(factor));
    for (int i = 0; i < 2; i++) {
        const __m256i even = _mm256_mul_epu32(parts[i], f), odd = _mm256_mul_epu32(_mm256_srli_epi64(parts[i], 32), f);
        highs[i] = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
        lows[i] = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
    }
    std::memcpy(&high, highs, sizeof high);
    std::memcpy(&low, lows, sizeof low);
#else
    for (int i = 0; i < kLanes; i++) {
        const uint64_t product = static_cast<uint64_t>(words[i]) * factor;
        high[i] = static_cast<uint32_t>(product >> 32);
        low[i] = static_cast<uint32_t>(product);
    }
#endif
}

// words[4 * i + j] = word j of counter + i.
FP16_INLINE void philox(uint64_t counter, uint64_t key, uint32_t* words) {
    u32x16 c[4] = {};
    for (int i = 0; i < kLanes; i++) {
        c[0][i] = static_cast<uint32_t>(counter + static_cast<uint64_t>(i));
        c[1][i] = static_cast<uint32_t>((counter + static_cast<uint64_t>(i)) >> 32);
    }
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
    uint32_t tile[4][kLanes];
    std::memcpy(tile, c, sizeof tile);
    for (int i = 0; i < kLanes; i++)
        for (int j = 0; j < 4; j++) words[4 * i + j] = tile[j][i];
}

// y = x * scale where the element's word >= threshold, else +0. Element i takes word i % 4 of counter + i / 4.
template <class T>
void dropout(const T* x, int64_t n, uint64_t counter, uint64_t key, uint32_t threshold, float scale, T* y) {
    for (int64_t first = 0; first < n; first += 4 * kLanes, counter += kLanes) {
        uint32_t words[4 * kLanes];
        philox(counter, key, words);
        const int64_t count = n - first < 4 * kLanes ? n - first : 4 * kLanes;
        for_column_blocks(count, [&](int64_t i, auto lanes) {
            u32x16 word;
            std::memcpy(&word, words + i, sizeof word);
            // The borrow of word - threshold is 1 where the word is smaller; a mask from it needs no comparison.
            const u32x16 borrow = ((~word & threshold) | ((~word | threshold) & (word - threshold))) >> 31;
            const f32x16 scaled = lanes.get(x + first + i) * scale;
            lanes.put(y + first + i, bit_cast<f32x16>(bit_cast<u32x16>(scaled) & (borrow - 1u)));
        });
    }
}

}  // namespace
}  // namespace fp16engine
