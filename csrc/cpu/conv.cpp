#include "cpu/conv.h"

#include "cpu/ops.h"

namespace fp16engine::cpu {
namespace {

ConvShape conv_shape(const ArrayView& x, const ArrayView& w, const ArrayView& y, int64_t stride_h, int64_t stride_w,
                     const Pads& pads, int64_t groups) {
    return {x.shape[0], x.shape[1], x.shape[2], x.shape[3], w.shape[0], w.shape[1], w.shape[2], y.shape[1],
            y.shape[2], stride_h,   stride_w,   pads[0],    pads[1],    pads[2],    pads[3],    groups};
}

enum class Path { winograd, depthwise, direct, product };

// By shape alone, and not by the batch, so that the bits follow neither threads nor batch. Where the weights outweigh
// an image, the packed product, which divides pixels and channels alike, takes 0.6 to 1.0 of the direct path's time;
// elsewhere gathering patches costs more than is won. Measured by benchmarks/compare_builds.py. Binary16 accumulators
// and several groups are the product's.
Path choose(const ConvShape& s, int64_t accumulator, bool winograd) {
    if (s.N == 0 || s.C == 0 || accumulator) return Path::product;
    if (winograd) return Path::winograd;
    if (conv_is_depthwise(s)) return Path::depthwise;
    const int64_t image = s.image_inputs() + s.image_outputs(), positions = s.R * s.S;
    const bool heavy = positions <= 9 && s.weights() >= (positions == 1 ? 1 : 6) * image;
    return s.groups > 1 || heavy ? Path::product : Path::direct;
}

}  // namespace

void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, int64_t accumulator, bool winograd) {
    const ConvShape shape = conv_shape(x, w, y, stride_h, stride_w, pads, groups);
    if (y.size() == 0) return;
    switch (choose(shape, accumulator, winograd)) {
        case Path::winograd:
            return conv_winograd_forward(shape, x, w, bias, y);
        case Path::depthwise:
            return conv_depthwise_forward(shape, x, w, bias, y);
        case Path::direct:
            return conv_direct_forward(shape, x, w, bias, y);
        case Path::product:
            return conv_product_forward(shape, x, w, bias, y, accumulator);
    }
}

void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                     const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups, int64_t accumulator, bool winograd) {
    const ConvShape shape = conv_shape(x, w, dy, stride_h, stride_w, pads, groups);
    const ConvGradients gradients{dx, dw, db};
    // An empty batch has gradients too: sums of nothing, which are the product's.
    switch (dy.size() > 0 ? choose(shape, accumulator, winograd) : Path::product) {
        case Path::winograd:
            return conv_winograd_backward(shape, x, w, dy, gradients);
        case Path::depthwise:
            return conv_depthwise_backward(shape, x, w, dy, gradients);
        case Path::direct:
            return conv_direct_backward(shape, x, w, dy, gradients);
        case Path::product:
            return conv_product_backward(shape, x, w, dy, gradients, accumulator);
    }
}

}  // namespace fp16engine::cpu
