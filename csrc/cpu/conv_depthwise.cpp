// Depthwise convolution, float32 accumulator: a row of pixels is a task, channels are the lanes of a register.
// The weight gradient is summed over slices of the batch, added in order.
#include <array>
#include <vector>

#include "cpu/conv.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kMaxTaps = 64, kColumns = 64, kTasks = 16;

PoolShape windows(const ConvShape& s) {
    return {s.H, s.W, s.C, s.OH, s.OW, s.R, s.S, s.stride_h, s.stride_w, s.top, s.left};
}

// The weights (C, R, S, 1) as floats (R * S, ld), and back.
template <class T>
void spread(const T* w, int64_t C, int64_t taps, int64_t ld, float* to) {
    std::fill_n(to, taps * ld, 0.0f);
    for (int64_t c = 0; c < C; c++)
        for (int64_t t = 0; t < taps; t++) to[t * ld + c] = to_float(w[c * taps + t]);
}

template <class T>
void gather(const float* from, int64_t C, int64_t taps, int64_t ld, T* w) {
    std::vector<float> line(static_cast<size_t>(taps));
    for (int64_t c = 0; c < C; c++) {
        for (int64_t t = 0; t < taps; t++) line[static_cast<size_t>(t)] = from[t * ld + c];
        from_floats(line.data(), w + c * taps, taps);
    }
}

using Taps = std::array<Tap, kMaxTaps>;

template <class T>
void forward(const ConvShape& s, const T* x, const T* w, const T* bias, T* y) {
    const int64_t ld = round_up(s.C, 16), taps = s.R * s.S;
    const Scratch weights((taps + 1) * ld);
    spread(w, s.C, taps, ld, weights.get());
    float* const biases = bias ? weights.get() + taps * ld : nullptr;
    if (bias) spread(bias, s.C, 1, ld, biases);
    parallel_for(s.N * s.OH, [&](int64_t row, int) {
        const T* const image = x + row / s.OH * s.image_inputs();
        const int64_t top = row % s.OH * s.stride_h - s.top;
        for (int64_t ow = 0; ow < s.OW; ow++) {
            const int64_t left = ow * s.stride_w - s.left;
            Taps read;
            size_t count = 0;
            for (int64_t kh = std::max<int64_t>(0, -top); kh < std::min(s.R, s.H - top); kh++)
                for (int64_t kw = std::max<int64_t>(0, -left); kw < std::min(s.S, s.W - left); kw++)
                    read[count++] = {((top + kh) * s.W + left + kw) * s.C, (kh * s.S + kw) * ld};
            kernels().depthwise(T{}).weigh_taps(image, read.data(), static_cast<int64_t>(count), s.C, weights.get(),
                                                biases, y + (row * s.OW + ow) * s.C);
        }
    });
}

template <class T>
void data_gradient(const ConvShape& s, const T* w, const T* dy, T* dx) {
    const int64_t ld = round_up(s.C, 16), taps = s.R * s.S;
    const Scratch weights(taps * ld);
    spread(w, s.C, taps, ld, weights.get());
    parallel_for(s.N * s.H, [&](int64_t row, int) {
        const T* const image = dy + row / s.H * s.image_outputs();
        for (int64_t v = 0; v < s.W; v++) {
            Taps read;
            size_t count = 0;
            for (int64_t kh = 0; kh < s.R; kh++) {
                const int64_t up = row % s.H + s.top - kh, oh = s.stride_h == 1 ? up : up / s.stride_h;
                if (up < 0 || oh >= s.OH || oh * s.stride_h != up) continue;
                for (int64_t kw = 0; kw < s.S; kw++) {
                    const int64_t across = v + s.left - kw, ow = s.stride_w == 1 ? across : across / s.stride_w;
                    if (across >= 0 && ow < s.OW && ow * s.stride_w == across)
                        read[count++] = {(oh * s.OW + ow) * s.C, (kh * s.S + kw) * ld};
                }
            }
            kernels().depthwise(T{}).weigh_taps(image, read.data(), static_cast<int64_t>(count), s.C, weights.get(),
                                                nullptr, dx + (row * s.W + v) * s.C);
        }
    });
}

template <class T>
void weight_gradient(const ConvShape& s, const T* x, const T* dy, T* dw) {
    const int64_t ld = round_up(s.C, 16), taps = s.R * s.S, chunks = (s.C + kColumns - 1) / kColumns;
    const int64_t lanes = std::min(s.N, std::max<int64_t>(1, kTasks / chunks)), images = (s.N + lanes - 1) / lanes;
    const Scratch sums(lanes * taps * ld);
    parallel_for(lanes * chunks, [&](int64_t task, int) {
        const int64_t lane = task / chunks, first = std::min(s.N, lane * images), c = task % chunks * kColumns;
        kernels().depthwise(T{}).weight_gradient(x + first * s.image_inputs() + c, dy + first * s.image_outputs() + c,
                                                 windows(s), std::min(images, s.N - first), std::min(kColumns, s.C - c),
                                                 sums.get() + lane * taps * ld + c, ld);
    });
    for (int64_t lane = 1; lane < lanes; lane++)
        for (int64_t t = 0; t < taps; t++)
            kernels().sums.accumulate(sums.get() + (lane * taps + t) * ld, sums.get() + t * ld, s.C);
    gather(sums.get(), s.C, taps, ld, dw);
}

}  // namespace

bool conv_is_depthwise(const ConvShape& s) {
    return s.groups > 1 && s.groups == s.C && s.groups == s.K && s.R * s.S <= kMaxTaps;
}

void conv_depthwise_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                            const ArrayView& y) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        forward(shape, x.as<T>(), w.as<T>(), bias.as<T>(), y.as<T>());
    });
}

void conv_depthwise_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                             const ConvGradients& gradients) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (gradients.dx) data_gradient(shape, w.as<T>(), dy.as<T>(), gradients.dx.as<T>());
        if (gradients.dw) weight_gradient(shape, x.as<T>(), dy.as<T>(), gradients.dw.as<T>());
    });
    if (gradients.db) conv_product_backward(shape, x, w, dy, {{}, {}, gradients.db}, 0);
}

}  // namespace fp16engine::cpu
