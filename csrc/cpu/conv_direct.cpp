// Direct convolution, float32 accumulator, one group: windows are read in place, see conv_pass.h. Sums ascend in the
// order (row, column, channel) of what is read; weight gradients are summed over lanes, in order.
#include <vector>

#include "cpu/conv_pass.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kTerms = 256;                    // a panel's slice stays in the first-level cache
constexpr int64_t kLaneFloats = int64_t(1) << 22;  // of weight gradients that wait to be summed

int64_t panel_width(int64_t n) { return n > 16 ? kPanel : 16; }

// c (m, width) = the sums of windows with a panel of weights.
void multiply_windows(const Pass& pass, const Phase& phase, int64_t i0, const std::vector<const float*>& windows,
                      const float* panel, int64_t width, float* c) {
    const int64_t m = static_cast<int64_t>(windows.size()), length = phase.columns.taps * pass.C;
    std::fill_n(c, m * width, 0.0f);
    if (length == 0) return;
    const int64_t all = phase.rows.taps, together = std::max<int64_t>(1, kTerms / length);
    std::vector<int64_t> runs(static_cast<size_t>(std::min(all, together)));
    for (int64_t tap = 0; tap < all; tap += together) {
        const int64_t taps = std::min(together, all - tap);
        const Windows read = reading(pass, phase, i0, i0 + pass.block_rows, tap, taps);
        const int64_t begin = std::min(m, read.begin), end = std::min(m, read.end);
        for (int64_t p = 0; p < length; p += kTerms) {
            for (int64_t t = 0; t < taps; t++) runs[static_cast<size_t>(t)] = (tap + t) * pass.pitch() + p;
            kernels().direct.multiply_runs(windows.data() + begin, end - begin, runs.data(), taps,
                                           std::min(kTerms, length - p), panel + (tap * length + p) * width, width,
                                           c + begin * width);
        }
    }
}

int64_t depth_of(const Pass& pass, const Phase& phase) { return phase.rows.taps * phase.columns.taps * pass.C; }

// y = the sums of all windows; pack(phase, j, n, panel) makes the panel of columns j to j + n.
template <class T, class Pack>
void sum_windows(const Pass& pass, const T* x, const T* bias, T* y, const Pack& pack) {
    const int64_t padded = round_up(pass.K, 16), columns = (pass.K + kPanel - 1) / kPanel;
    std::vector<int64_t> begins;
    int64_t floats = 0;
    for (const Phase& phase : pass.phases) {
        begins.push_back(floats);
        floats += depth_of(pass, phase) * padded;
    }
    const Scratch weights(floats + padded);
    float* const biases = bias ? weights.get() + floats : nullptr;
    if (bias) {
        std::fill_n(biases, padded, 0.0f);
        to_floats(bias, biases, pass.K);
    }
    const auto panel_of = [&](size_t phase, int64_t j) {
        return weights.get() + begins[phase] + j * depth_of(pass, pass.phases[phase]);
    };
    parallel_for(static_cast<int64_t>(pass.phases.size()) * columns, [&](int64_t task, int) {
        const size_t phase = static_cast<size_t>(task / columns);
        const int64_t j = task % columns * kPanel;
        pack(pass.phases[phase], j, std::min(kPanel, pass.K - j), panel_of(phase, j));
    });
    parallel_for(pass.tasks(), [&](int64_t task, int) {
        const Scratch scratch(pass.task_floats() + pass.task_pixels() * kPanel);
        const TaskImages<T> images(pass, x, task, scratch.get());
        float* const c = scratch.get() + pass.task_floats();
        for (size_t p = 0; p < pass.phases.size(); p++) {
            const Phase& phase = pass.phases[p];
            const int64_t last = std::min(images.i1, phase.rows.outputs), outputs = phase.columns.outputs;
            if (last <= images.i0) continue;
            const std::vector<const float*> windows = images.windows(phase);
            const bool dense = phase.step_h == 1 && phase.step_v == 1;
            const int64_t together = dense ? last - images.i0 : 1;  // rows of the result without a gap
            for (int64_t j = 0; j < pass.K; j += kPanel) {
                const int64_t n = std::min(kPanel, pass.K - j), width = panel_width(n);
                multiply_windows(pass, phase, images.i0, windows, panel_of(p, j), width, c);
                const float* from = c;
                for (int64_t image = images.n0; image < images.n1; image++)
                    for (int64_t i = images.i0; i < last; i += together, from += together * outputs * width) {
                        const int64_t row = image * pass.OH + phase.h + i * phase.step_h;
                        kernels().store(T{}).rows(from, width, together * outputs, n, biases ? biases + j : nullptr,
                                                  y + (row * pass.OW + phase.v) * pass.K + j, phase.step_v * pass.K);
                    }
            }
        }
    });
}

template <class T>
void forward(const ConvShape& s, const T* x, const T* w, const T* bias, T* y) {
    const int64_t depth = s.R * s.S * s.C;
    sum_windows(forward_pass(s, true), x, bias, y, [&](const Phase&, int64_t j, int64_t n, float* panel) {
        pack_columns(w + j * depth, depth, depth, n, panel);
    });
}

template <class T>
void data_gradient(const ConvShape& s, const T* w, const T* dy, T* dx) {
    const Pass pass = gradient_pass(s);
    sum_windows(
        pass, dy, static_cast<const T*>(nullptr), dx, [&](const Phase& phase, int64_t j, int64_t n, float* panel) {
            for (int64_t up = 0; up < phase.rows.taps; up++)
                for (int64_t across = 0; across < phase.columns.taps; across++) {
                    const int64_t kh = phase.kernel_h - up * s.stride_h, kw = phase.kernel_v - across * s.stride_w;
                    kernels().pack(T{}).rows(w + (kh * s.S + kw) * s.C + j, s.R * s.S * s.C,
                                             (up * phase.columns.taps + across) * s.K, s.K, depth_of(pass, phase), n,
                                             panel);
                }
        });
}

template <class T>
void weight_gradient(const ConvShape& s, const T* x, const T* dy, T* dw) {
    const Pass pass = forward_pass(s, true);
    const Phase& phase = pass.phases.front();
    const int64_t depth = depth_of(pass, phase), length = phase.columns.taps * pass.C, padded = round_up(s.K, 16);
    const int64_t panels = (s.K + kPanel - 1) / kPanel, tasks = pass.tasks();
    const int64_t lanes = std::min(tasks, std::min(kTasks, std::max<int64_t>(2, kLaneFloats / (depth * padded))));
    const int64_t of_lane = (tasks + lanes - 1) / lanes;
    const int64_t parts = std::min(panels, (kTasks + lanes - 1) / lanes), of_part = (panels + parts - 1) / parts;
    const Scratch sums(lanes * depth * padded);
    parallel_for(lanes * parts, [&](int64_t index, int) {
        const int64_t lane = index / parts, begin = index % parts * of_part * kPanel,
                      end = std::min(s.K, begin + of_part * kPanel);
        float* const sum = sums.get() + lane * depth * padded;
        if (begin >= end) return;
        std::fill(sum + begin * depth, sum + depth * (end == s.K ? padded : end), 0.0f);
        const Scratch scratch(pass.task_floats() + pass.task_pixels() * kPanel);
        float* const panel = scratch.get() + pass.task_floats();
        for (int64_t task = lane * of_lane; task < std::min(tasks, (lane + 1) * of_lane); task++) {
            const TaskImages<T> images(pass, x, task, scratch.get());
            const std::vector<const float*> windows = images.windows(phase);
            const int64_t count = static_cast<int64_t>(windows.size());
            const T* const gradient = dy + (images.n0 * s.OH + images.i0) * s.OW * s.K;
            for (int64_t j = begin; j < end; j += kPanel) {
                const int64_t n = std::min(kPanel, s.K - j), width = panel_width(n);
                pack_rows(gradient + j, s.K, count, n, panel);
                for (int64_t tap = 0; tap < phase.rows.taps; tap++) {
                    const Windows read = reading(pass, phase, images.i0, images.i1, tap, 1);
                    const int64_t first = std::min(count, read.begin), last = std::min(count, read.end);
                    kernels().direct.multiply_pixels(windows.data() + first, last - first, tap * pass.pitch(), length,
                                                     panel + first * width, width,
                                                     sum + j * depth + tap * length * width);
                }
            }
        }
    });
    parallel_for(panels, [&](int64_t index, int) {
        const int64_t j = index * kPanel, n = std::min(kPanel, s.K - j), width = panel_width(n);
        float* const sum = sums.get() + j * depth;
        for (int64_t lane = 1; lane < lanes; lane++)
            kernels().sums.accumulate(sum + lane * depth * padded, sum, depth * width);
        std::vector<float> line(static_cast<size_t>(depth));
        for (int64_t k = 0; k < n; k++) {
            for (int64_t d = 0; d < depth; d++) line[static_cast<size_t>(d)] = sum[d * width + k];
            from_floats(line.data(), dw + (j + k) * depth, depth);
        }
    });
}

}  // namespace

void conv_direct_forward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& bias,
                         const ArrayView& y) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        forward(shape, x.as<T>(), w.as<T>(), bias.as<T>(), y.as<T>());
    });
}

void conv_direct_backward(const ConvShape& shape, const ArrayView& x, const ArrayView& w, const ArrayView& dy,
                          const ConvGradients& gradients) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (gradients.dx) data_gradient(shape, w.as<T>(), dy.as<T>(), gradients.dx.as<T>());
        if (gradients.dw) weight_gradient(shape, x.as<T>(), dy.as<T>(), gradients.dw.as<T>());
    });
    if (gradients.db) conv_product_backward(shape, x, w, dy, {{}, {}, gradients.db}, 0);
}

}  // namespace fp16engine::cpu
