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

// The 64-bit products of sixteen words with a constant, in halves.
FP16_INLINE void multiply_wide(const uint32_t* words, uint32_t factor, uint32_t* high, uint32_t* low) {
    for (int i = 0; i < kLanes; i++) {
        const uint64_t product = static_cast<uint64_t>(words[i]) * factor;
        high[i] = static_cast<uint32_t>(product >> 32);
        low[i] = static_cast<uint32_t>(product);
    }
}

// words[4 * i + j] = word j of counter + i.
FP16_INLINE void philox(uint64_t counter, uint64_t key, uint32_t* words) {
    uint32_t c[4][kLanes];
    for (int i = 0; i < kLanes; i++) {
        c[0][i] = static_cast<uint32_t>(counter + static_cast<uint64_t>(i));
        c[1][i] = static_cast<uint32_t>((counter + static_cast<uint64_t>(i)) >> 32);
        c[2][i] = c[3][i] = 0;
    }
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint32_t high0[kLanes], low0[kLanes], high2[kLanes], low2[kLanes];
        multiply_wide(c[0], 0xD2511F53u, high0, low0);
        multiply_wide(c[2], 0xCD9E8D57u, high2, low2);
        for (int i = 0; i < kLanes; i++) {
            c[0][i] = high2[i] ^ c[1][i] ^ k0;
            c[1][i] = low2[i];
            c[2][i] = high0[i] ^ c[3][i] ^ k1;
            c[3][i] = low0[i];
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < kLanes; i++)
        for (int j = 0; j < 4; j++) words[4 * i + j] = c[j][i];
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
            lanes.put(y + first + i, word >= threshold ? lanes.get(x + first + i) * scale : f32x16{});
        });
    }
}

}  // namespace
}  // namespace fp16engine
