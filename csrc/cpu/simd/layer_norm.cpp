// Layer normalisation along one row of K values. Terms of a sum are first written to a float buffer.
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

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

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<LayerNormKernels> layer_norm_kernels = {
    {squared_distances<half>, layer_norm_row<half>, layer_norm_terms<half>, layer_norm_gradient_row<half>,
     layer_norm_column_sums<half>},
    {squared_distances<float>, layer_norm_row<float>, layer_norm_terms<float>, layer_norm_gradient_row<float>,
     layer_norm_column_sums<float>},
    {squared_distances<bfloat16>, layer_norm_row<bfloat16>, layer_norm_terms<bfloat16>,
     layer_norm_gradient_row<bfloat16>, layer_norm_column_sums<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
