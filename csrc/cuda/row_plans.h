// Which team of threads works on a row, by its length.
#pragma once
#include "cuda/wide.h"
#include "kernels/rows.cuh"

namespace fp16engine::gpu {

struct Rows {
    int64_t count, K;
    explicit Rows(const ArrayView& x) : count(x.dim(-1) ? x.size() / x.dim(-1) : 0), K(x.dim(-1)) {}
};

// Longest rows held in registers: 8 values a thread, so that many warps fit, or 32.
constexpr int64_t kShortRow = 256, kWarpRow = 1024, kBlockRow = 8192;

// Calls body(plan) with the plan of rows of K values; wide: they may be moved by vectors.
template <class T, class Body>
void with_row_plan(int64_t K, bool wide, Body body) {
    constexpr int kVector = kWide<T>;
    if (wide && K <= kShortRow)
        body(RowPlan<kWarpSize, kVector, 8 / kVector>{});
    else if (wide && K <= kWarpRow)
        body(RowPlan<kWarpSize, kVector, 32 / kVector>{});
    else if (wide && K <= kBlockRow)
        body(RowPlan<kBlock, kVector, 32 / kVector>{});
    else if (wide)
        body(RowPlan<kBlock, kVector, 0>{});
    else if (K <= RowPlan<kWarpSize, 1, 8>::kMost)
        body(RowPlan<kWarpSize, 1, 8>{});
    else if (K <= RowPlan<kBlock, 1, 8>::kMost)
        body(RowPlan<kBlock, 1, 8>{});
    else
        body(RowPlan<kBlock, 1, 0>{});
}

// Sums in the documented order of binary16 are a warp's work, whatever the length.
template <class T, class Body>
void with_strict_plan(bool wide, Body body) {
    with_width<T>(wide, [&](auto width) { body(RowPlan<kWarpSize, decltype(width)::value, 0>{}); });
}

// Calls body(plan, std::bool_constant<half_accumulator>).
template <class T, class Body>
void with_plan(int64_t K, bool wide, bool half_accumulator, Body body) {
    with_accumulator<T>(half_accumulator, [&](auto half) {
        const auto with = [&](auto plan) { body(plan, half); };
        if constexpr (decltype(half)::value)
            with_strict_plan<T>(wide, with);
        else
            with_row_plan<T>(K, wide, with);
    });
}

template <class Plan>
unsigned row_grid(int64_t rows) {
    return grid_for(rows * Plan::kTeam, kBlock, 16);
}

}  // namespace fp16engine::gpu
