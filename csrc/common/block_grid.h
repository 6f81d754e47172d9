// The exponents a block floating point format has.
#pragma once
#include <algorithm>
#include <cstdint>

namespace fp16engine {

// Two's complement exponents of so many bits; no step is smaller than float's smallest number, 2^-149, and no exponent
// larger than that of its largest.
inline int lowest_block_exponent(int64_t mantissa, int64_t exponent_bits) {
    return static_cast<int>(std::max<int64_t>(-(int64_t{1} << (exponent_bits - 1)), mantissa - 149));
}
inline int highest_block_exponent(int64_t exponent_bits) {
    return static_cast<int>(std::min<int64_t>((int64_t{1} << (exponent_bits - 1)) - 1, 128));
}

}  // namespace fp16engine
