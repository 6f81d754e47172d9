// Every operation of the CPU backend: those of every module, and the dot products. `accumulator` of dot products: the
// number that cpu/packed_product.h explains.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common/array_view.h"
#include "common/weight_update.h"

namespace fp16engine::cpu {

#include "common/shared_ops.h"

// c = op(a) op(b) [+ bias along the last axis]; a (..., M, K) or (..., K, M) if transposed, b (..., K, N) or (..., N,
// K).
void matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
            bool transpose_b, int64_t accumulator);

// dw = dy^T x and, unless absent, db = the sum of dy over its rows; dy (M, out), x (M, in), dw (out, in), db (out,)
void linear_weight_gradient(const ArrayView& x, const ArrayView& dy, const ArrayView& dw, const ArrayView& db,
                            int64_t accumulator);

// x (N, H, W, C), w (K, R, S, C / groups), bias (K,) or absent, y (N, OH, OW, K)
void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, int64_t accumulator, bool winograd);
// Absent dx, dw or db are not computed.
void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                     const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups, int64_t accumulator, bool winograd);
// One line per distinct convolution run so far: shape, direction, implementation chosen.
std::vector<std::string> conv2d_implementations();

// c = (a @ b) * scale, the sums unrounded; a (..., M, K), b (..., K, N)
void scaled_product(const ArrayView& a, const ArrayView& b, const ArrayView& c, double scale, int64_t accumulator);

// FP32 multiply-adds on registers, on all threads; returns how many FLOPs they were.
int64_t multiply_adds(int64_t steps);

}  // namespace fp16engine::cpu
