// Convolution as an implicit matrix product: patches are gathered into tiles, never stored as a whole.
// Index order of every dot product: forward (kh, kw, c), data gradient (kh, kw, k), weight gradient (n, oh, ow);
// positions outside the image, or between strides, are terms with a factor of zero.
#include "cpu/conv.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

// Copies the channels of one position, or zeros where there is none.
template <class T>
void gather(const T* source, bool inside, int64_t n, float* to) {
    if (inside)
        to_floats(source, to, n);
    else
        std::fill(to, to + n, 0.0f);
}

// Splits a run of (kernel position, channel) indices at the channel boundaries: body(position, channel, count, offset).
template <class Body>
void for_runs(int64_t first, int64_t count, int64_t channels, const Body& body) {
    for (int64_t done = 0; done < count;) {
        const int64_t channel = (first + done) % channels, n = std::min(channels - channel, count - done);
        body((first + done) / channels, channel, n, done);
        done += n;
    }
}

// The (channels, positions) weights of one group as a (positions x channels) operand.
template <class T>
void pack_transposed_weights(const T* w, int64_t row, int64_t k0, int64_t k, int64_t n0, int64_t n, int64_t ld,
                             float* tile) {
    for (int64_t p = 0; p < k; p++) {
        for (int64_t j = 0; j < n; j++) tile[p * ld + j] = to_float(w[(n0 + j) * row + k0 + p]);
        std::fill(tile + p * ld + n, tile + (p + 1) * ld, 0.0f);
    }
}

template <class T>
void forward(const ConvShape& s, const T* x, const T* w, const T* bias, T* y, int64_t accumulator) {
    const int64_t Cg = s.group_inputs(), Kg = s.group_outputs(), depth = s.R * s.S * Cg;
    for (int64_t g = 0; g < s.groups; g++) {
        const T* const wg = w + g * Kg * depth;
        const auto pack_a = [&](int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
            for (int64_t i = 0; i < m; i++) {
                const int64_t pixel = m0 + i, n = pixel / (s.OH * s.OW), oh = pixel / s.OW % s.OH, ow = pixel % s.OW;
                for_runs(k0, k, Cg, [&](int64_t position, int64_t c, int64_t count, int64_t offset) {
                    const int64_t h = oh * s.stride_h - s.top + position / s.S,
                                  v = ow * s.stride_w - s.left + position % s.S;
                    const bool inside = h >= 0 && h < s.H && v >= 0 && v < s.W;
                    gather(x + ((n * s.H + h) * s.W + v) * s.C + g * Cg + c, inside, count, tile + i * k + offset);
                });
            }
            return TileStrides{k, 1};
        };
        const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, int64_t ld, float* tile) {
            pack_transposed_weights(wg, depth, k0, k, n0, n, ld, tile);
        };
        const auto store = [&](int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t ld, float* tile) {
            for (int64_t i = 0; i < m; i++) {
                if (bias)
                    for (int64_t j = 0; j < n; j++) tile[i * ld + j] += to_float(bias[g * Kg + n0 + j]);
                from_floats(tile + i * ld, y + (m0 + i) * s.K + g * Kg + n0, n);
            }
        };
        packed_product(s.N * s.OH * s.OW, Kg, depth, accumulator, pack_a, pack_b, store);
    }
}

template <class T>
void data_gradient(const ConvShape& s, const T* w, const T* dy, T* dx, int64_t accumulator) {
    const int64_t Cg = s.group_inputs(), Kg = s.group_outputs(), depth = s.R * s.S * Kg;
    for (int64_t g = 0; g < s.groups; g++) {
        const auto pack_a = [&](int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
            for (int64_t i = 0; i < m; i++) {
                const int64_t pixel = m0 + i, n = pixel / (s.H * s.W), h = pixel / s.W % s.H, v = pixel % s.W;
                for_runs(k0, k, Kg, [&](int64_t position, int64_t channel, int64_t count, int64_t offset) {
                    const int64_t up = h + s.top - position / s.S, across = v + s.left - position % s.S;
                    const int64_t oh = up / s.stride_h, ow = across / s.stride_w;
                    const bool inside = up >= 0 && across >= 0 && up % s.stride_h == 0 && across % s.stride_w == 0 &&
                                        oh < s.OH && ow < s.OW;
                    gather(dy + ((n * s.OH + oh) * s.OW + ow) * s.K + g * Kg + channel, inside, count,
                           tile + i * k + offset);
                });
            }
            return TileStrides{k, 1};
        };
        const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, int64_t ld, float* tile) {
            for_runs(k0, k, Kg, [&](int64_t position, int64_t channel, int64_t count, int64_t offset) {
                for (int64_t p = 0; p < count; p++) {
                    float* const line = tile + (offset + p) * ld;
                    to_floats(w + ((g * Kg + channel + p) * s.R * s.S + position) * Cg + n0, line, n);
                    std::fill(line + n, line + ld, 0.0f);
                }
            });
        };
        const auto store = [&](int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t ld, float* tile) {
            for (int64_t i = 0; i < m; i++) from_floats(tile + i * ld, dx + (m0 + i) * s.C + g * Cg + n0, n);
        };
        packed_product(s.N * s.H * s.W, Cg, depth, accumulator, pack_a, pack_b, store);
    }
}

template <class T>
void weight_gradient(const ConvShape& s, const T* x, const T* dy, T* dw, int64_t accumulator) {
    const int64_t Cg = s.group_inputs(), Kg = s.group_outputs(), width = s.R * s.S * Cg;
    for (int64_t g = 0; g < s.groups; g++) {
        const auto pack_a = [&](int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
            for (int64_t p = 0; p < k; p++) to_floats(dy + (k0 + p) * s.K + g * Kg + m0, tile + p * m, m);
            return TileStrides{1, m};
        };
        const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, int64_t ld, float* tile) {
            for (int64_t p = 0; p < k; p++) {
                const int64_t pixel = k0 + p, image = pixel / (s.OH * s.OW), oh = pixel / s.OW % s.OH,
                              ow = pixel % s.OW;
                for_runs(n0, n, Cg, [&](int64_t position, int64_t c, int64_t count, int64_t offset) {
                    const int64_t h = oh * s.stride_h - s.top + position / s.S,
                                  v = ow * s.stride_w - s.left + position % s.S;
                    const bool inside = h >= 0 && h < s.H && v >= 0 && v < s.W;
                    gather(x + ((image * s.H + h) * s.W + v) * s.C + g * Cg + c, inside, count, tile + p * ld + offset);
                });
                std::fill(tile + p * ld + n, tile + (p + 1) * ld, 0.0f);
            }
        };
        const auto store = [&](int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t ld, float* tile) {
            for (int64_t i = 0; i < m; i++) from_floats(tile + i * ld, dw + (g * Kg + m0 + i) * width + n0, n);
        };
        packed_product(Kg, width, s.N * s.OH * s.OW, accumulator, pack_a, pack_b, store);
    }
}

// A product of ones with dy, in the same order as every other dot product here; float32 or binary16 sums.
template <class T>
void bias_gradient(const ConvShape& s, const T* dy, T* db, int64_t accumulator) {
    const auto pack_a = [&](int64_t, int64_t m, int64_t, int64_t k, float* tile) {
        std::fill(tile, tile + m * k, 1.0f);
        return TileStrides{k, 1};
    };
    const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, int64_t ld, float* tile) {
        for (int64_t p = 0; p < k; p++) {
            to_floats(dy + (k0 + p) * s.K + n0, tile + p * ld, n);
            std::fill(tile + p * ld + n, tile + (p + 1) * ld, 0.0f);
        }
    };
    const auto store = [&](int64_t, int64_t, int64_t n0, int64_t n, int64_t, float* tile) {
        from_floats(tile, db + n0, n);
    };
    packed_product(1, s.K, s.N * s.OH * s.OW, accumulator, pack_a, pack_b, store);
}

}  // namespace

void conv_product_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                          const ArrayView& y, int64_t accumulator) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        forward(shape, x.as<T>(), w.as<T>(), bias.as<T>(), y.as<T>(), accumulator);
    });
}

void conv_product_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                           const ConvGradients& gradients, int64_t accumulator) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (gradients.dx) data_gradient(shape, w.as<T>(), dy.as<T>(), gradients.dx.as<T>(), accumulator);
        if (gradients.dw) weight_gradient(shape, x.as<T>(), dy.as<T>(), gradients.dw.as<T>(), accumulator);
        if (gradients.db) bias_gradient(shape, dy.as<T>(), gradients.db.as<T>(), accumulator == kHalfSums);
    });
}

}  // namespace fp16engine::cpu
