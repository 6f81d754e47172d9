// The norm of many tensors and their scaling, as in kernels/clip.cuh.
#include "cpu/simd/columns.h"
#include "cpu/simd/math.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// The largest |x|, NaN if there is one.
template <class T>
FP16_KERNEL float largest_magnitude(const T* x, int64_t n) {
    f32x16 most = {};
    for_column_blocks(n, [&](int64_t i, auto lanes) {
        const f32x16 v = absolute(lanes.get(x + i));
        most = select((v > most) | (v != v), v, most);
    });
    return across(most, [](auto a, auto b) { return (b > a) | (b != b) ? b : a; });
}

// The sum of (x * unit)^2.
template <class T>
FP16_KERNEL float sum_of_squares(const T* x, int64_t n, float unit) {
    f32x16 sum = {};
    for_column_blocks(n, [&](int64_t i, auto lanes) {
        const f32x16 v = lanes.get(x + i) * unit;
        sum = sum + v * v;
    });
    return lane_sum(sum);
}

// x = (x * unit) * factor
template <class T>
FP16_KERNEL void scale_in_place(T* x, int64_t n, float unit, float factor) {
    for_column_blocks(n, [&](int64_t i, auto lanes) { lanes.put(x + i, (lanes.get(x + i) * unit) * factor); });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<ClipKernels> clip_kernels = {
    {largest_magnitude<half>, sum_of_squares<half>, scale_in_place<half>},
    {largest_magnitude<float>, sum_of_squares<float>, scale_in_place<float>},
    {largest_magnitude<bfloat16>, sum_of_squares<bfloat16>, scale_in_place<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
