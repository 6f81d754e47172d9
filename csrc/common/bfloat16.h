// bfloat16 as bits: the upper half of a float. Rounds to nearest, ties to even; a NaN stays a NaN, and quiet.
#pragma once
#include "common/half.h"

namespace fp16engine {

struct bfloat16 {
    uint16_t bits;
};

inline float to_float(bfloat16 b) { return bits_float(static_cast<uint32_t>(b.bits) << 16); }

inline bfloat16 to_bfloat16(float value) {
    const uint32_t bits = float_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>(bits >> 16 | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

template <>
inline bfloat16 from_float<bfloat16>(float value) {
    return to_bfloat16(value);
}

}  // namespace fp16engine
