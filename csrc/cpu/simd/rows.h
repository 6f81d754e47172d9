// Loops along one row (the last axis): sums, softmax and layer normalisation. Terms of a sum are first written to a
// float buffer.
#pragma once
#include "cpu/simd/blocked_sum.h"
#include "cpu/simd/columns.h"
#include "cpu/simd/math.h"

namespace fp16engine {
namespace {

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

// NaN may be passed over: it meets the result again in x - max.
template <class T>
FP16_KERNEL float row_max(const T* x, int64_t K) {
    f32x16 best = -kInfinity;
    int64_t k = 0;
    for (; k + kLanes <= K; k += kLanes) {
        const f32x16 value = load(x + k);
        best = select(value > best, value, best);
    }
    float lanes[2 * kLanes];
    store(lanes, best);
    const int tail = static_cast<int>(K - k);
    store(lanes + kLanes, load(x + k, tail));
    float result = lanes[0];
    for (int i = 1; i < kLanes + tail; i++) result = lanes[i] > result ? lanes[i] : result;
    return result;
}

// terms = exp(x - max)
template <class T>
FP16_KERNEL void exp_terms(const T* x, int64_t K, float max, float* terms) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(terms + k, vexp(lanes.get(x + k) - max)); });
}

// terms = a * b
template <class T>
FP16_KERNEL void product_terms(const T* a, const T* b, int64_t K, float* terms) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(terms + k, lanes.get(a + k) * lanes.get(b + k)); });
}

// y = terms / sum
template <class T>
FP16_KERNEL void softmax_row(const float* terms, int64_t K, float sum, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(y + k, lanes.get(terms + k) / sum); });
}

// dx = y * (dy - sum)
template <class T>
FP16_KERNEL void softmax_gradient_row(const T* y, const T* dy, int64_t K, float sum, T* dx) {
    for_column_blocks(K,
                      [&](int64_t k, auto lanes) { lanes.put(dx + k, lanes.get(y + k) * (lanes.get(dy + k) - sum)); });
}

// y = (x - max) - log_sum
template <class T>
FP16_KERNEL void log_softmax_row(const T* x, int64_t K, float max, float log_sum, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(y + k, (lanes.get(x + k) - max) - log_sum); });
}

// dx = dy - exp(y) * sum
template <class T>
FP16_KERNEL void log_softmax_gradient_row(const T* y, const T* dy, int64_t K, float sum, T* dx) {
    for_column_blocks(
        K, [&](int64_t k, auto lanes) { lanes.put(dx + k, lanes.get(dy + k) - vexp(lanes.get(y + k)) * sum); });
}

// dx = (terms / sum - (`on` at the label, else `off`)) * scale
template <class T>
FP16_KERNEL void cross_entropy_gradient_row(const float* terms, int64_t K, float sum, int64_t label, float on,
                                            float off, float scale, T* dx) {
    for_column_blocks(K, [&](int64_t k, auto lanes) { lanes.put(dx + k, (lanes.get(terms + k) / sum - off) * scale); });
    store(dx + label, f32x16((terms[label] / sum - on) * scale), 1);
}

FP16_KERNEL void log_floats(const float* x, float* y, int64_t n) {
    for_column_blocks(n, [&](int64_t i, auto lanes) { lanes.put(y + i, vlog(lanes.get(x + i))); });
}

// terms = (x - mean)^2
template <class T>
FP16_KERNEL void squared_distances(const T* x, int64_t K, float mean, float* terms) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        const f32x16 distance = lanes.get(x + k) - mean;
        lanes.put(terms + k, distance * distance);
    });
}

template <class T>
FP16_KERNEL void layer_norm_row(const T* x, int64_t K, float mean, float inv_std, const float* gamma, const float* beta,
                                T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        f32x16 t = lanes.get(x + k) - mean;
        t = t * inv_std;
        t = t * lanes.get(gamma + k);
        lanes.put(y + k, t + lanes.get(beta + k));
    });
}

// scaled = dy * gamma, weighted = scaled * xhat
template <class T>
FP16_KERNEL void layer_norm_terms(const T* x, const T* dy, int64_t K, float mean, float inv_std, const float* gamma,
                                  float* scaled, float* weighted) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        const f32x16 g = lanes.get(dy + k) * lanes.get(gamma + k);
        lanes.put(scaled + k, g);
        lanes.put(weighted + k, g * ((lanes.get(x + k) - mean) * inv_std));
    });
}

// dx = inv_std * ((scaled - offset) - xhat * slope)
template <class T>
FP16_KERNEL void layer_norm_gradient_row(const T* x, const float* scaled, int64_t K, float mean, float inv_std,
                                         float offset, float slope, T* dx) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        const f32x16 xhat = (lanes.get(x + k) - mean) * inv_std;
        lanes.put(dx + k, inv_std * ((lanes.get(scaled + k) - offset) - xhat * slope));
    });
}

// Column sums over `rows` rows of dy and of dy * xhat, both overwritten. kHalf: one block of at most 32 rows, binary16
// partial sums.
template <class T, bool kHalf>
FP16_INLINE void layer_norm_columns(const T* x, const T* dy, int64_t rows, int64_t K, const float* mean,
                                    const float* inv_std, float* dbeta, float* dgamma) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        f32x16 sum = {}, weighted = {};
        for (int64_t r = 0; r < rows; r++) {
            const f32x16 g = lanes.get(dy + r * K + k);
            sum = sum + g;
            weighted = weighted + g * ((lanes.get(x + r * K + k) - mean[r]) * inv_std[r]);
            if (kHalf) sum = round_half(sum), weighted = round_half(weighted);
        }
        lanes.put(dbeta + k, sum);
        lanes.put(dgamma + k, weighted);
    });
}

template <class T>
FP16_KERNEL void layer_norm_column_sums(const T* x, const T* dy, int64_t rows, int64_t K, const float* mean,
                                        const float* inv_std, bool half_accumulator, float* dbeta, float* dgamma) {
    if (half_accumulator)
        layer_norm_columns<T, true>(x, dy, rows, K, mean, inv_std, dbeta, dgamma);
    else
        layer_norm_columns<T, false>(x, dy, rows, K, mean, inv_std, dbeta, dgamma);
}

}  // namespace
}  // namespace fp16engine
