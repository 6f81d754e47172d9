// Rounding to a neighbour by random bits: on the mean, nothing is lost.
#pragma once
#include "common/philox.h"
#include "kernels/chunk.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

__device__ __forceinline__ float with_sign_of(float magnitude, float sign) {
    return __int_as_float((__float_as_int(magnitude) & 0x7fffffff) | (__float_as_int(sign) & ~0x7fffffff));
}

// With f the way from the neighbour nearer to zero to the other one, as a share of it: away from zero where
// floor(f * 2^16) + random >= 2^16. From 65504 on, and for NaN, as to nearest.
__device__ __forceinline__ float round_stochastic(float v, unsigned random) {
    const unsigned magnitude = static_cast<unsigned>(__float_as_int(v)) & 0x7fffffffu;  // ordered like the values
    if (magnitude >= 0x477fe000u) return rounded<__half>(v);                            // 65504
    float result;
    if (magnitude < 0x38800000u) {  // 2^-14: in units of 2^-40, then of 2^-24
        const int units = static_cast<int>(__fmul_rn(__int_as_float(static_cast<int>(magnitude)), 0x1p40f));
        result = __fmul_rn(static_cast<float>((units + static_cast<int>(random)) >> 16), 0x1p-24f);
    } else {  // thirteen bits are cut off
        result = __int_as_float(static_cast<int>((magnitude + (random >> 3)) & ~0x1fffu));
    }
    return with_sign_of(result, v);
}

// The exact w - change, of a w that is a multiple of 2^-24, rounded to a binary16 neighbour by 32 random bits. The
// sum's error counts too: away from zero where its position between the neighbours, in units of 2^-32 of their
// distance, + random >= 2^32.
__device__ __forceinline__ float subtract_stochastic(float w, float change, unsigned random) {
    const float s = w - change, back = w - s;
    const float error = (w - (s + back)) + (back - change);  // s + error is exact (Knuth's TwoSum)
    const float beyond = s < 0.0f ? -error : error;          // of the magnitude
    unsigned magnitude = static_cast<unsigned>(__float_as_int(s)) & 0x7fffffffu;
    // the error in units of 2^-19 of the float gap it lies in; below 2^-85 there is none
    const int exponent = static_cast<int>(magnitude - (beyond < 0.0f)) >> 23, gap = exponent > 42 ? exponent : 42;
    const float scale = __int_as_float((296 - gap) << 23);
    int tail = __float_as_int(__fmul_rn(beyond, scale) + 0x1.8p23f) - __float_as_int(0x1.8p23f);  // to nearest
    if (tail < 0) {
        magnitude -= 1;
        tail += 1 << 19;
    }
    if (magnitude >= 0x477fe000u) return rounded<__half>(s);  // 65504
    float result;
    if (magnitude < 0x38800000u) {  // 2^-14: the position counts from a multiple of 2^-24
        const float units = __fmul_rn(__int_as_float(static_cast<int>(magnitude)), 0x1p24f);
        const int whole = static_cast<int>(units);
        const float high = __fmul_rn(units - static_cast<float>(whole), 0x1p16f);
        const unsigned high_bits = static_cast<unsigned>(high);
        const unsigned low_bits = static_cast<unsigned>(__fmul_rn(high - static_cast<float>(high_bits), 0x1p16f));
        const unsigned short_of = 113 - (magnitude >> 23), shift = short_of < 31 ? short_of : 31;
        const unsigned position = (high_bits << 16 | low_bits) + (static_cast<unsigned>(tail) >> shift);
        result = __fmul_rn(static_cast<float>(whole + (position + random < random)), 0x1p-24f);
    } else {  // thirteen bits are cut off, and the tail
        const unsigned position = (magnitude << 19) + static_cast<unsigned>(tail);
        result = __int_as_float(static_cast<int>(((magnitude >> 13) + (position + random < random)) << 13));
    }
    return with_sign_of(result, s);
}

// Sixteen random bits for each of eight elements: element j takes half-word j, low halves first.
struct RandomBits {
    PhiloxWords words;
    __device__ __forceinline__ unsigned operator[](int j) const {
        const unsigned word = words.values[j / 2];
        return j % 2 ? word >> 16 : word & 0xffffu;
    }
};

}  // namespace fp16engine::gpu
