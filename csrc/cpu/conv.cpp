#include "cpu/conv.h"

#include "cpu/ops.h"

namespace fp16engine::cpu {
namespace {

ConvShape conv_shape(const ArrayView& x, const ArrayView& w, const ArrayView& y, int64_t stride_h, int64_t stride_w,
                     const Pads& pads, int64_t groups) {
    expect(x.ndim == 4, "x must be (N, H, W, C), got " + x.describe());
    expect(w.ndim == 4, "w must be (out, kh, kw, in / groups), got " + w.describe());
    expect(pads.size() == 4, "pads must be 4 numbers, got " + std::to_string(pads.size()));
    const ConvShape s = {x.shape[0],
                         x.shape[1],
                         x.shape[2],
                         x.shape[3],
                         w.shape[0],
                         w.shape[1],
                         w.shape[2],
                         y.ndim == 4 ? y.shape[1] : 0,
                         y.ndim == 4 ? y.shape[2] : 0,
                         stride_h,
                         stride_w,
                         pads[0],
                         pads[1],
                         pads[2],
                         pads[3],
                         groups};
    expect(groups > 0 && s.C % groups == 0 && s.K % groups == 0 && w.shape[3] == s.group_inputs(),
           "w must match x " + x.describe() + " in " + std::to_string(groups) + " groups, got " + w.describe());
    expect_shape(
        "y", y,
        {s.N, (s.H + s.top + s.bottom - s.R) / stride_h + 1, (s.W + s.left + s.right - s.S) / stride_w + 1, s.K});
    expect_dtype("w", w, x.dtype);
    expect_dtype("y", y, x.dtype);
    return s;
}

}  // namespace

std::string ConvShape::describe() const {
    const auto text = [](int64_t n) { return std::to_string(n); };
    return text(R) + "x" + text(S) + "/" + text(stride_h) + " " + text(C) + "->" + text(K) + " at " + text(H) + "x" +
           text(W) + (groups > 1 ? " groups " + text(groups) : "");
}

void conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y, int64_t stride_h,
                    int64_t stride_w, const Pads& pads, int64_t groups, int64_t accumulator) {
    const ConvShape shape = conv_shape(x, w, y, stride_h, stride_w, pads, groups);
    if (bias) expect_shape("bias", bias, {shape.K});
    if (y.size() == 0) return;
    if (accumulator || !conv_onednn_forward(shape, x, w, bias, y))
        conv_product_forward(shape, x, w, bias, y, accumulator);
}

void conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                     const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                     int64_t groups, int64_t accumulator) {
    const ConvShape shape = conv_shape(x, w, dy, stride_h, stride_w, pads, groups);
    // An empty batch has gradients too: sums of nothing.
    if (accumulator || shape.N == 0 || !conv_onednn_backward(shape, x, w, dy, {dx, dw, db}))
        conv_product_backward(shape, x, w, dy, {dx, dw, db}, accumulator);
}

std::vector<std::string> conv2d_implementations() { return conv_onednn_implementations(); }

}  // namespace fp16engine::cpu
