// Rounding to block floating point: the values of a block share one exponent, that of the largest of them.
//   e = the smallest integer with max |x| <= 2^e, within [lowest, highest]; step = 2^(e - mantissa);
//   y = sign(x) * min(round(|x| / step), 2^mantissa - 1) * step.
// Every scaling is by a power of two and exact. It is done in two factors, so that neither the factors nor the scaled
// values leave float's normal numbers where that would round: by 2^-64 first for e > 0, by 2^64 first otherwise.
// Infinities and NaN stay as they are and have no part in the exponent. Per element: one read, a second one from the
// cache, one write.
#include "cpu/simd/columns.h"
#include "cpu/simd/philox.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

constexpr int32_t kSignBit = INT32_MIN, kInfinityBits = 0x7f800000, kSmallestNormalBits = 0x00800000;

FP16_INLINE i32x16 magnitude_bits(f32x16 v) { return bit_cast<i32x16>(v) & INT32_MAX; }

// |v|, and 0 for what is not finite.
FP16_INLINE f32x16 finite_magnitude(f32x16 v) {
    const i32x16 bits = magnitude_bits(v);
    return bit_cast<f32x16>(bits & (bits < kInfinityBits));
}

FP16_INLINE f32x16 larger(f32x16 a, f32x16 b) { return select(a > b, a, b); }

// 2^exponent for exponents of normal numbers.
FP16_INLINE f32x16 power_of_two(i32x16 exponent) { return bit_cast<f32x16>((exponent + 127) << 23); }

// The factors of one block per lane: |x| / step = (|x| * first) * second, and back by (q * fourth) * third.
struct BlockScale {
    f32x16 first, second, third, fourth;

    FP16_INLINE BlockScale(f32x16 largest, const cpu::BlockGrid& grid) {
        const i32x16 bits = bit_cast<i32x16>(largest);
        const i32x16 subnormal = bits < kSmallestNormalBits;  // its bits count steps of 2^-149
        const i32x16 normal = select(subnormal, bit_cast<i32x16>(to_floats(bits)), bits);
        i32x16 e = (normal >> 23) - 127 - (subnormal & 149) - ((normal & 0x7fffff) != 0);
        e = select(e < grid.lowest, i32x16(grid.lowest), e);
        e = select(e > grid.highest, i32x16(grid.highest), e);
        const i32x16 shift = select(e > 0, i32x16(-64), i32x16(64)), down = grid.mantissa - e - shift;
        first = power_of_two(shift);
        second = power_of_two(down);
        third = power_of_two(-shift);
        fourth = power_of_two(-down);
    }
};

// A threshold is above 0 and below 1: the fraction at which a value is rounded up.
template <bool kStochastic>
FP16_INLINE f32x16 round_to_block(f32x16 x, const BlockScale& scale, f32x16 most, f32x16 threshold) {
    const i32x16 bits = magnitude_bits(x);
    f32x16 t = (bit_cast<f32x16>(bits) * scale.first) * scale.second;
    t = select(t < most, t, most);
    f32x16 q = (t + 0x1p23f) - 0x1p23f;  // to the nearest integer, ties to even
    if (kStochastic) {
        const f32x16 floor = q - select(q > t, f32x16(1.0f), f32x16{});
        q = floor + select(threshold < t - floor, f32x16(1.0f), f32x16{});
    }
    const f32x16 y = (q * scale.fourth) * scale.third;
    const f32x16 signed_y = bit_cast<f32x16>(bit_cast<i32x16>(y) | (bit_cast<i32x16>(x) & kSignBit));
    return select(bits < kInfinityBits, signed_y, x);
}

// thresholds: one per element of x, laid out like it; read if kStochastic.
template <bool kStochastic>
FP16_INLINE void quantize_tiles_of(const float* x, int64_t rows, int64_t columns, int64_t tile_rows,
                                   int64_t tile_columns, const cpu::BlockGrid& grid, const float* thresholds,
                                   float* y) {
    const f32x16 most = static_cast<float>((1 << grid.mantissa) - 1);
    for (int64_t r0 = 0; r0 < rows; r0 += tile_rows) {
        const int64_t height = rows - r0 < tile_rows ? rows - r0 : tile_rows;
        for (int64_t c0 = 0; c0 < columns; c0 += tile_columns) {
            const int64_t width = columns - c0 < tile_columns ? columns - c0 : tile_columns;
            const int64_t start = r0 * columns + c0;
            f32x16 best = {};
            for (int64_t r = 0; r < height; r++)
                for_column_blocks(width, [&](int64_t c, auto lanes) {
                    best = larger(best, finite_magnitude(lanes.get(x + start + r * columns + c)));
                });
            const float largest = across(best, [](auto a, auto b) { return a > b ? a : b; });
            const BlockScale scale(largest, grid);
            for (int64_t r = 0; r < height; r++)
                for_column_blocks(width, [&](int64_t c, auto lanes) {
                    const int64_t i = start + r * columns + c;
                    const f32x16 threshold = kStochastic ? lanes.get(thresholds + i) : f32x16{};
                    lanes.put(y + i, round_to_block<kStochastic>(lanes.get(x + i), scale, most, threshold));
                });
        }
    }
}

FP16_KERNEL void quantize_tiles(const float* x, int64_t rows, int64_t columns, int64_t tile_rows, int64_t tile_columns,
                                const cpu::BlockGrid& grid, const float* thresholds, float* y) {
    if (thresholds)
        quantize_tiles_of<true>(x, rows, columns, tile_rows, tile_columns, grid, thresholds, y);
    else
        quantize_tiles_of<false>(x, rows, columns, tile_rows, tile_columns, grid, thresholds, y);
}

template <bool kStochastic>
FP16_INLINE void quantize_columns_of(const float* x, int64_t rows, int64_t columns, int64_t block,
                                     const cpu::BlockGrid& grid, const float* thresholds, float* y) {
    const f32x16 most = static_cast<float>((1 << grid.mantissa) - 1);
    for (int64_t r0 = 0; r0 < rows; r0 += block) {
        const int64_t end = rows - r0 < block ? rows : r0 + block;
        for_column_blocks(columns, [&](int64_t c, auto lanes) {
            f32x16 best = {};
            for (int64_t r = r0; r < end; r++) best = larger(best, finite_magnitude(lanes.get(x + r * columns + c)));
            const BlockScale scale(best, grid);
            for (int64_t r = r0; r < end; r++) {
                const int64_t i = r * columns + c;
                const f32x16 threshold = kStochastic ? lanes.get(thresholds + i) : f32x16{};
                lanes.put(y + i, round_to_block<kStochastic>(lanes.get(x + i), scale, most, threshold));
            }
        });
    }
}

FP16_KERNEL void quantize_columns(const float* x, int64_t rows, int64_t columns, int64_t block,
                                  const cpu::BlockGrid& grid, const float* thresholds, float* y) {
    if (thresholds)
        quantize_columns_of<true>(x, rows, columns, block, grid, thresholds, y);
    else
        quantize_columns_of<false>(x, rows, columns, block, grid, thresholds, y);
}

// thresholds[i] = (2 * (word >> 9) + 1) * 2^-24 with word i % 4 of Philox at counter + i / 4; whole groups of 64.
FP16_KERNEL void rounding_thresholds(uint64_t counter, uint64_t key, int64_t n, float* thresholds) {
    for (int64_t first = 0; first < n; first += 4 * kLanes, counter += kLanes) {
        uint32_t words[4 * kLanes];
        philox(counter, 0, 0, key, words);
        for (int64_t i = 0; i < 4 * kLanes; i += kLanes) {
            const i32x16 odd = bit_cast<i32x16>((load(words + i) >> 9 << 1) | 1u);
            store(thresholds + first + i, to_floats(odd) * 0x1p-24f);
        }
    }
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const QuantizeKernels quantize_kernels = {quantize_tiles, quantize_columns, rounding_thresholds};

}  // namespace fp16engine::cpu::FP16_ISA
