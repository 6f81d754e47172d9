// Sums of float buffers, whatever they hold: down their columns and along their rows.
#include "cpu/simd/blocked_sum.h"
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

FP16_KERNEL void accumulate(const float* x, float* y, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, load(y + i) + load(x + i));
    for (; i < n; i++) y[i] += x[i];
}

FP16_KERNEL void column_sums(const float* x, int64_t rows, int64_t C, float* sums) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        const f32x16 total = sum_rows(rows, [&](int64_t r) { return lanes.get(x + r * C + c); });
        lanes.put(sums + c, lanes.get(sums + c) + total);
    });
}

// sums[i] = sum of row i of terms (rows, K); sixteen partial sums per row, then a fixed tree.
FP16_KERNEL void row_sums(const float* terms, int64_t rows, int64_t K, float* sums) {
    for (int64_t i = 0; i < rows; i++) {
        const float* const row = terms + i * K;
        const int64_t full = K / kLanes;
        f32x16 sum = sum_rows(full, [&](int64_t r) { return load(row + r * kLanes); });
        if (K % kLanes) sum += load(row + full * kLanes, static_cast<int>(K % kLanes));
        sums[i] = lane_sum(sum);
    }
}

// The binary16 sums of at most sixteen rows, one row per lane; `products`: terms are exact products of two stored
// values.
FP16_KERNEL void strict_row_sums(const float* terms, int64_t rows, int64_t K, bool products, bool halved, float scale,
                                 float* sums) {
    BlockedSum<true> sum(halved);
    float column[kLanes] = {};
    for (int64_t k = 0; k < K; k++) {
        for (int64_t i = 0; i < rows; i++) column[i] = terms[i * K + k];
        if (products)
            sum.add_product(load(column));
        else
            sum.add(load(column) * scale);
    }
    store(sums, sum.finish() / scale, static_cast<int>(rows));
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const SumKernels sum_kernels = {accumulate, column_sums, row_sums, strict_row_sums};

}  // namespace fp16engine::cpu::FP16_ISA
