// Pooling of one row of output (forward) or input (backward) pixels of one image (H, W, C), sixteen channels at a time.
// Backward gathers: a pixel sums its windows in the order (oh, ow), so no two threads write the same element.
#include "cpu/simd/blocked_sum.h"
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

struct Span {
    int64_t first, last;  // [first, last)
};

// Taps of window `out` that lie inside an image of `extent` pixels.
FP16_INLINE Span taps_inside(int64_t out, int64_t stride, int64_t pad, int64_t size, int64_t extent) {
    const int64_t start = out * stride - pad;
    const int64_t first = start < 0 ? -start : 0, last = start + size > extent ? extent - start : size;
    return {first, last < first ? first : last};
}

// Windows that cover pixel `in`.
FP16_INLINE Span windows_over(int64_t in, int64_t stride, int64_t pad, int64_t size, int64_t windows) {
    const int64_t before = in + pad - size;  // the last index a window may start at without reaching the pixel
    const int64_t first = before < 0 ? 0 : before / stride + 1, last = (in + pad) / stride + 1;
    return {first, last > windows ? windows : last};
}

template <class T>
FP16_KERNEL void max_pool_row(const T* image, const cpu::PoolShape& s, int64_t oh, T* y, uint8_t* index) {
    const Span rows = taps_inside(oh, s.stride_h, s.top, s.kh, s.H);
    for (int64_t ow = 0; ow < s.OW; ow++) {
        const Span columns = taps_inside(ow, s.stride_w, s.left, s.kw, s.W);
        for_column_blocks(s.C, [&](int64_t c, auto lanes) {
            f32x16 best = {};
            i32x16 slot = i32x16(-1);
            bool first = true;
            for (int64_t r = rows.first; r < rows.last; r++) {
                const T* const line =
                    image + ((oh * s.stride_h - s.top + r) * s.W + ow * s.stride_w - s.left) * s.C + c;
                for (int64_t k = columns.first; k < columns.last; k++) {
                    const f32x16 value = lanes.get(line + k * s.C);
                    const i32x16 here = i32x16(static_cast<int32_t>(r * s.kw + k));
                    // NaN fails every comparison, so a new one wins and an old one stays.
                    const i32x16 keeps = (value <= best) | (best != best);
                    slot = first ? here : select(keeps, slot, here);
                    best = first ? value : select(keeps, best, value);
                    first = false;
                }
            }
            lanes.put(y + ow * s.C + c, best);
            lanes.put(index + ow * s.C + c, slot);
        });
    }
}

// Sums term(window offset, slot of the pixel in the window) over the windows of each pixel of row `ih`.
template <class T, class Term>
FP16_INLINE void gather_windows(const cpu::PoolShape& s, int64_t ih, bool half_accumulator, T* dx, Term term) {
    const Span rows = windows_over(ih, s.stride_h, s.top, s.kh, s.OH);
    for (int64_t iw = 0; iw < s.W; iw++) {
        const Span columns = windows_over(iw, s.stride_w, s.left, s.kw, s.OW);
        for_column_blocks(s.C, [&](int64_t c, auto lanes) {
            f32x16 sum = {};
            for (int64_t oh = rows.first; oh < rows.last; oh++) {
                for (int64_t ow = columns.first; ow < columns.last; ow++) {
                    const int64_t slot = (ih + s.top - oh * s.stride_h) * s.kw + iw + s.left - ow * s.stride_w;
                    sum = sum + term(oh, ow, (oh * s.OW + ow) * s.C + c, slot, lanes);
                    if (half_accumulator) sum = round_half(sum);
                }
            }
            lanes.put(dx + iw * s.C + c, sum);
        });
    }
}

template <class T>
FP16_KERNEL void max_pool_gradient_row(const uint8_t* index, const T* dy, const cpu::PoolShape& s, int64_t ih,
                                       bool half_accumulator, T* dx) {
    gather_windows(s, ih, half_accumulator, dx, [&](int64_t, int64_t, int64_t at, int64_t slot, auto lanes) {
        return select(lanes.get(index + at) == static_cast<int32_t>(slot), lanes.get(dy + at), f32x16{});
    });
}

FP16_INLINE float pixels_inside(const cpu::PoolShape& s, int64_t oh, int64_t ow) {
    const Span rows = taps_inside(oh, s.stride_h, s.top, s.kh, s.H),
               columns = taps_inside(ow, s.stride_w, s.left, s.kw, s.W);
    return static_cast<float>((rows.last - rows.first) * (columns.last - columns.first));
}

// Padding keeps its turn in the order of the sum, as a zero.
template <class T, bool kHalf>
FP16_INLINE void avg_pool_row_ordered(const T* image, const cpu::PoolShape& s, int64_t oh, T* y) {
    const Span rows = taps_inside(oh, s.stride_h, s.top, s.kh, s.H);
    for (int64_t ow = 0; ow < s.OW; ow++) {
        const Span columns = taps_inside(ow, s.stride_w, s.left, s.kw, s.W);
        const float count = pixels_inside(s, oh, ow);
        for_column_blocks(s.C, [&](int64_t c, auto lanes) {
            BlockedSum<kHalf> sum;
            for (int64_t r = 0; r < s.kh; r++) {
                const T* const line =
                    image + ((oh * s.stride_h - s.top + r) * s.W + ow * s.stride_w - s.left) * s.C + c;
                for (int64_t k = 0; k < s.kw; k++) {
                    const bool inside = r >= rows.first && r < rows.last && k >= columns.first && k < columns.last;
                    sum.add(inside ? lanes.get(line + k * s.C) : f32x16{});
                }
            }
            lanes.put(y + ow * s.C + c, sum.finish() / count);
        });
    }
}

template <class T>
FP16_KERNEL void avg_pool_row(const T* image, const cpu::PoolShape& s, int64_t oh, bool half_accumulator, T* y) {
    if (half_accumulator)
        avg_pool_row_ordered<T, true>(image, s, oh, y);
    else
        avg_pool_row_ordered<T, false>(image, s, oh, y);
}

template <class T>
FP16_KERNEL void avg_pool_gradient_row(const T* dy, const cpu::PoolShape& s, int64_t ih, bool half_accumulator, T* dx) {
    gather_windows(s, ih, half_accumulator, dx, [&](int64_t oh, int64_t ow, int64_t at, int64_t, auto lanes) {
        return lanes.get(dy + at) / pixels_inside(s, oh, ow);
    });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<PoolKernels> pool_kernels = {
    {max_pool_row<half>, max_pool_gradient_row<half>, avg_pool_row<half>, avg_pool_gradient_row<half>},
    {max_pool_row<float>, max_pool_gradient_row<float>, avg_pool_row<float>, avg_pool_gradient_row<float>},
    {max_pool_row<bfloat16>, max_pool_gradient_row<bfloat16>, avg_pool_row<bfloat16>, avg_pool_gradient_row<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
