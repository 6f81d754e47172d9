// Pooling of x (N, H, W, C), windows row-major at (OH, OW); a thread takes the channels of one vector of one pixel.
//   max: y = the largest of the window, index its slot kh * KW + kw; the first maximum wins, the first NaN any number
//   avg: y = fl(sum / n), n the pixels of the window inside the image; the sum in the order (kh, kw)
// The gradients gather: dx of a pixel is the sum, over the windows that cover it in the order (oh, ow), of dy where the
// window chose the pixel, or of dy / n. No two threads write one element: no atomics, and the bits never vary.
// Sums are float, or rounded to binary16 at every step; above 32 taps binary16 averages take the order of blocks.
// Bytes per element of y: sizeof(T) for each pixel of x that is a window's own, sizeof(T) written, 1 for the index.
// Per element of dx: sizeof(T) written; dy and index once from memory, and from the cache for each pixel of a window.
#pragma once
#include "kernels/device.cuh"
#include "kernels/divide.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kNoSlot = 255;     // the index of a window without a pixel
constexpr int kStrictTaps = 32;  // taps summed one after the other in binary16

struct Pool {
    int H, W, OH, OW, kh, kw, stride_h, stride_w, top, left;
    int64_t C;
    Divider lanes, columns,
        rows;  // of the array a thread writes one vector of: vectors of a pixel, its width and height
    Divider by_stride_h, by_stride_w;
};

// The pixel and channels of thread i.
struct Pixel {
    int64_t n, c;
    int row, column;
    __device__ __forceinline__ Pixel(const Pool& p, int64_t i, int width) {
        unsigned rest = static_cast<unsigned>(i);
        c = static_cast<int64_t>(p.lanes.split(rest)) * width;
        column = static_cast<int>(p.columns.split(rest));
        row = static_cast<int>(p.rows.split(rest));
        n = rest;
    }
};

struct Span {
    int first, last;  // [first, last)
    __device__ __forceinline__ int count() const { return last - first; }
};

// Taps of window `out` that lie inside an image of `extent` pixels.
__device__ __forceinline__ Span taps_inside(int out, int stride, int pad, int size, int extent) {
    const int start = out * stride - pad;
    const int first = start < 0 ? -start : 0, last = start + size > extent ? extent - start : size;
    return {first, last < first ? first : last};
}

// Windows that cover pixel `in`.
__device__ __forceinline__ Span windows_over(int in, const Divider& stride, int pad, int size, int windows) {
    const int before = in + pad - size;  // the last index a window may start at without reaching the pixel
    const int first = before < 0 ? 0 : static_cast<int>(stride.divide(static_cast<unsigned>(before))) + 1;
    const int last = static_cast<int>(stride.divide(static_cast<unsigned>(in + pad))) + 1;
    return {first, last > windows ? windows : last};
}

// The part of a window inside the image: calls tap(slot, values) for each pixel in the order (kh, kw). Windows of a
// size that is known when compiling are read at once.
template <class T, int kWidth, int kSize, class Tap>
__device__ __forceinline__ void for_taps(Ptr<const T> x, const Pool& p, const Pixel& at, const Span& rows,
                                         const Span& columns, Tap tap) {
    const int64_t corner_row = at.n * p.H + static_cast<int64_t>(at.row) * p.stride_h - p.top;
    const int64_t corner = (corner_row * p.W + static_cast<int64_t>(at.column) * p.stride_w - p.left) * p.C + at.c;
    const auto load = [&](int r, int k) {
        return load_vector<T, kWidth>(x + (corner + (static_cast<int64_t>(r) * p.W + k) * p.C));
    };
    if constexpr (kSize > 0) {
        Vec<T, kWidth> window[kSize * kSize];
        const auto inside = [&](int i) {
            return i / kSize >= rows.first && i / kSize < rows.last && i % kSize >= columns.first &&
                   i % kSize < columns.last;
        };
        FP16_UNROLL
        for (int i = 0; i < kSize * kSize; i++)
            if (inside(i)) window[i] = load(i / kSize, i % kSize);
        FP16_UNROLL
        for (int i = 0; i < kSize * kSize; i++)
            if (inside(i)) tap(i, window[i]);
    } else {
        for (int r = rows.first; r < rows.last; r++)
            for (int k = columns.first; k < columns.last; k++) tap(r * p.kw + k, load(r, k));
    }
}

__device__ __forceinline__ Span row_taps(const Pool& p, int oh) {
    return taps_inside(oh, p.stride_h, p.top, p.kh, p.H);
}
__device__ __forceinline__ Span column_taps(const Pool& p, int ow) {
    return taps_inside(ow, p.stride_w, p.left, p.kw, p.W);
}
__device__ __forceinline__ float pixels_inside(const Span& rows, const Span& columns) {
    return static_cast<float>(static_cast<int64_t>(rows.count()) * columns.count());
}

__device__ __forceinline__ float partial_sum(float v, bool half_accumulator) {
    return half_accumulator ? rounded<__half>(v) : v;
}

// dx at one vector of one pixel: term(offset of the window's vector in dy, oh, ow, value to add to) over its windows.
template <class T, int kWidth, class Term>
__device__ __forceinline__ void gather_windows(const Pool& p, int64_t i, bool half_accumulator, Ptr<T> dx, Term term) {
    const Pixel at(p, i, kWidth);
    const Span rows = windows_over(at.row, p.by_stride_h, p.top, p.kh, p.OH);
    const Span columns = windows_over(at.column, p.by_stride_w, p.left, p.kw, p.OW);
    float sum[kWidth] = {};
    for (int oh = rows.first; oh < rows.last; oh++)
        for (int ow = columns.first; ow < columns.last; ow++) {
            float value[kWidth];
            term(((at.n * p.OH + oh) * p.OW + ow) * p.C + at.c, at, oh, ow, value);
            FP16_UNROLL
            for (int k = 0; k < kWidth; k++) sum[k] = partial_sum(__fadd_rn(sum[k], value[k]), half_accumulator);
        }
    Vec<T, kWidth> out;
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) put(out.values[k], sum[k]);
    store_vector(dx + i * kWidth, out);
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// x (N, H, W, C), y index (N, OH, OW, C); n: vectors of y; kSize: both extents of the window, 0 for any
template <class T, int kWidth, int kSize>
__global__ void __launch_bounds__(kBlock)
    max_pool_forward_kernel(Ptr<const T> x, Ptr<T> y, Ptr<uint8_t> index, int64_t n, Pool p) {
    for (int64_t i = grid_thread(); i < n; i += grid_threads()) {
        const Pixel at(p, i, kWidth);
        float best[kWidth] = {};
        int slot[kWidth];
        FP16_UNROLL
        for (int k = 0; k < kWidth; k++) slot[k] = kNoSlot;
        for_taps<T, kWidth, kSize>(
            x, p, at, row_taps(p, at.row), column_taps(p, at.column), [&](int here, const Vec<T, kWidth>& v) {
                FP16_UNROLL
                for (int k = 0; k < kWidth; k++) {
                    const float value = as_float(v.values[k]);
                    const bool wins = slot[k] == kNoSlot || (best[k] == best[k] && !(value <= best[k]));
                    best[k] = wins ? value : best[k];
                    slot[k] = wins ? here : slot[k];
                }
            });
        Vec<T, kWidth> out;
        Vec<uint8_t, kWidth> slots;
        FP16_UNROLL
        for (int k = 0; k < kWidth; k++) {
            put(out.values[k], best[k]);
            slots.values[k] = static_cast<uint8_t>(slot[k]);
        }
        store_vector(y + i * kWidth, out);
        store_vector(index + i * kWidth, slots);
    }
}

// index dy (N, OH, OW, C), dx (N, H, W, C); n: vectors of dx
template <class T, int kWidth>
__global__ void __launch_bounds__(kBlock) max_pool_backward_kernel(Ptr<const uint8_t> index, Ptr<const T> dy, Ptr<T> dx,
                                                                   int64_t n, Pool p, bool half_accumulator) {
    for (int64_t i = grid_thread(); i < n; i += grid_threads())
        gather_windows<T, kWidth>(
            p, i, half_accumulator, dx, [&](int64_t from, const Pixel& at, int oh, int ow, float (&value)[kWidth]) {
                const Vec<uint8_t, kWidth> slots = load_vector<uint8_t, kWidth>(index + from);
                const Vec<T, kWidth> v = load_vector<T, kWidth>(dy + from);
                const int here = (at.row + p.top - oh * p.stride_h) * p.kw + at.column + p.left - ow * p.stride_w;
                FP16_UNROLL
                for (int k = 0; k < kWidth; k++) value[k] = slots.values[k] == here ? as_float(v.values[k]) : 0.0f;
            });
}

// x (N, H, W, C), y (N, OH, OW, C); n: vectors of y
template <class T, int kWidth, int kSize>
__global__ void __launch_bounds__(kBlock)
    avg_pool_forward_kernel(Ptr<const T> x, Ptr<T> y, int64_t n, Pool p, bool half_accumulator) {
    for (int64_t i = grid_thread(); i < n; i += grid_threads()) {
        const Pixel at(p, i, kWidth);
        const Span rows = row_taps(p, at.row), columns = column_taps(p, at.column);
        float sum[kWidth] = {};
        for_taps<T, kWidth, kSize>(x, p, at, rows, columns, [&](int, const Vec<T, kWidth>& v) {
            FP16_UNROLL
            for (int k = 0; k < kWidth; k++)
                sum[k] = partial_sum(__fadd_rn(sum[k], as_float(v.values[k])), half_accumulator);
        });
        const float count = pixels_inside(rows, columns);
        Vec<T, kWidth> out;
        FP16_UNROLL
        for (int k = 0; k < kWidth; k++) put(out.values[k], __fdiv_rn(sum[k], count));
        store_vector(y + i * kWidth, out);
    }
}

// The same with binary16 sums of more than one block of taps: one channel per thread. Padding keeps its turn in the
// blocks, as a zero, which changes no sum. The block sums wait in a binary counter, one per level.
//
// x (N, H, W, C), y (N, OH, OW, C); n: elements of y
__global__ void __launch_bounds__(kBlock)
    avg_pool_blocks_kernel(Ptr<const __half> x, Ptr<__half> y, int64_t n, Pool p) {
    constexpr int kLevels = 32;
    for (int64_t i = grid_thread(); i < n; i += grid_threads()) {
        const Pixel at(p, i, 1);
        const Span rows = row_taps(p, at.row), columns = column_taps(p, at.column);
        float waiting[kLevels], sum = 0.0f;
        unsigned blocks = 0, level = 0;
        int end = kStrictTaps;  // of the current block
        const auto close_block = [&] {
            for (level = 0; blocks >> level & 1; level++) sum = rounded<__half>(__fadd_rn(waiting[level], sum));
            waiting[level] = sum;
            sum = 0.0f;
            blocks++;
            end += kStrictTaps;
        };
        for_taps<__half, 1, 0>(x, p, at, rows, columns, [&](int slot, const Vec<__half, 1>& v) {
            while (slot >= end) close_block();
            sum = rounded<__half>(__fadd_rn(sum, as_float(v.values[0])));
        });
        while (end - kStrictTaps < p.kh * p.kw) close_block();
        bool first = true;
        for (level = 0; blocks >> level; level++) {
            if (!(blocks >> level & 1)) continue;
            sum = first ? waiting[level] : rounded<__half>(__fadd_rn(waiting[level], sum));
            first = false;
        }
        put(y[i], __fdiv_rn(sum, pixels_inside(rows, columns)));
    }
}

// dy (N, OH, OW, C), dx (N, H, W, C); n: vectors of dx
template <class T, int kWidth>
__global__ void __launch_bounds__(kBlock)
    avg_pool_backward_kernel(Ptr<const T> dy, Ptr<T> dx, int64_t n, Pool p, bool half_accumulator) {
    for (int64_t i = grid_thread(); i < n; i += grid_threads())
        gather_windows<T, kWidth>(p, i, half_accumulator, dx,
                                  [&](int64_t from, const Pixel&, int oh, int ow, float (&value)[kWidth]) {
                                      const Vec<T, kWidth> v = load_vector<T, kWidth>(dy + from);
                                      const float count = pixels_inside(row_taps(p, oh), column_taps(p, ow));
                                      FP16_UNROLL
                                      for (int k = 0; k < kWidth; k++)
                                          value[k] = __fdiv_rn(as_float(v.values[k]), count);
                                  });
}

}  // namespace fp16engine::gpu
