// Launches the depthwise convolutions of kernels/depthwise.cuh.
#include "kernels/depthwise.cuh"

#include <algorithm>
#include <climits>

#include "cuda/cooperative.h"
#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

constexpr int64_t kMaxSlices = 256, kMinSlice = 256;  // of the float weight gradient

// x (N, H, W, C), w (K, R, S, 1), y (N, OH, OW, K)
DepthwiseShape depthwise_shape(const ArrayView& x, const ArrayView& w, int64_t stride_h, int64_t stride_w,
                               const Pads& pads, int64_t groups) {
    const int64_t N = x.shape[0], H = x.shape[1], W = x.shape[2], C = x.shape[3], K = w.shape[0], R = w.shape[1],
                  S = w.shape[2];
    expect(groups == C && C > 0 && K % C == 0 && w.shape[3] == 1,
           "w must have one input channel per group of x " + x.describe() + ", got " + w.describe());
    const int64_t OH = (H + pads[0] + pads[1] - R) / stride_h + 1, OW = (W + pads[2] + pads[3] - S) / stride_w + 1;
    expect(N * H * W <= INT_MAX && N * OH * OW <= INT_MAX && R * S * K <= INT_MAX,
           "x must be small enough for 32-bit indices, got " + x.describe());
    expect(R * S * (K / C) < (int64_t{kStrictBlock} << kDepthwiseLevels),
           "w must have fewer than " + std::to_string(int64_t{kStrictBlock} << kDepthwiseLevels) +
               " terms a channel, got " + w.describe());
    DepthwiseShape s{};
    s.N = static_cast<int>(N);
    s.H = static_cast<int>(H);
    s.W = static_cast<int>(W);
    s.C = static_cast<int>(C);
    s.K = static_cast<int>(K);
    s.R = static_cast<int>(R);
    s.S = static_cast<int>(S);
    s.OH = static_cast<int>(OH);
    s.OW = static_cast<int>(OW);
    s.stride_h = static_cast<int>(stride_h);
    s.stride_w = static_cast<int>(stride_w);
    s.top = static_cast<int>(pads[0]);
    s.left = static_cast<int>(pads[2]);
    s.multiplier = static_cast<int>(K / C);
    return s;
}

// Blocks over pixels and over channels.
Dim3 pixel_grid(int64_t pixels, int64_t channels, int width) {
    const int64_t chunks = ceil_divide(channels, kDepthwiseChannels), at_once = kBlock / (kDepthwiseChannels / width);
    const int64_t most = std::max<int64_t>(1, 8 * multiprocessors() / chunks);
    return Dim3(static_cast<unsigned>(std::min(most, ceil_divide(pixels, at_once))), static_cast<unsigned>(chunks));
}

// Calls body(T{}, width, half) with constants; the binary16 accumulator goes channel by channel.
template <class Body>
void with_types(const ArrayView& x, bool vectors, bool half_accumulator, Body body) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (sizeof(T) == 2 && half_accumulator)
            body(__half{}, std::integral_constant<int, 1>{}, std::true_type{});
        else
            with_width<T>(vectors, [&](auto width) { body(type, width, std::false_type{}); });
    });
}

void data_gradient(const ArrayView& w, const ArrayView& dy, const ArrayView& dx, const DepthwiseShape& s,
                   bool half_accumulator) {
    const bool vectors = s.multiplier == 1 && by_vectors(s.C, {&dy, &dx});
    with_types(dy, vectors, half_accumulator, [&](auto type, auto width, auto half) {
        using T = decltype(type);
        constexpr int kWidth = decltype(width)::value;
        constexpr bool kHalf = decltype(half)::value;
        const auto ws = pointer<const T>(w), dys = pointer<const T>(dy);
        const auto dxs = pointer<T>(dx);
        const Dim3 grid = pixel_grid(int64_t{s.N} * s.H * s.W, s.C, kWidth);
        FP16_LAUNCH((depthwise_data_gradient_kernel<T, kWidth, kHalf>), grid, kBlock, ws, dys, dxs, s);
    });
}

void strict_weight_gradient(const ArrayView& x, const ArrayView& dy, const ArrayView& dw, const DepthwiseShape& s) {
    const int64_t outputs = int64_t{s.taps()} * s.K, blocks = ceil_divide(s.outputs(), kStrictBlock);
    const int taps = s.taps(), K = s.K;
    const Workspace workspace(blocks * outputs + 1);
    const Ptr<float> partial = workspace.get();
    const auto xs = pointer<const __half>(x), dys = pointer<const __half>(dy);
    const auto dws = pointer<__half>(dw);
    if (blocks)
        FP16_LAUNCH((depthwise_strict_block_kernel<__half>), grid_for(blocks * outputs), kBlock, xs, dys, partial, s);
    FP16_LAUNCH((depthwise_strict_merge_kernel<__half>), grid_for(outputs * kWarpSize), kBlock, partial, dws, blocks,
                taps, K);
}

// The gradient of w, and that of x unless it is absent.
void gradients(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx, const ArrayView& dw,
               const DepthwiseShape& s) {
    const int64_t pixels = s.outputs(), taps = s.taps(), outputs = taps * s.K;
    const int64_t per_slice = std::max(kMinSlice, ceil_divide(pixels, kMaxSlices)),
                  slices = ceil_divide(pixels, per_slice);
    const Workspace workspace(slices * outputs + 1);
    const Ptr<float> partial = workspace.get();
    const bool vectors = s.multiplier == 1 && (dx ? by_vectors(s.C, {&dy, &dx}) : by_vectors(s.C, {&dy}));
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        with_width<T>(vectors, [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            const auto xs = pointer<const T>(x), ws = pointer<const T>(w), dys = pointer<const T>(dy);
            const auto dxs = pointer<T>(dx), dws = pointer<T>(dw);
            const int per = static_cast<int>(per_slice), count = static_cast<int>(slices);
            const int64_t places = slices * ceil_divide(s.K, kDepthwiseChannels) * ceil_divide(taps, kTapGroup);
            const Dim3 grid = pixel_grid(dx ? int64_t{s.N} * s.H * s.W : 1, s.C, kWidth);
            const int64_t blocks = std::max({places, ceil_divide(outputs, kWarpSize), int64_t{grid.x} * grid.y});
            FP16_LAUNCH_COOPERATIVE((depthwise_backward_kernel<T, kWidth>), blocks, kBlock, xs, ws, dys, partial, dxs,
                                    dws, s, per, count);
        });
    });
}

}  // namespace

void depthwise_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y,
                       int64_t stride_h, int64_t stride_w, const Pads& pads, int64_t groups, bool half_accumulator) {
    const DepthwiseShape s = depthwise_shape(x, w, stride_h, stride_w, pads, groups);
    if (y.size() == 0) return;
    const bool vectors = s.multiplier == 1 && by_vectors(s.C, {&x, &y});
    with_types(x, vectors, half_accumulator, [&](auto type, auto width, auto half) {
        using T = decltype(type);
        constexpr int kWidth = decltype(width)::value;
        constexpr bool kHalf = decltype(half)::value;
        const auto xs = pointer<const T>(x), ws = pointer<const T>(w), bs = pointer<const T>(bias);
        const auto ys = pointer<T>(y);
        const Dim3 grid = pixel_grid(s.outputs(), s.K, kWidth);
        FP16_LAUNCH((depthwise_forward_kernel<T, kWidth, kHalf>), grid, kBlock, xs, ws, bs, ys, s);
    });
}

void depthwise_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                        const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w, const Pads& pads,
                        int64_t groups, bool half_accumulator) {
    const DepthwiseShape s = depthwise_shape(x, w, stride_h, stride_w, pads, groups);
    const bool image = dx && dx.size() > 0, weights = dw && dw.size() > 0, together = weights && !half_accumulator;
    if (image && !together) data_gradient(w, dy, dx, s, half_accumulator);
    if (together) gradients(x, w, dy, image ? dx : ArrayView{}, dw, s);
    if (weights && half_accumulator) strict_weight_gradient(x, dy, dw, s);
    if (db) reduce("sum", dy, db, 1, s.outputs(), s.K, half_accumulator);
}

}  // namespace fp16engine::gpu
