// The exponents a block floating point format has, and the checks of its arguments.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>

#include "common/array_view.h"

namespace fp16engine {

// Two's complement exponents of so many bits; no step is smaller than float's smallest number, 2^-149, and no exponent
// larger than that of its largest.
inline int lowest_block_exponent(int64_t mantissa, int64_t exponent_bits) {
    return static_cast<int>(std::max<int64_t>(-(int64_t{1} << (exponent_bits - 1)), mantissa - 149));
}
inline int highest_block_exponent(int64_t exponent_bits) {
    return static_cast<int>(std::min<int64_t>((int64_t{1} << (exponent_bits - 1)) - 1, 128));
}

inline void expect_block_format(int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits) {
    expect(mantissa >= 2 && mantissa <= 16, "mantissa must be 2 to 16 bits, got " + std::to_string(mantissa));
    expect(exponent_bits >= 2 && exponent_bits <= 16,
           "exponent_bits must be 2 to 16 bits, got " + std::to_string(exponent_bits));
    expect(
        block_length >= 1 && block_inner >= 1,
        "block must be at least one value, got " + std::to_string(block_length) + " x " + std::to_string(block_inner));
}

inline void expect_blocks(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner) {
    expect_dtype("x", x, DType::float32);
    expect_dtype("y", y, DType::float32);
    expect(x.size() == outer * length * inner && y.size() == x.size(),
           "x and y must be (" + std::to_string(outer) + ", " + std::to_string(length) + ", " + std::to_string(inner) +
               ") values, got " + x.describe() + " and " + y.describe());
}

}  // namespace fp16engine
