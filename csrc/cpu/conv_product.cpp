// Convolution as an implicit matrix product: patches are gathered into tiles, never stored as a whole.
// Index order of every dot product: forward (kh, kw, c), data gradient (kh, kw, k), weight gradient (n, oh, ow);
// positions outside the image, or between strides, are terms with a factor of zero. A data gradient in float32 leaves
// those between strides out.
#include <cstring>
#include <vector>

#include "cpu/conv.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

// Splits a run of (outer, inner) indices at the boundaries of the outer one: body(outer, inner, count, offset).
template <class Body>
void for_runs(int64_t first, int64_t count, int64_t inner, const Body& body) {
    for (int64_t done = 0; done < count;) {
        const int64_t start = (first + done) % inner, n = std::min(inner - start, count - done);
        body((first + done) / inner, start, n, done);
        done += n;
    }
}

// Terms k0 to k0 + k, in the order (kh, kw, c), of the patch that output pixel `pixel` reads in group g:
// copy(source, count, offset) or zeros(count, offset). The positions of a kernel row lie side by side in one group.
template <class T, class Copy, class Zeros>
void for_patch(const ConvShape& s, const T* x, int64_t g, int64_t pixel, int64_t k0, int64_t k, const Copy& copy,
               const Zeros& zeros) {
    const int64_t image = pixel / (s.OH * s.OW), oh = pixel / s.OW % s.OH, ow = pixel % s.OW;
    const int64_t top = oh * s.stride_h - s.top, left = ow * s.stride_w - s.left, Cg = s.group_inputs();
    const auto at = [&](int64_t h, int64_t v) { return x + ((image * s.H + h) * s.W + v) * s.C + g * Cg; };
    const auto inside = [&](int64_t h) { return h >= 0 && h < s.H; };
    if (s.groups > 1) {
        for_runs(k0, k, Cg, [&](int64_t position, int64_t c, int64_t count, int64_t offset) {
            const int64_t h = top + position / s.S, v = left + position % s.S;
            if (inside(h) && v >= 0 && v < s.W)
                copy(at(h, v) + c, count, offset);
            else
                zeros(count, offset);
        });
        return;
    }
    const int64_t begin = std::min(s.S, std::max<int64_t>(0, -left)) * s.C,
                  end = std::max<int64_t>(0, std::min(s.S, s.W - left)) * s.C;
    for_runs(k0, k, s.S * s.C, [&](int64_t kh, int64_t first, int64_t count, int64_t offset) {
        const int64_t h = top + kh, last = first + count;
        const int64_t a = std::min(last, std::max(first, begin)), b = std::max(a, std::min(last, end));
        if (!inside(h)) return zeros(count, offset);
        if (a > first) zeros(a - first, offset);
        if (b > a) copy(x + ((image * s.H + h) * s.W + left) * s.C + a, b - a, offset + a - first);
        if (last > b) zeros(last - b, offset + b - first);
    });
}

// Whether output pixel i reads input pixel i alone.
bool pointwise(const ConvShape& s) {
    return s.R * s.S == 1 && s.stride_h * s.stride_w == 1 && s.OH == s.H && s.OW == s.W && s.top == 0 && s.left == 0;
}

template <class T>
void forward(const ConvShape& s, const T* x, const T* w, const T* bias, T* y, int64_t accumulator) {
    const int64_t Cg = s.group_inputs(), Kg = s.group_outputs(), depth = s.R * s.S * Cg;
    const Scratch biases(bias ? s.K + 16 : 0);
    if (bias) to_floats(bias, biases.get(), s.K);
    for (int64_t g = 0; g < s.groups; g++) {
        const T* const wg = w + g * Kg * depth;
        const auto pack_a = [&](int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
            if (pointwise(s)) {
                rows_to_floats(x + m0 * s.C + g * Cg + k0, s.C, m, k, tile);
                return TileStrides{k, 1};
            }
            for (int64_t i = 0; i < m; i++)
                for_patch(
                    s, x, g, m0 + i, k0, k,
                    [&](const T* from, int64_t count, int64_t at) { to_floats(from, tile + i * k + at, count); },
                    [&](int64_t count, int64_t at) { std::fill_n(tile + i * k + at, count, 0.0f); });
            return TileStrides{k, 1};
        };
        const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, float* panels) {
            return pack_columns(wg + n0 * depth + k0, depth, k, n, panels);
        };
        const auto store = [&](int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t ld, float* tile) {
            const float* const own = bias ? biases.get() + g * Kg + n0 : nullptr;
            kernels().store(T{}).rows(tile, ld, m, n, own, y + m0 * s.K + g * Kg + n0, s.K);
        };
        packed_product(s.N * s.OH * s.OW, Kg, depth, accumulator, pack_a, pack_b, store);
    }
}

// Input pixels that are read at the same kernel positions: rows h, h + step_h, ... and columns alike.
struct Phase {
    int64_t h, v, step_h, step_w, rows, columns;
    std::vector<int64_t> positions;  // kh * S + kw, ascending
};

std::vector<Phase> phases_of(const ConvShape& s, bool leave_out_zeros) {
    const int64_t step_h = leave_out_zeros ? std::min(s.stride_h, s.H) : 1,
                  step_w = leave_out_zeros ? std::min(s.stride_w, s.W) : 1;
    std::vector<Phase> phases;
    for (int64_t h = 0; h < step_h; h++)
        for (int64_t v = 0; v < step_w; v++) {
            Phase phase{h, v, step_h, step_w, (s.H - h + step_h - 1) / step_h, (s.W - v + step_w - 1) / step_w, {}};
            for (int64_t position = 0; position < s.R * s.S; position++)
                if (step_h * step_w == 1 ||
                    ((h + s.top - position / s.S) % s.stride_h == 0 && (v + s.left - position % s.S) % s.stride_w == 0))
                    phase.positions.push_back(position);
            phases.push_back(std::move(phase));
        }
    return phases;
}

template <class T>
void data_gradient(const ConvShape& s, const T* w, const T* dy, T* dx, int64_t accumulator) {
    const int64_t Cg = s.group_inputs(), Kg = s.group_outputs();
    // Phases are told apart by strides that fit into the image; a larger stride has one pixel a phase.
    const bool leave_out_zeros = accumulator == 0 && s.stride_h <= s.H && s.stride_w <= s.W;
    for (const Phase& phase : phases_of(s, leave_out_zeros))
        for (int64_t g = 0; g < s.groups; g++) {
            const int64_t depth = static_cast<int64_t>(phase.positions.size()) * Kg;
            struct Pixel {
                int64_t n, h, v;
            };
            const auto pixel_of = [&](int64_t i) {
                const int64_t row = i / phase.columns;
                return Pixel{row / phase.rows, phase.h + row % phase.rows * phase.step_h,
                             phase.v + i % phase.columns * phase.step_w};
            };
            const auto pack_a = [&](int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
                if (pointwise(s)) {
                    rows_to_floats(dy + m0 * s.K + g * Kg + k0, s.K, m, k, tile);
                    return TileStrides{k, 1};
                }
                for (int64_t i = 0; i < m; i++) {
                    const Pixel pixel = pixel_of(m0 + i);
                    for_runs(k0, k, Kg, [&](int64_t index, int64_t channel, int64_t count, int64_t offset) {
                        const int64_t position = phase.positions[static_cast<size_t>(index)];
                        const int64_t up = pixel.h + s.top - position / s.S, across = pixel.v + s.left - position % s.S;
                        const int64_t oh = up / s.stride_h, ow = across / s.stride_w;
                        float* const to = tile + i * k + offset;
                        if (up >= 0 && across >= 0 && up % s.stride_h == 0 && across % s.stride_w == 0 && oh < s.OH &&
                            ow < s.OW)
                            to_floats(dy + ((pixel.n * s.OH + oh) * s.OW + ow) * s.K + g * Kg + channel, to, count);
                        else
                            std::fill_n(to, count, 0.0f);
                    });
                }
                return TileStrides{k, 1};
            };
            const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, float* panels) {
                for_runs(k0, k, Kg, [&](int64_t index, int64_t channel, int64_t count, int64_t offset) {
                    const int64_t position = phase.positions[static_cast<size_t>(index)];
                    kernels().pack(T{}).rows(w + ((g * Kg + channel) * s.R * s.S + position) * Cg + n0, s.R * s.S * Cg,
                                             offset, count, k, n, panels);
                });
                return panels;
            };
            const auto store = [&](int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t ld, float* tile) {
                if (pointwise(s)) return rows_from_floats(tile, ld, m, n, dx + m0 * s.C + g * Cg + n0, s.C);
                for (int64_t i = 0; i < m; i++) {
                    const Pixel pixel = pixel_of(m0 + i);
                    from_floats(tile + i * ld, dx + ((pixel.n * s.H + pixel.h) * s.W + pixel.v) * s.C + g * Cg + n0, n);
                }
            };
            packed_product(s.N * phase.rows * phase.columns, Cg, depth, accumulator, pack_a, pack_b, store);
        }
}

template <class T>
void weight_gradient(const ConvShape& s, const T* x, const T* dy, T* dw, int64_t accumulator) {
    const int64_t Cg = s.group_inputs(), Kg = s.group_outputs(), width = s.R * s.S * Cg;
    for (int64_t g = 0; g < s.groups; g++) {
        const auto pack_a = [&](int64_t m0, int64_t m, int64_t k0, int64_t k, float* tile) {
            rows_to_floats(dy + k0 * s.K + g * Kg + m0, s.K, k, m, tile);
            return TileStrides{1, m};
        };
        const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, float* panels) {
            if (pointwise(s)) return pack_rows(x + k0 * s.C + g * Cg + n0, s.C, k, n, panels);
            const Scratch patches(k * n);
            T* const rows = reinterpret_cast<T*>(patches.get());
            for (int64_t p = 0; p < k; p++) {
                T* const row = rows + p * n;
                for_patch(
                    s, x, g, k0 + p, n0, n,
                    [&](const T* from, int64_t count, int64_t at) { std::copy_n(from, count, row + at); },
                    [&](int64_t count, int64_t at) { std::fill_n(row + at, count, T{}); });
            }
            return pack_rows(static_cast<const T*>(rows), n, k, n, panels);
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
    const auto pack_b = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, float* panels) {
        return pack_rows(dy + k0 * s.K + n0, s.K, k, n, panels);
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
