// Depthwise convolution: every channel has its own filter. Sums are float, in the order of the taps, or of (image, row,
// column) in the weight gradient; rounded once at the store. Elements moved per pixel and channel: as many reads as
// taps, mostly from the cache, and one write; a weight gradient reads as many and its own pixel, and writes nothing.
#include <type_traits>

#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

constexpr int kTile = 4;  // sums in registers

// Calls body(first, constant count) until `begin` to `end` are covered.
template <class Body>
FP16_INLINE void for_tiles(int64_t begin, int64_t end, const Body& body) {
    int64_t i = begin;
    for (; i + kTile <= end; i += kTile) body(i, std::integral_constant<int, kTile>{});
    for (; i + 2 <= end; i += 2) body(i, std::integral_constant<int, 2>{});
    if (i < end) body(i, std::integral_constant<int, 1>{});
}

struct Range {
    int64_t begin, end;
};

FP16_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
FP16_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// The outputs all of whose taps from `first` to `last` lie inside.
FP16_INLINE Range whole_outputs(const cpu::DepthwiseRow& row, int64_t first, int64_t last) {
    const int64_t before = row.before - first, after = row.before + row.width - 1 - last;
    const int64_t begin = before > 0 ? smaller((before + row.step - 1) / row.step, row.outputs) : 0;
    return {begin, after < 0 ? begin : larger(begin, smaller(after / row.step + 1, row.outputs))};
}

template <class T>
FP16_KERNEL void weigh_row(const T* const* lines, const cpu::DepthwiseRow& row, const float* w, const float* bias,
                           T* y) {
    const Range whole = whole_outputs(row, 0, row.taps - 1);
    for_column_blocks(row.C, [&](int64_t c, auto lanes) {
        const auto weigh = [&](int64_t o, auto tile, int64_t first, int64_t last) {
            constexpr int kOutputs = decltype(tile)::value;
            f32x16 sum[kOutputs] = {};
            for (int64_t u = 0; u < row.lines; u++) {
                const T* read = lines[u] + (o * row.step + first) * row.C + c;
                const float* weight = w + (u * row.taps + first) * row.ld + c;
                for (int64_t t = first; t < last; t++, read += row.C, weight += row.ld) {
                    const f32x16 factor = load(weight);
                    for (int i = 0; i < kOutputs; i++)
                        sum[i] = multiply_add(lanes.get(read + i * row.step * row.C), factor, sum[i]);
                }
            }
            for (int i = 0; i < kOutputs; i++)
                lanes.put(y + (o + i) * row.distance + c, bias ? sum[i] + load(bias + c) : sum[i]);
        };
        const auto partly = [&](int64_t o) {
            const int64_t first = row.before - o * row.step, last = first + row.width;
            weigh(o, std::integral_constant<int, 1>{}, larger(first, 0), smaller(last, row.taps));
        };
        for (int64_t o = 0; o < whole.begin; o++) partly(o);
        for_tiles(whole.begin, whole.end, [&](int64_t o, auto tile) { weigh(o, tile, 0, row.taps); });
        for (int64_t o = whole.end; o < row.outputs; o++) partly(o);
    });
}

template <class T>
FP16_KERNEL void weight_gradient_row(const T* const* lines, const cpu::DepthwiseRow& row, const T* dy, float* dw) {
    for_tiles(0, row.taps, [&](int64_t t, auto tile) {
        constexpr int kTaps = decltype(tile)::value;
        const Range whole = whole_outputs(row, t, t + kTaps - 1);
        Range each[kTaps];
        for (int i = 0; i < kTaps; i++) each[i] = whole_outputs(row, t + i, t + i);
        for_column_blocks(row.C, [&](int64_t c, auto lanes) {
            for (int64_t u = 0; u < row.lines; u++) {
                float* const to = dw + (u * row.taps + t) * row.ld + c;
                const T* const line = lines[u] + t * row.C + c;
                f32x16 sum[kTaps];
                for (int i = 0; i < kTaps; i++) sum[i] = load(to + i * row.ld);
                const auto add = [&](int64_t begin, int64_t end, int i) {
                    for (int64_t o = begin; o < end; o++)
                        sum[i] = multiply_add(lanes.get(line + (o * row.step + i) * row.C),
                                              lanes.get(dy + o * row.distance + c), sum[i]);
                };
                for (int i = 0; i < kTaps; i++) add(each[i].begin, smaller(whole.begin, each[i].end), i);
                for (int64_t o = whole.begin; o < whole.end; o++) {
                    const f32x16 gradient = lanes.get(dy + o * row.distance + c);
                    for (int i = 0; i < kTaps; i++)
                        sum[i] = multiply_add(lanes.get(line + (o * row.step + i) * row.C), gradient, sum[i]);
                }
                for (int i = 0; i < kTaps; i++) add(larger(whole.end, each[i].begin), each[i].end, i);
                for (int i = 0; i < kTaps; i++) store(to + i * row.ld, sum[i]);
            }
        });
    });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<DepthwiseKernels> depthwise_kernels = {{weigh_row<half>, weight_gradient_row<half>},
                                                       {weigh_row<float>, weight_gradient_row<float>},
                                                       {weigh_row<bfloat16>, weight_gradient_row<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
