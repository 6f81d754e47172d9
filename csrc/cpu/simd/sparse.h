// Sums of scattered rows, and dropout.
#pragma once
#include "cpu/simd/columns.h"
#include "cpu/simd/philox.h"

namespace fp16engine {
namespace {

// y (K,) = sum of the rows x[order[j]] in the order given.
template <class T>
FP16_KERNEL void sum_of_rows(const T* x, int64_t K, const int64_t* order, int64_t count, bool half_accumulator, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        f32x16 sum = {};
        for (int64_t j = 0; j < count; j++) {
            sum = sum + lanes.get(x + order[j] * K + k);
            if (half_accumulator) sum = round_half(sum);
        }
        lanes.put(y + k, sum);
    });
}

// y = x * scale where the element's word >= threshold, else +0. Element i takes word i % 4 of counter + i / 4.
template <class T>
FP16_KERNEL void dropout(const T* x, int64_t n, uint64_t counter, uint64_t key, uint32_t threshold, float scale, T* y) {
    for (int64_t first = 0; first < n; first += 4 * kLanes, counter += kLanes) {
        uint32_t words[4 * kLanes];
        philox(counter, 0, 0, key, words);
        const int64_t count = n - first < 4 * kLanes ? n - first : 4 * kLanes;
        for_column_blocks(count, [&](int64_t i, auto lanes) {
            const f32x16 scaled = lanes.get(x + first + i) * scale;
            lanes.put(y + first + i, select(load(words + i) >= threshold, scaled, f32x16{}));
        });
    }
}

}  // namespace
}  // namespace fp16engine
