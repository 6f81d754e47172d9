// Rounding to block floating point: y = sign(x) * min(round(|x| / step), 2^mantissa - 1) * step, one exponent per
// block.
//   e = the smallest integer with max |x| <= 2^e over the block, within [lowest, highest]; step = 2^(e - mantissa).
// Infinities and NaN stay as they are and have no part in the exponent. To nearest even, or stochastically: up where
// (2 * (word >> 9) + 1) * 2^-24 is below the fraction, word i % 4 of Philox4x32-10(key = seed, counter = offset + i /
// 4) for element i. Scalings are by powers of two in two factors and exact, see csrc/cpu/simd/quantize.cpp, so the bits
// depend on nothing else. In a captured step the offset counts from the control block's.
// Bytes per element: 4 read, 4 more from the cache, 4 written.
#pragma once
#include "common/philox.h"
#include "common/step_control.h"
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// x (outer, length, inner) in blocks of block_length x block_inner of the last two axes, ragged at their ends.
struct BlockLayout {
    int64_t outer, length, inner, block_length, block_inner;
    int mantissa, lowest, highest;
};

// ---- device helpers -------------------------------------------------------------------------------------------------

struct BlockScale {
    float first, second, third, fourth;
};

__device__ __forceinline__ float power_of_two(int exponent) { return __int_as_float((exponent + 127) << 23); }

__device__ __forceinline__ BlockScale block_scale(float largest, const BlockLayout& s) {
    int bits = __float_as_int(largest), bias = 127;
    if (bits < 0x00800000) {  // subnormal: its bits count steps of 2^-149
        bits = __float_as_int(static_cast<float>(bits));
        bias += 149;
    }
    int e = (bits >> 23) - bias + ((bits & 0x7fffff) != 0 ? 1 : 0);
    e = e < s.lowest ? s.lowest : e > s.highest ? s.highest : e;
    const int shift = e > 0 ? -64 : 64, down = s.mantissa - e - shift;
    return {power_of_two(shift), power_of_two(down), power_of_two(-shift), power_of_two(-down)};
}

__device__ __forceinline__ float finite_magnitude(float x) {
    const int bits = __float_as_int(x) & 0x7fffffff;
    return __int_as_float(bits < 0x7f800000 ? bits : 0);
}

// The value of element i of the array.
template <bool kStochastic>
__device__ __forceinline__ float round_to_block(float x, const BlockScale& scale, int mantissa, int64_t i,
                                                uint64_t seed, uint64_t offset) {
    const int bits = __float_as_int(x), magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x7f800000) return x;
    const float most = static_cast<float>((1 << mantissa) - 1);
    const float scaled = __fmul_rn(__fmul_rn(__int_as_float(magnitude), scale.first), scale.second);
    const float t = scaled < most ? scaled : most;
    float q = __fsub_rn(__fadd_rn(t, 8388608.0f), 8388608.0f);  // to the nearest integer, ties to even
    if (kStochastic) {
        const float floor = q > t ? __fsub_rn(q, 1.0f) : q;
        const unsigned word = philox(offset + static_cast<uint64_t>(i / 4), seed).values[i % 4];
        const float threshold = __fmul_rn(static_cast<float>(word >> 9 << 1 | 1u), 0x1p-24f);
        q = threshold < __fsub_rn(t, floor) ? __fadd_rn(floor, 1.0f) : floor;
    }
    const float y = __fmul_rn(__fmul_rn(q, scale.fourth), scale.third);
    return __int_as_float(__float_as_int(y) | (bits & static_cast<int>(0x80000000u)));
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// A warp takes a block: runs along the last axis, where inner is 1, and tiles.
template <bool kStochastic>
__global__ void __launch_bounds__(kBlock)
    quantize_tiles_kernel(Ptr<const float> x, Ptr<float> y, BlockLayout s, uint64_t seed, uint64_t offset,
                          Ptr<const StepControl> control) {
    if (kStochastic && control) offset += static_cast<uint64_t>(control[0].dropout);
    const int64_t down = (s.length + s.block_length - 1) / s.block_length;
    const int64_t across = (s.inner + s.block_inner - 1) / s.block_inner;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    for (int64_t block = grid_thread() / kWarpSize; block < s.outer * down * across;
         block += grid_threads() / kWarpSize) {
        const int64_t row = block / across % down * s.block_length, column = block % across * s.block_inner;
        const int64_t start = (block / (down * across) * s.length + row) * s.inner + column;
        const int64_t height = s.length - row < s.block_length ? s.length - row : s.block_length;
        const int64_t width = s.inner - column < s.block_inner ? s.inner - column : s.block_inner;
        float largest = 0.0f;
        for (int64_t j = lane; j < height * width; j += kWarpSize)
            largest = fmaxf(largest, finite_magnitude(x[start + j / width * s.inner + j % width]));
        const BlockScale scale = block_scale(warp_max(largest), s);
        for (int64_t j = lane; j < height * width; j += kWarpSize) {
            const int64_t i = start + j / width * s.inner + j % width;
            y[i] = round_to_block<kStochastic>(x[i], scale, s.mantissa, i, seed, offset);
        }
    }
}

// A thread takes a block: a run down one column, block_inner is 1.
template <bool kStochastic>
__global__ void __launch_bounds__(kBlock)
    quantize_columns_kernel(Ptr<const float> x, Ptr<float> y, BlockLayout s, uint64_t seed, uint64_t offset,
                            Ptr<const StepControl> control) {
    if (kStochastic && control) offset += static_cast<uint64_t>(control[0].dropout);
    const int64_t down = (s.length + s.block_length - 1) / s.block_length;
    for (int64_t block = grid_thread(); block < s.outer * down * s.inner; block += grid_threads()) {
        const int64_t row = block / s.inner % down * s.block_length;
        const int64_t start = (block / (down * s.inner) * s.length + row) * s.inner + block % s.inner;
        const int64_t height = s.length - row < s.block_length ? s.length - row : s.block_length;
        float largest = 0.0f;
        for (int64_t r = 0; r < height; r++) largest = fmaxf(largest, finite_magnitude(x[start + r * s.inner]));
        const BlockScale scale = block_scale(largest, s);
        for (int64_t r = 0; r < height; r++) {
            const int64_t i = start + r * s.inner;
            y[i] = round_to_block<kStochastic>(x[i], scale, s.mantissa, i, seed, offset);
        }
    }
}

}  // namespace fp16engine::gpu
