// Rounding to a neighbour by sixteen random bits: on the mean, nothing is lost.
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

// Sixteen random bits for each of eight elements: element j takes half-word j, low halves first.
struct RandomBits {
    PhiloxWords words;
    __device__ __forceinline__ unsigned operator[](int j) const {
        const unsigned word = words.values[j / 2];
        return j % 2 ? word >> 16 : word & 0xffffu;
    }
};

}  // namespace fp16engine::gpu
