// __half and __half2 for kernels compiled without a CUDA toolkit: only what the kernels use, rounded as the GPU rounds.
#pragma once
#include <cmath>

#include "common/half.h"

namespace simt {

// acc + a * b rounded once to binary16. The product is exact in double, and so is the sum wherever it decides the
// rounding.
inline fp16engine::half half_from_double(double value) {
    const float nearest = static_cast<float>(value);
    uint32_t bits = fp16engine::float_bits(nearest);
    const double error = value - static_cast<double>(nearest);
    // Round to odd on the way, so that the second rounding is the only one that counts.
    if (std::isfinite(nearest) && error != 0.0 && !(bits & 1u)) bits += (error > 0.0) == (nearest > 0.0f) ? 1u : -1u;
    return fp16engine::to_half(fp16engine::bits_float(bits));
}

}  // namespace simt

using __half = fp16engine::half;

struct alignas(4) __half2 {
    __half x, y;
};

inline float __half2float(__half h) { return fp16engine::to_float(h); }
inline __half __float2half_rn(float v) { return fp16engine::to_half(v); }
inline float2 __half22float2(__half2 h) { return {__half2float(h.x), __half2float(h.y)}; }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline __half __hadd_rn(__half a, __half b) { return __float2half_rn(__half2float(a) + __half2float(b)); }
inline __half __hsub_rn(__half a, __half b) { return __float2half_rn(__half2float(a) - __half2float(b)); }
inline __half __hmul_rn(__half a, __half b) { return __float2half_rn(__half2float(a) * __half2float(b)); }
inline __half __hfma(__half a, __half b, __half c) {
    return simt::half_from_double(static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c));
}
