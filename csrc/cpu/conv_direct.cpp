// Direct convolution, float32 accumulator, one group. A task converts the rows of the image that it reads to floats
// once, with the zeros around them; in NHWC the positions of a kernel row then lie in one run, so a patch is a few runs
// at fixed distances, and the micro-kernels read it where it lies. A data gradient is the same pass over dy with the
// filter turned round; with strides it is one such pass for each phase, the pixels that are read at the same kernel
// positions. Sums ascend in the order (row, column, channel) of what is read; weight gradients are summed over lanes,
// in order.
#include <vector>

#include "cpu/conv.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kTaskPixels = 192, kTerms = 256;              // a panel's slice stays in the first-level cache
constexpr int64_t kTasks = 16, kLaneFloats = int64_t(1) << 22;  // of weight gradients that wait to be summed

// Windows along one axis: output o reads the source at o * step + first + tap.
struct Axis {
    int64_t outputs, step, first, taps;
    int64_t end() const { return (outputs - 1) * step + first + taps; }
};

// Outputs (i, j) that are read at the same positions; they lie at (h + i * step_h, v + j * step_v) of the result.
struct Phase {
    Axis rows, columns;
    int64_t h, v, step_h, step_v;
    int64_t kernel_h, kernel_v;  // position in the filter of the first tap
};

// Sums of windows over a source (N, H, W, C), a result (N, OH, OW, K).
struct Pass {
    int64_t N, H, W, C, OH, OW, K;
    std::vector<Phase> phases;
    // Row r of the float image is row r * pick_h + shift_h of the source, and columns alike: a filter of one position
    // leaves out what it skips.
    int64_t pick_h = 1, pick_v = 1, shift_h = 0, shift_v = 0;
    int64_t low_h = 0, high_h = 0, low_v = 0,
            high_v = 0;                       // what an output row reads, from its row on; columns of the float image
    int64_t step = 1, rows = 0, columns = 0;  // of the largest phase
    int64_t images, block_rows, blocks;       // of a task; of an image

    int64_t pitch() const { return (high_v - low_v) * C; }
    int64_t tasks() const { return (N + images - 1) / images * blocks; }
    int64_t task_rows() const { return (block_rows - 1) * step + high_h - low_h; }
    int64_t task_pixels() const { return images * block_rows * columns; }

    void complete() {
        bool first = true;
        for (const Phase& phase : phases) {
            rows = std::max(rows, phase.rows.outputs);
            columns = std::max(columns, phase.columns.outputs);
            step = phase.rows.step;
            if (phase.rows.taps == 0 || phase.columns.taps == 0) continue;
            const int64_t last = phase.rows.first + phase.rows.taps;
            low_h = first ? phase.rows.first : std::min(low_h, phase.rows.first);
            high_h = first ? last : std::max(high_h, last);
            low_v = first ? phase.columns.first : std::min(low_v, phase.columns.first);
            high_v = first ? phase.columns.end() : std::max(high_v, phase.columns.end());
            first = false;
        }
        const int64_t image = std::max<int64_t>(1, rows * columns);
        images = std::max<int64_t>(1, kTaskPixels / 2 / image + 1);
        if (image >= kTaskPixels / 2) images = 1;
        blocks = images > 1 ? 1 : (image + kTaskPixels - 1) / kTaskPixels;
        block_rows = std::max<int64_t>(1, (rows + blocks - 1) / blocks);
        blocks = (rows + block_rows - 1) / block_rows;
    }
};

Pass forward_pass(const ConvShape& s) {
    Pass pass{s.N, s.H, s.W, s.C, s.OH, s.OW, s.K, {}};
    Axis rows{s.OH, s.stride_h, -s.top, s.R}, columns{s.OW, s.stride_w, -s.left, s.S};
    if (s.R == 1 && s.stride_h > 1) {
        pass.pick_h = s.stride_h, pass.shift_h = -s.top;
        rows = {s.OH, 1, 0, 1};
    }
    if (s.S == 1 && s.stride_w > 1) {
        pass.pick_v = s.stride_w, pass.shift_v = -s.left;
        columns = {s.OW, 1, 0, 1};
    }
    pass.phases.push_back({rows, columns, 0, 0, 1, 1, 0, 0});
    pass.complete();
    return pass;
}

// Inputs h, h + stride, ... of one axis: input h + i * stride reads dy at i + (h + before - k) / stride for the
// positions k that leave no remainder, the last one first.
Axis gradient_axis(int64_t h, int64_t inputs, int64_t stride, int64_t before, int64_t size, int64_t* last) {
    const int64_t remainder = (h + before) % stride, taps = remainder < size ? (size - 1 - remainder) / stride + 1 : 0;
    *last = remainder + (taps - 1) * stride;
    return {h < inputs ? (inputs - h + stride - 1) / stride : 0, 1, (h + before - *last) / stride, taps};
}

Pass gradient_pass(const ConvShape& s) {
    Pass pass{s.N, s.OH, s.OW, s.K, s.H, s.W, s.C, {}};
    for (int64_t h = 0; h < std::min(s.stride_h, s.H); h++)
        for (int64_t v = 0; v < std::min(s.stride_w, s.W); v++) {
            Phase phase{{}, {}, h, v, s.stride_h, s.stride_w, 0, 0};
            phase.rows = gradient_axis(h, s.H, s.stride_h, s.top, s.R, &phase.kernel_h);
            phase.columns = gradient_axis(v, s.W, s.stride_w, s.left, s.S, &phase.kernel_v);
            pass.phases.push_back(phase);
        }
    pass.complete();
    return pass;
}

// Part of a source as floats: rows `first` to `first + count` of the float image.
template <class T>
void float_rows(const Pass& pass, const T* image, int64_t first, int64_t count, float* to) {
    const int64_t C = pass.C, pitch = pass.pitch();
    // Columns of the float image that lie inside the source.
    const auto inside = [&](int64_t column) {
        const int64_t v = column * pass.pick_v + pass.shift_v;
        return v >= 0 && v < pass.W;
    };
    int64_t begin = pass.low_v, end = pass.high_v;
    while (begin < end && !inside(begin)) begin++;
    while (end > begin && !inside(end - 1)) end--;
    for (int64_t r = 0; r < count; r++) {
        float* const line = to + r * pitch;
        const int64_t h = (first + r) * pass.pick_h + pass.shift_h;
        if (h < 0 || h >= pass.H || begin == end) {
            std::fill_n(line, pitch, 0.0f);
            continue;
        }
        const T* const row = image + h * pass.W * C;
        const int64_t before = (begin - pass.low_v) * C, there = (end - begin) * C;
        std::fill_n(line, before, 0.0f);
        rows_to_floats(row + (begin * pass.pick_v + pass.shift_v) * C, pass.pick_v * C, end - begin, C, line + before);
        std::fill_n(line + before + there, pitch - before - there, 0.0f);
    }
}

// The images and rows of a task, as floats, and where the windows of a phase begin in them.
template <class T>
class TaskImages {
public:
    TaskImages(const Pass& pass, const T* x, int64_t task, float* floats) : pass_(pass), floats_(floats) {
        n0 = task / pass.blocks * pass.images;
        n1 = std::min(pass.N, n0 + pass.images);
        i0 = task % pass.blocks * pass.block_rows;
        i1 = std::min(pass.rows, i0 + pass.block_rows);
        for (int64_t n = n0; n < n1; n++)
            float_rows(pass, x + n * pass.H * pass.W * pass.C, i0 * pass.step + pass.low_h, pass.task_rows(),
                       floats + (n - n0) * image_floats());
    }

    std::vector<const float*> windows(const Phase& phase) const {
        std::vector<const float*> begin;
        const int64_t last = std::min(i1, phase.rows.outputs);
        begin.reserve(static_cast<size_t>(pass_.task_pixels()));
        for (int64_t n = n0; n < n1; n++)
            for (int64_t i = i0; i < last; i++) {
                const float* const line = floats_ + (n - n0) * image_floats() +
                                          ((i - i0) * pass_.step + phase.rows.first - pass_.low_h) * pass_.pitch();
                for (int64_t j = 0; j < phase.columns.outputs; j++)
                    begin.push_back(line + (j * phase.columns.step + phase.columns.first - pass_.low_v) * pass_.C);
            }
        return begin;
    }

    int64_t n0, n1, i0, i1;

private:
    int64_t image_floats() const { return pass_.task_rows() * pass_.pitch(); }
    const Pass& pass_;
    const float* const floats_;
};

int64_t panel_width(int64_t n) { return n > 16 ? kPanel : 16; }

// Windows `begin` to `end` of a task's: those whose rows of the taps [tap, tap + taps) are not all outside the source.
// Terms of zeros are left out by whole rows, where a task has one image; a task of several is too small for that to
// pay.
struct Windows {
    int64_t begin, end;
};

Windows reading(const Pass& pass, const Phase& phase, int64_t i0, int64_t last, int64_t tap, int64_t taps) {
    const int64_t columns = phase.columns.outputs, first = phase.rows.first + tap;
    if (pass.images > 1 || pass.pick_h > 1) return {0, pass.images * (last - i0) * columns};
    // i * step + first + taps > 0 and i * step + first < H
    const int64_t begin = first + taps > 0 ? 0 : -(first + taps) / pass.step + 1;
    const int64_t end = pass.H > first ? (pass.H - first - 1) / pass.step + 1 : 0;
    const int64_t from = std::max(i0, begin), to = std::max(from, std::min(last, end));
    return {(from - i0) * columns, (to - i0) * columns};
}

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
        const Scratch scratch(pass.images * pass.task_rows() * pass.pitch() + pass.task_pixels() * kPanel);
        const TaskImages<T> images(pass, x, task, scratch.get());
        float* const c = scratch.get() + pass.images * pass.task_rows() * pass.pitch();
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
    sum_windows(forward_pass(s), x, bias, y, [&](const Phase&, int64_t j, int64_t n, float* panel) {
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
    const Pass pass = forward_pass(s);
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
        const Scratch scratch(pass.images * pass.task_rows() * pass.pitch() + pass.task_pixels() * kPanel);
        float* const panel = scratch.get() + pass.images * pass.task_rows() * pass.pitch();
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
