// Walks a (rows, C) slice in column blocks of sixteen lanes, the last one partial.
#pragma once
#include "cpu/simd/arithmetic.h"

namespace fp16engine {
namespace {

struct FullLanes {
    template <class T>
    FP16_INLINE auto get(const T* p) const {
        return load(p);
    }
    template <class T, class V>
    FP16_INLINE void put(T* p, V v) const {
        store(p, v);
    }
};

struct FirstLanes {
    int count;
    template <class T>
    FP16_INLINE auto get(const T* p) const {
        return load(p, count);
    }
    template <class T, class V>
    FP16_INLINE void put(T* p, V v) const {
        store(p, v, count);
    }
};

// Calls body(first column, lanes) for each block of columns.
template <class Body>
FP16_INLINE void for_column_blocks(int64_t C, Body body) {
    int64_t c = 0;
    for (; c + kLanes <= C; c += kLanes) body(c, FullLanes{});
    if (c < C) body(c, FirstLanes{static_cast<int>(C - c)});
}

// Sums of term(row) over the rows in four interleaved accumulators, folded as (0 + 1) + (2 + 3): the add latency is
// hidden and the order fixed.
template <class Term>
FP16_INLINE f32x16 sum_rows(int64_t rows, Term term) {
    f32x16 acc[4] = {};
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4)
        for (int k = 0; k < 4; k++) acc[k] += term(r + k);
    for (; r < rows; r++) acc[r & 3] += term(r);
    return (acc[0] + acc[1]) + (acc[2] + acc[3]);
}

}  // namespace
}  // namespace fp16engine
