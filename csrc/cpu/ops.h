// Every operation of the CPU backend. Outputs are given by the caller and overwritten; arguments: inputs, outputs, sizes, policy.
// `half_accumulator`: true when the policy accumulates in binary16 (fp16-strict), false for float32 accumulators.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common/array_view.h"

namespace fp16engine::cpu {

using Pads = std::vector<int64_t>;  // top, bottom, left, right

// c = op(a) op(b) [+ bias along the last axis]; a (..., M, K) or (..., K, M) if transposed, b (..., K, N) or (..., N, K).
void matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
            bool transpose_b, bool half_accumulator);

// x (N, H, W, C), w (K, R, S, C / groups), bias (K,) or absent, y (N, OH, OW, K)
void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, bool half_accumulator);
// Absent dx, dw or db are not computed.
void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx, const ArrayView& dw,
                     const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads, int64_t groups,
                     bool half_accumulator);
// One line per distinct convolution run so far: shape, direction, implementation chosen.
std::vector<std::string> conv2d_implementations();

// x y dx dy (..., C); the per-channel vectors (C,) are all of one dtype, the statistics' one.
void batch_norm_forward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& running_mean,
                        const ArrayView& running_var, const ArrayView& y, const ArrayView& mean, const ArrayView& inv_std,
                        double momentum, double eps, bool relu, bool half_accumulator);
void batch_norm_inference(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& running_mean,
                          const ArrayView& running_var, const ArrayView& y, double eps, bool relu);
void batch_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& mean,
                         const ArrayView& inv_std, const ArrayView& dy, const ArrayView& dx, const ArrayView& dgamma,
                         const ArrayView& dbeta, bool relu, bool half_accumulator);

}  // namespace fp16engine::cpu
