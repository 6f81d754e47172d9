// The norm of many tensors together, and their scaling down to a largest norm. See kernels/clip.cuh for the formulas.
#include <cmath>
#include <vector>

#include "common/half.h"
#include "cpu/ops.h"
#include "cpu/packed_product.h"
#include "cpu/tensor_slices.h"

namespace fp16engine::cpu {
namespace {

using Arrays = std::vector<ArrayView>;

// body(T*, count) of every slice, in order of the tensors: one result each.
template <class Body>
std::vector<float> of_slices(const Arrays& arrays, Body body) {
    std::vector<int64_t> before(arrays.size() + 1);
    for (size_t i = 0; i < arrays.size(); i++) before[i + 1] = before[i] + (arrays[i].size() + kSlice - 1) / kSlice;
    std::vector<float> results(static_cast<size_t>(before.back()));
    const auto slice = [&](size_t i, int64_t first, int64_t count) {
        with_storage("arrays", arrays[i].dtype, [&](auto type) {
            results[static_cast<size_t>(before[i] + first / kSlice)] =
                body(arrays[i].as<decltype(type)>() + first, count);
        });
    };
    for_slices(arrays, slice, kSlice);
    return results;
}

// The power of two at or below v, at least the smallest whose reciprocal is finite; v itself where it is no finite
// number.
float norm_scale(float v) {
    if (v == 0.0f) return 1.0f;
    const uint32_t bits = float_bits(v) & 0x7f800000u;
    return bits == 0x7f800000u ? v : bits_float(std::max(bits, 2u << 23));
}

}  // namespace

void global_norm(const Arrays& arrays, const ArrayView& norm) {
    float largest = 0.0f;
    for (const float v : of_slices(arrays, [](auto* x, int64_t n) { return kernels().clip(*x).largest(x, n); }))
        largest = v > largest || v != v ? v : largest;
    const float scale = norm_scale(largest), unit = 1.0f / scale;
    float squares = 0.0f;
    for (const float v : of_slices(arrays, [&](auto* x, int64_t n) { return kernels().clip(*x).squares(x, n, unit); }))
        squares += v;
    norm.as<float>()[0] = scale;
    norm.as<float>()[1] = std::sqrt(squares);
}

void clip_to_norm(const Arrays& arrays, const ArrayView& norm, double max_norm) {
    const float scale = norm.as<float>()[0], root = norm.as<float>()[1], limit = static_cast<float>(max_norm);
    // An infinite quotient is no smaller than any root: nothing has to be scaled.
    if (root <= limit / scale) return;
    const float unit = 1.0f / scale, factor = limit / root;
    for_slices(arrays, [&](size_t i, int64_t first, int64_t count) {
        with_storage("arrays", arrays[i].dtype, [&](auto type) {
            kernels().clip(type).scale(arrays[i].as<decltype(type)>() + first, count, unit, factor);
        });
    });
}

}  // namespace fp16engine::cpu
