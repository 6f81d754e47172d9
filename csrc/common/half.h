// IEEE binary16 as bits, with scalar conversions that need no hardware support (round to nearest, ties to even).
#pragma once
#include <cstdint>
#include <cstring>

namespace fp16engine {

struct half {
    uint16_t bits;
};

inline uint32_t float_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float bits_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float to_float(half h) {
    const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
    const uint32_t magnitude = h.bits & 0x7fffu;
    if (magnitude >= 0x7c00u)
        return bits_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13 | (magnitude > 0x7c00u ? 0x400000u : 0u));
    if (magnitude >= 0x0400u) return bits_float(sign | ((magnitude << 13) + (112u << 23)));
    return bits_float(sign | float_bits(static_cast<float>(magnitude) * 0x1p-24f));
}

inline float to_float(float value) { return value; }

inline half to_half(float value) {
    const uint32_t bits = float_bits(value);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu))};
    if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // from 65520 on
    if (magnitude < 0x38800000u) {
        // Adding 0.5 puts the last half-subnormal bit (2^-24) at the last float bit, so the addition itself rounds.
        const uint32_t rounded = float_bits(bits_float(magnitude) + 0.5f) - float_bits(0.5f);
        return {static_cast<uint16_t>(sign | rounded)};
    }
    const uint32_t odd = magnitude >> 13 & 1u;
    return {static_cast<uint16_t>(sign | ((magnitude - (112u << 23) + 0xfffu + odd) >> 13))};
}

template <class T>
T from_float(float value);
template <>
inline float from_float<float>(float value) {
    return value;
}
template <>
inline half from_float<half>(float value) {
    return to_half(value);
}

}  // namespace fp16engine
