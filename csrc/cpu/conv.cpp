#include "cpu/conv.h"

#include <cstdlib>
#include "cpu/ops.h"

namespace fp16engine::cpu {
namespace {

ConvShape conv_shape(const ArrayView& x, const ArrayView& w, const ArrayView& y, int64_t stride_h, int64_t stride_w,
                     const Pads& pads, int64_t groups) {
    return {x.shape[0], x.shape[1], x.shape[2], x.shape[3], w.shape[0], w.shape[1], w.shape[2], y.shape[1],
            y.shape[2], stride_h,   stride_w,   pads[0],    pads[1],    pads[2],    pads[3],    groups};
}

// Where the weights outweigh an image, oneDNN's tasks of whole images are few and read all weights each; our product
// divides pixels and channels alike. The choice does not look at the batch, so neither do the bits. Measured by
// `bench step`: 1.0 to 6 times as fast; with more positions of the filter, gathering costs more than is won.
bool product_is_faster(const ConvShape& s) {
    const int64_t image = s.image_inputs() + s.image_outputs(), positions = s.R * s.S;
    return (!getenv("DIRECT") || getenv("ONEDNN")) && s.groups == 1 && positions <= 9 &&
           s.weights() >= (positions == 1 ? 1 : 6) * image;
}

// By the same benchmark oneDNN's gradient of the weights on images of up to 2x2 pixels takes 35 times as long and more;
// on large images it is faster.
bool depthwise_is_faster(const ConvShape& s) { return conv_is_depthwise(s) && !getenv("ONEDNN"); }

}  // namespace

std::string ConvShape::describe() const {
    const auto text = [](int64_t n) { return std::to_string(n); };
    return text(R) + "x" + text(S) + "/" + text(stride_h) + " " + text(C) + "->" + text(K) + " at " + text(H) + "x" +
           text(W) + (groups > 1 ? " groups " + text(groups) : "");
}

void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, int64_t accumulator, bool winograd) {
    const ConvShape shape = conv_shape(x, w, y, stride_h, stride_w, pads, groups);
    if (y.size() == 0) return;
    if (winograd && shape.C > 0)
        conv_winograd_forward(shape, x, w, bias, y);
    else if (!accumulator && depthwise_is_faster(shape))
        conv_depthwise_forward(shape, x, w, bias, y);
    else if (!accumulator && shape.groups == 1 && shape.C > 0 && !product_is_faster(shape) && !getenv("ONEDNN"))
        conv_direct_forward(shape, x, w, bias, y);
    else if (accumulator || product_is_faster(shape) || !conv_onednn_forward(shape, x, w, bias, y))
        conv_product_forward(shape, x, w, bias, y, accumulator);
}

void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                     const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups, int64_t accumulator, bool winograd) {
    const ConvShape shape = conv_shape(x, w, dy, stride_h, stride_w, pads, groups);
    // An empty batch has gradients too: sums of nothing.
    if (winograd && dy.size() > 0 && shape.C > 0)
        conv_winograd_backward(shape, x, w, dy, {dx, dw, db});
    else if (!accumulator && shape.N > 0 && depthwise_is_faster(shape))
        conv_depthwise_backward(shape, x, w, dy, {dx, dw, db});
    else if (!accumulator && shape.groups == 1 && shape.C > 0 && dy.size() > 0 && !product_is_faster(shape) &&
             !getenv("ONEDNN"))
        conv_direct_backward(shape, x, w, dy, {dx, dw, db});
    else if (accumulator || shape.N == 0 || product_is_faster(shape) ||
             !conv_onednn_backward(shape, x, w, dy, {dx, dw, db}))
        conv_product_backward(shape, x, w, dy, {dx, dw, db}, accumulator);
}

std::vector<std::string> conv2d_implementations() { return conv_onednn_implementations(); }

}  // namespace fp16engine::cpu
