// Visits the rows of a (rows, K) array with a float buffer for the terms of their sums.
#pragma once
#include "cpu/packed_product.h"

namespace fp16engine::cpu {

constexpr int kGroup = 16;  // binary16 sums take sixteen rows at a time, one per lane

// body(first row, count, terms): count rows, `buffers` buffers of (count, K) floats one after the other.
template <class Body>
void for_row_groups(int64_t rows, int64_t K, bool half_accumulator, int buffers, Body body) {
    const int64_t group = half_accumulator ? kGroup : 1;
    const int64_t slice = round_up(std::max<int64_t>(1, 16384 / std::max<int64_t>(K, 1)), kGroup);
    parallel_slices(rows, slice, [&](int64_t begin, int64_t end) {
        const Scratch scratch(buffers * group * K);
        for (int64_t first = begin; first < end; first += group)
            body(first, std::min(group, end - first), scratch.get());
    });
}

// sums[i] = sum of row i of terms (count, K). `products`: a term is the product of two stored values.
inline void sum_terms(const float* terms, int64_t count, int64_t K, bool half_accumulator, bool products, float* sums) {
    if (half_accumulator)
        kernels().sums.strict_rows(terms, count, K, products, false, 1.0f, sums);
    else
        kernels().sums.rows(terms, count, K, sums);
}

// means[i] = mean of row i of terms (count, K); binary16 terms are added times `scale`, a power of two.
inline void average_terms(const float* terms, int64_t count, int64_t K, bool half_accumulator, float scale,
                          float* means) {
    if (half_accumulator)
        kernels().sums.strict_rows(terms, count, K, false, true, scale, means);
    else
        kernels().sums.rows(terms, count, K, means);
    for (int64_t i = 0; i < count; i++) means[i] /= static_cast<float>(K);
}

}  // namespace fp16engine::cpu
