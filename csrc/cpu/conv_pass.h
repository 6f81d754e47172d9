// Geometry of convolutions that read windows in place: what a task reads of its images, as floats with the zeros around
// them. In NHWC the positions of a kernel row then lie in one run. A data gradient is the same pass over dy with the
// filter turned round; with strides it is one such pass for each phase, the pixels that are read at the same kernel
// positions.
#pragma once
#include <algorithm>
#include <vector>

#include "cpu/conv.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {

// Pixels of a task: many enough for its products to outweigh what a task costs, few enough for a second-level cache.
constexpr int64_t kMinPixels = 192, kMaxPixels = 1024, kTaskTerms = int64_t(1) << 20, kTasks = 16;

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
    // What an output row reads, from its row on, and the columns of the float image, of which begin_v to end_v lie
    // inside the source.
    int64_t low_h = 0, high_h = 0, low_v = 0, high_v = 0, begin_v = 0, end_v = 0;
    int64_t step = 1, rows = 0, columns = 0;         // of the largest phase
    int64_t images = 1, block_rows = 1, blocks = 1;  // of a task; of an image

    int64_t pitch() const { return (high_v - low_v) * C; }
    int64_t tasks() const { return (N + images - 1) / images * blocks; }
    int64_t task_rows() const { return (block_rows - 1) * step + high_h - low_h; }
    int64_t task_floats() const { return images * task_rows() * pitch(); }
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
        const auto inside = [&](int64_t column) {
            return column * pick_v + shift_v >= 0 && column * pick_v + shift_v < W;
        };
        begin_v = low_v, end_v = high_v;
        while (begin_v < end_v && !inside(begin_v)) begin_v++;
        while (end_v > begin_v && !inside(end_v - 1)) end_v--;
        int64_t terms = 1;  // of a pixel
        for (const Phase& phase : phases) terms = std::max(terms, phase.rows.taps * phase.columns.taps * C * K);
        const int64_t pixels = std::min(kMaxPixels, std::max(kMinPixels, kTaskTerms / terms));
        const int64_t image = std::max<int64_t>(1, rows * columns);
        images = image >= kMinPixels / 2 ? 1 : std::min(kMinPixels / 2 / image + 1, std::max<int64_t>(1, N / kTasks));
        blocks = (image + pixels - 1) / pixels;
        block_rows = std::max<int64_t>(1, (rows + blocks - 1) / blocks);
        blocks = (rows + block_rows - 1) / block_rows;
    }
};

inline Pass forward_pass(const ConvShape& s, bool picks) {
    Pass pass{s.N, s.H, s.W, s.C, s.OH, s.OW, s.K, {}};
    Axis rows{s.OH, s.stride_h, -s.top, s.R}, columns{s.OW, s.stride_w, -s.left, s.S};
    if (picks && s.R == 1 && s.stride_h > 1) {
        pass.pick_h = s.stride_h, pass.shift_h = -s.top;
        rows = {s.OH, 1, 0, 1};
    }
    if (picks && s.S == 1 && s.stride_w > 1) {
        pass.pick_v = s.stride_w, pass.shift_v = -s.left;
        columns = {s.OW, 1, 0, 1};
    }
    pass.phases.push_back({rows, columns, 0, 0, 1, 1, 0, 0});
    pass.complete();
    return pass;
}

// Inputs h, h + stride, ... of one axis: input h + i * stride reads dy at i + (h + before - k) / stride for the
// positions k that leave no remainder, the last one first.
inline Axis gradient_axis(int64_t h, int64_t inputs, int64_t stride, int64_t before, int64_t size, int64_t* last) {
    const int64_t remainder = (h + before) % stride, taps = remainder < size ? (size - 1 - remainder) / stride + 1 : 0;
    *last = remainder + (taps - 1) * stride;
    return {h < inputs ? (inputs - h + stride - 1) / stride : 0, 1, (h + before - *last) / stride, taps};
}

inline Pass gradient_pass(const ConvShape& s) {
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
    const int64_t begin = pass.begin_v, end = pass.end_v;
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

// The images and output rows of a task.
struct TaskRows {
    int64_t n0, n1, i0, i1;
    TaskRows(const Pass& pass, int64_t task)
        : n0(task / pass.blocks * pass.images),
          n1(std::min(pass.N, n0 + pass.images)),
          i0(task % pass.blocks * pass.block_rows),
          i1(std::min(pass.rows, i0 + pass.block_rows)) {}
};

// The images and rows of a task, as floats, and where the windows of a phase begin in them.
template <class T>
class TaskImages : public TaskRows {
public:
    TaskImages(const Pass& pass, const T* x, int64_t task, float* floats)
        : TaskRows(pass, task), pass_(pass), floats_(floats) {
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
                const float* const first = floats_ + (n - n0) * image_floats() +
                                           ((i - i0) * pass_.step + phase.rows.first - pass_.low_h) * pass_.pitch() +
                                           (phase.columns.first - pass_.low_v) * pass_.C;
                for (int64_t j = 0; j < phase.columns.outputs; j++)
                    begin.push_back(first + j * phase.columns.step * pass_.C);
            }
        return begin;
    }

private:
    int64_t image_floats() const { return pass_.task_rows() * pass_.pitch(); }
    const Pass& pass_;
    const float* const floats_;
};

// Windows `begin` to `end` of a task's: those whose rows of the taps [tap, tap + taps) are not all outside the source.
// Terms of zeros are left out by whole rows, where a task has one image; a task of several is too small for that to
// pay.
struct Windows {
    int64_t begin, end;
};

inline Windows reading(const Pass& pass, const Phase& phase, int64_t i0, int64_t last, int64_t tap, int64_t taps) {
    const int64_t columns = phase.columns.outputs, first = phase.rows.first + tap;
    if (pass.images > 1 || pass.pick_h > 1) return {0, pass.images * (last - i0) * columns};
    // i * step + first + taps > 0 and i * step + first < H
    const int64_t begin = first + taps > 0 ? 0 : -(first + taps) / pass.step + 1;
    const int64_t end = pass.H > first ? (pass.H - first - 1) / pass.step + 1 : 0;
    const int64_t from = std::max(i0, begin), to = std::max(from, std::min(last, end));
    return {(from - i0) * columns, (to - i0) * columns};
}

}  // namespace fp16engine::cpu
