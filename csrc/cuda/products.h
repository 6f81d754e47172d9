// Matrix products and convolutions of the GPU backend, by cuBLASLt and cuDNN; the meaning is that of cpu/ops.h.
// The accumulator of a dot product is float32, or binary16 where `half_accumulator` (float16 arrays only: a library
// that accepts it has promised nothing, so who calls this has proof, or uses the kernels of strict_product.cu); float32
// arrays are multiplied as IEEE float32 unless `tf32` lets their factors be rounded to 10 bits. Nothing is accumulated
// in less than asked: partial sums of a split dot product are added in the accumulator's type, and engines that round
// or convert are left out. The libraries' order of summation is theirs: fixed for a plan, not the documented one.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "common/array_view.h"

namespace fp16engine::gpu {

using Pads = std::vector<int64_t>;  // top, bottom, left, right

enum class Compute { float32, tf32, float16 };

// The compute type of a call.
inline Compute compute_type(DType dtype, bool half_accumulator, bool tf32) {
    expect(!tf32 || dtype == DType::float32, "tf32 must be false for float16 arrays, got true");
    return half_accumulator ? Compute::float16 : tf32 ? Compute::tf32 : Compute::float32;
}

// c = op(a) op(b) [+ bias along the last axis]; a (..., M, K) or (..., K, M) if transposed, b (..., K, N) or (..., N,
// K).
void matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
            bool transpose_b, bool half_accumulator, bool tf32);
// c = (a @ b) * scale, rounded once; a (..., M, K), b (..., K, N)
void scaled_product(const ArrayView& a, const ArrayView& b, const ArrayView& c, double scale, bool half_accumulator,
                    bool tf32);
// dw = dy^T x and, unless absent, db = the sum of dy over its rows; dy (M, out), x (M, in), dw (out, in), db (out,)
void linear_weight_gradient(const ArrayView& x, const ArrayView& dy, const ArrayView& dw, const ArrayView& db,
                            bool half_accumulator, bool tf32);
// One line per distinct matrix product run so far: sizes, compute type, algorithm, workspace.
std::vector<std::string> matmul_implementations();

// x (N, H, W, C), w (K, R, S, C / groups), bias (K,) or absent, y (N, OH, OW, K)
void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, bool half_accumulator, bool tf32);
// Absent dx, dw or db are not computed.
void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                     const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups, bool half_accumulator, bool tf32);
// One line per distinct convolution run so far: shape, direction, compute type, engine, workspace.
std::vector<std::string> conv2d_implementations();

// Versions of the opened libraries, opening them: major * 10000 + minor * 100 + patch.
size_t cublaslt_version();
size_t cudnn_version();
// The current device as cuDNN sees it, in JSON: what a check without a GPU needs to plan for it (testing/devices.json).
std::string cudnn_device_properties();

}  // namespace fp16engine::gpu
