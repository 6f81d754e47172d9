// Depthwise convolution: every channel has its own filter. Sums are float, fused, in the order of the taps, or of
// (image, row, column) in the weight gradient; rounded once at the store.
// Elements moved per pixel and channel: as many reads as taps, mostly from the cache, and one write; a weight gradient
// reads twice as many and writes nothing.
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

template <class T>
FP16_KERNEL void weigh_taps(const T* source, const cpu::Tap* taps, int64_t count, int64_t C, const float* w,
                            const float* bias, T* y) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        f32x16 sum = {};
        for (int64_t t = 0; t < count; t++)
            sum = multiply_add(lanes.get(source + taps[t].source + c), load(w + taps[t].weight + c), sum);
        if (bias) sum = sum + load(bias + c);
        lanes.put(y + c, sum);
    });
}

// First and end of the outputs o whose tap k lies inside: 0 <= o * stride - before + k < extent.
struct Range {
    int64_t first, end;
    Range(int64_t outputs, int64_t extent, int64_t stride, int64_t before, int64_t k)
        : first(before > k ? (before - k + stride - 1) / stride : 0), end(extent + before - k) {
        end = end <= 0 ? 0 : (end - 1) / stride + 1;
        if (end > outputs) end = outputs;
    }
};

template <class T>
FP16_KERNEL void weight_gradient(const T* x, const T* dy, const cpu::PoolShape& s, int64_t images, int64_t columns,
                                 float* dw, int64_t ld) {
    for (int64_t kh = 0; kh < s.kh; kh++) {
        const Range rows(s.OH, s.H, s.stride_h, s.top, kh);
        for (int64_t kw = 0; kw < s.kw; kw++) {
            const Range pixels(s.OW, s.W, s.stride_w, s.left, kw);
            float* const to = dw + (kh * s.kw + kw) * ld;
            for_column_blocks(columns, [&](int64_t c, auto lanes) {
                f32x16 sum = {};
                for (int64_t n = 0; n < images; n++)
                    for (int64_t oh = rows.first; oh < rows.end; oh++) {
                        const T* const read = x + (n * s.H + oh * s.stride_h - s.top + kh) * s.W * s.C + c;
                        const T* const gradient = dy + (n * s.OH + oh) * s.OW * s.C + c;
                        for (int64_t ow = pixels.first; ow < pixels.end; ow++)
                            sum = multiply_add(lanes.get(gradient + ow * s.C),
                                               lanes.get(read + (ow * s.stride_w - s.left + kw) * s.C), sum);
                    }
                lanes.put(to + c, sum);
            });
        }
    }
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<DepthwiseKernels> depthwise_kernels = {{weigh_taps<half>, weight_gradient<half>},
                                                       {weigh_taps<float>, weight_gradient<float>}};

}  // namespace fp16engine::cpu::FP16_ISA
