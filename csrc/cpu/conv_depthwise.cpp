// Depthwise convolution, float32 accumulator: windows are read in place, see conv_pass.h, and channels are the lanes of
// a register. Rows outside the image are left out, columns outside are zeros. The weight gradient is summed over lanes
// of tasks, in order.
#include <vector>

#include "cpu/conv_pass.h"

namespace fp16engine::cpu {
namespace {

// Weights (C, R, S, 1) as floats (R * S, ld), tap t of them at position(t).
template <class Position>
void spread(const float* w, int64_t C, int64_t filter, int64_t taps, int64_t ld, float* to, const Position& position) {
    std::fill_n(to, taps * ld, 0.0f);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < C; c++) to[t * ld + c] = w[c * filter + position(t)];
}

// Calls body(pixel of the result, lines, first tap, count) for each output row of a task: the lines of the image that
// it reads, at the first window.
template <class T, class Body>
void for_rows(const Pass& pass, const Phase& phase, const T* x, int64_t task, const Body& body) {
    const TaskRows rows(pass, task);
    std::vector<const T*> lines(static_cast<size_t>(std::max<int64_t>(1, phase.rows.taps)));
    for (int64_t image = rows.n0; image < rows.n1; image++)
        for (int64_t i = rows.i0; i < std::min(rows.i1, phase.rows.outputs); i++) {
            const int64_t top = i * pass.step + phase.rows.first;
            const int64_t first = std::max<int64_t>(0, -top), end = std::min(phase.rows.taps, pass.H - top);
            const int64_t count = std::max<int64_t>(0, end - first);
            for (int64_t line = 0; line < count; line++)
                lines[static_cast<size_t>(line)] =
                    x + ((image * pass.H + top + first + line) * pass.W + phase.columns.first) * pass.C;
            body((image * pass.OH + phase.h + i * phase.step_h) * pass.OW + phase.v, lines.data(), first, count);
        }
}

DepthwiseRow row_of(const Pass& pass, const Phase& phase, int64_t ld) {
    return {pass.C,
            0,
            phase.columns.taps,
            phase.columns.step,
            phase.columns.outputs,
            ld,
            phase.step_v * pass.K,
            -phase.columns.first,
            pass.W};
}

template <class T, class Position>
void sum_windows(const Pass& pass, const T* x, const T* w, const T* bias, int64_t filter, T* y,
                 const Position& position) {
    const int64_t ld = round_up(pass.C, 16);
    std::vector<int64_t> begins;
    int64_t taps = 0;
    for (const Phase& phase : pass.phases) {
        begins.push_back(taps * ld);
        taps += phase.rows.taps * phase.columns.taps;
    }
    const Scratch weights((taps + 1) * ld), stored(pass.C * filter);
    to_floats(w, stored.get(), pass.C * filter);
    for (size_t p = 0; p < pass.phases.size(); p++) {
        const Phase& phase = pass.phases[p];
        spread(stored.get(), pass.C, filter, phase.rows.taps * phase.columns.taps, ld, weights.get() + begins[p],
               [&](int64_t t) { return position(phase, t / phase.columns.taps, t % phase.columns.taps); });
    }
    float* const biases = bias ? weights.get() + taps * ld : nullptr;
    if (bias) {
        std::fill_n(biases, ld, 0.0f);
        to_floats(bias, biases, pass.C);
    }
    parallel_for(pass.tasks(), [&](int64_t task, int) {
        for (size_t p = 0; p < pass.phases.size(); p++) {
            const Phase& phase = pass.phases[p];
            DepthwiseRow row = row_of(pass, phase, ld);
            for_rows(pass, phase, x, task, [&](int64_t at, const T* const* lines, int64_t first, int64_t count) {
                row.lines = count;
                kernels().depthwise(T{}).weigh_row(lines, row, weights.get() + begins[p] + first * row.taps * ld,
                                                   biases, y + at * pass.K);
            });
        }
    });
}

template <class T>
void weight_gradient(const ConvShape& s, const T* x, const T* dy, T* dw) {
    const Pass pass = forward_pass(s, false);
    const Phase& phase = pass.phases.front();
    const int64_t ld = round_up(s.C, 16), taps = s.R * s.S, tasks = pass.tasks();
    const int64_t lanes = std::min(tasks, kTasks), of_lane = (tasks + lanes - 1) / lanes;
    const Scratch sums(lanes * taps * ld);
    parallel_for(lanes, [&](int64_t lane, int) {
        float* const sum = sums.get() + lane * taps * ld;
        std::fill_n(sum, taps * ld, 0.0f);
        DepthwiseRow row = row_of(pass, phase, ld);
        for (int64_t task = lane * of_lane; task < std::min(tasks, (lane + 1) * of_lane); task++)
            for_rows(pass, phase, x, task, [&](int64_t at, const T* const* lines, int64_t first, int64_t count) {
                row.lines = count;
                kernels().depthwise(T{}).weight_gradient_row(lines, row, dy + at * s.C, sum + first * row.taps * ld);
            });
    });
    for (int64_t lane = 1; lane < lanes; lane++)
        kernels().sums.accumulate(sums.get() + lane * taps * ld, sums.get(), taps * ld);
    const Scratch stored(s.C * taps);
    for (int64_t c = 0; c < s.C; c++)
        for (int64_t t = 0; t < taps; t++) stored.get()[c * taps + t] = sums.get()[t * ld + c];
    from_floats(stored.get(), dw, s.C * taps);
}

}  // namespace

bool conv_is_depthwise(const ConvShape& s) { return s.groups > 1 && s.groups == s.C && s.groups == s.K; }

void conv_depthwise_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                            const ArrayView& y) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        sum_windows(forward_pass(shape, false), x.as<T>(), w.as<T>(), bias.as<T>(), shape.R * shape.S, y.as<T>(),
                    [&](const Phase&, int64_t up, int64_t across) { return up * shape.S + across; });
    });
}

void conv_depthwise_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                             const ConvGradients& gradients) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (gradients.dx)
            sum_windows(gradient_pass(shape), dy.as<T>(), w.as<T>(), static_cast<const T*>(nullptr), shape.R * shape.S,
                        gradients.dx.as<T>(), [&](const Phase& phase, int64_t up, int64_t across) {
                            return (phase.kernel_h - up * shape.stride_h) * shape.S + phase.kernel_v -
                                   across * shape.stride_w;
                        });
        if (gradients.dw) weight_gradient(shape, x.as<T>(), dy.as<T>(), gradients.dw.as<T>());
    });
    if (gradients.db) conv_product_backward(shape, x, w, dy, {{}, {}, gradients.db}, 0);
}

}  // namespace fp16engine::cpu
