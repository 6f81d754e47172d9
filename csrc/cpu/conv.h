// Geometry of a 2-D convolution and the ways in which the CPU backend runs one.
#pragma once

#include "common/array_view.h"

namespace fp16engine::cpu {

// x (N, H, W, C), w (K, R, S, C / groups), y (N, OH, OW, K); pads: zeros around x.
struct ConvShape {
    int64_t N, H, W, C, K, R, S, OH, OW, stride_h, stride_w, top, bottom, left, right, groups;

    int64_t group_inputs() const { return C / groups; }
    int64_t group_outputs() const { return K / groups; }
    int64_t image_inputs() const { return H * W * C; }
    int64_t image_outputs() const { return OH * OW * K; }
    int64_t weights() const { return K * R * S * group_inputs(); }
};

struct ConvGradients {
    ArrayView dx, dw, db;  // absent ones are not computed
};

// Implicit matrix product: both accumulators, any machine.
void conv_product_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                          const ArrayView& y, int64_t accumulator);
void conv_product_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                           const ConvGradients& gradients, int64_t accumulator);

// Patches read in place from float rows; float32 accumulator, one group.
void conv_direct_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                         const ArrayView& y);
void conv_direct_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                          const ConvGradients& gradients);

// One filter per channel; float32 accumulator only.
bool conv_is_depthwise(const ConvShape& shape);
void conv_depthwise_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                            const ArrayView& y);
void conv_depthwise_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                             const ConvGradients& gradients);

// Winograd's algorithm with float32 accumulators, for 3x3 kernels at stride 1 in one group.
void conv_winograd_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                           const ArrayView& y);
void conv_winograd_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                            const ConvGradients& gradients);

}  // namespace fp16engine::cpu
