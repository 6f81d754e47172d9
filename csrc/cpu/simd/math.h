// Elementary functions on sixteen float lanes, from + - * / and bit patterns alone: the same bits on every instruction
// set. Infinities, NaN, subnormals and signed zeros as in IEEE 754 and C. Largest errors measured, in units of the last
// float place: exp 1, log 0.8, tanh 1.3; gelu 0.5 and its slope 4 (where it crosses zero), for they are evaluated in
// binary64.
#pragma once
#include "cpu/simd/arithmetic.h"

namespace fp16engine {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kNotANumber = __builtin_nanf("");

FP16_INLINE u32x16 bits_of(f32x16 v) { return bit_cast<u32x16>(v); }
FP16_INLINE f32x16 absolute(f32x16 v) { return bit_cast<f32x16>(bits_of(v) & 0x7fffffffu); }
FP16_INLINE f32x16 with_sign_of(f32x16 magnitude, f32x16 sign) {
    return bit_cast<f32x16>((bits_of(magnitude) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}
// NaN stays NaN.
FP16_INLINE f32x16 clamp(f32x16 v, float low, float high) {
    v = select(v < low, low, v);
    return select(v > high, high, v);
}

// e^x = 2^n e^r, r = x - n ln 2 in two parts. 2^n is applied in two steps, so subnormal results are rounded once.
// Polynomial: Moshier, Cephes (expf).
FP16_INLINE f32x16 vexp(f32x16 x) {
    constexpr float kShift = 0x1.8p23f;  // leaves the nearest integer in the low bits
    x = clamp(x, -104.0f, 89.0f);        // beyond: 0 and inf
    const f32x16 shifted = x * 1.44269504088896341f + kShift;
    const f32x16 n = shifted - kShift;
    f32x16 r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    f32x16 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * (r * r) + r) + 1.0f;
    const i32x16 exponent = bit_cast<i32x16>(bits_of(shifted) - float_bits(kShift));
    const i32x16 half = exponent >> 1;
    const u32x16 first = bit_cast<u32x16>(half + 127) << 23, second = bit_cast<u32x16>(exponent - half + 127) << 23;
    return (p * bit_cast<f32x16>(first)) * bit_cast<f32x16>(second);
}

// x = 2^e (1 + z) with 1 + z in [sqrt 1/2, sqrt 2); log x = z - z^2/2 + z^3 P(z) + e ln 2. Polynomial: Cephes (logf).
FP16_INLINE f32x16 vlog(f32x16 x) {
    const i32x16 tiny = x < 0x1p-126f;
    const f32x16 scaled = select(tiny, x * 0x1p23f, x);  // subnormals become normal
    const f32x16 offset = select(tiny, -23.0f, f32x16{});
    constexpr uint32_t kRootHalf = 0x3f3504f3u;
    const u32x16 distance = bits_of(scaled) - kRootHalf;
    const i32x16 exponent = bit_cast<i32x16>(distance) >> 23;
    const f32x16 e = to_floats(exponent) + offset;
    const f32x16 z = bit_cast<f32x16>((distance & 0x007fffffu) + kRootHalf) - 1.0f;
    f32x16 p = z * 7.0376836292e-2f + -1.1514610310e-1f;
    p = p * z + 1.1676998740e-1f;
    p = p * z + -1.2420140846e-1f;
    p = p * z + 1.4249322787e-1f;
    p = p * z + -1.6668057665e-1f;
    p = p * z + 2.0000714765e-1f;
    p = p * z + -2.4999993993e-1f;
    p = p * z + 3.3333331174e-1f;
    const f32x16 square = z * z;
    f32x16 y = (p * z) * square;
    y = y + e * -2.12194440e-4f;
    y = y - 0.5f * square;
    y = (z + y) + e * 0.693359375f;
    y = select(x == kInfinity, x, y);
    y = select(x < 0.0f, kNotANumber, y);
    y = select(x == 0.0f, -kInfinity, y);
    return select(x == x, y, x);
}

// Polynomial below 0.625 (Cephes, tanhf), 1 - 2 / (e^2|x| + 1) above.
FP16_INLINE f32x16 vtanh(f32x16 x) {
    const f32x16 magnitude = absolute(x), square = x * x;
    f32x16 p = square * -5.70498872745e-3f + 2.06390887954e-2f;
    p = p * square + -5.37397155531e-2f;
    p = p * square + 1.33314422036e-1f;
    p = p * square + -3.33332819422e-1f;
    const f32x16 small = (p * square) * x + x;
    const f32x16 large = with_sign_of(1.0f - 2.0f / (vexp(magnitude + magnitude) + 1.0f), x);
    return select(magnitude < 0.625f, small, large);
}

// --- in binary64: functions whose float evaluation would cancel -----------------------------------------------------

typedef Vector<double> f64x8;

// Applies `function` to the two halves of the lanes in binary64; the results are rounded to float.
template <class Function>
FP16_INLINE f32x16 in_double(f32x16 v, Function function) {
    typedef float Floats __attribute__((vector_size(kPartBytes / 2)));  // as many lanes as a part of doubles has
    Floats halves[2][kParts];
    std::memcpy(halves, &v, sizeof v);
    FP16_UNROLL
    for (auto& parts : halves) {
        f64x8 wide;
        FP16_UNROLL
        for (int i = 0; i < kParts; i++) wide.part[i] = __builtin_convertvector(parts[i], f64x8::Part);
        wide = function(wide);
        FP16_UNROLL
        for (int i = 0; i < kParts; i++) parts[i] = __builtin_convertvector(wide.part[i], Floats);
    }
    std::memcpy(&v, halves, sizeof v);
    return v;
}

// e^x for -700 < x < 700, Taylor series; relative error 1e-12.
FP16_INLINE f64x8 vexp(f64x8 x) {
    constexpr double kShift = 0x1.8p52;
    const f64x8 shifted = x * 1.4426950408889634 + kShift;
    const f64x8 n = shifted - kShift;
    const f64x8 r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    f64x8 p = r * (1.0 / 3628800) + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    const u64x8 power = (bit_cast<u64x8>(shifted) + 1023) << 52;  // the low bits of `shifted` are n
    return p * bit_cast<f64x8>(power);
}

// Normal distribution function, its density and x, where |x| <= 16; beyond, float sees 0 and 1.
struct Normal {
    f64x8 x, cdf, density;
};

// Phi(-t) = e^(-t^2/2) p(q) / (1 + t sqrt(pi/2)), q = (t - 4) / (t + 4): what is left of the tail is nearly constant.
// p: Chebyshev fit on [0, 16], relative error 2e-12.
FP16_INLINE Normal normal(f64x8 x) {
    const f64x8 sign = bit_cast<f64x8>((bit_cast<u64x8>(x) & 0x8000000000000000u) | 0x3ff0000000000000u);
    const f64x8 t = x * sign;
    const f64x8 q = (t - 4.0) / (t + 4.0);
    f64x8 p = q * -1.6352302729565851e-6 + -1.9037617590096718e-6;
    p = p * q + 1.7168337165337947e-5;
    p = p * q + 2.3246329707976005e-5;
    p = p * q + -0.0001173887777067685;
    p = p * q + -0.00010583931031711787;
    p = p * q + 0.00091849552699721854;
    p = p * q + -0.00052001263561369252;
    p = p * q + -0.0063981679430161831;
    p = p * q + 0.024630757105649608;
    p = p * q + -0.04817249157336357;
    p = p * q + 0.054009739345334809;
    p = p * q + -0.013961083804214873;
    p = p * q + -0.078035683406001185;
    p = p * q + 0.56771540712989724;
    const f64x8 bell = vexp(-0.5 * (t * t));
    const f64x8 tail = bell * p / (1.0 + t * 1.2533141373155003);
    // tail where x < 0, 1 - tail elsewhere
    return {x, (0.5 + 0.5 * sign) - sign * tail, bell * 0.3989422804014327};
}

FP16_INLINE f32x16 gelu(f32x16 x) {
    // Phi(16) is 1 in float, and the limit at -inf is -0.
    const f32x16 y = in_double(clamp(x, -16.0f, 16.0f), [](f64x8 v) {
        const Normal n = normal(v);
        return n.x * n.cdf;
    });
    return select(x > 16.0f, x, y);
}

FP16_INLINE f32x16 gelu_slope(f32x16 x) {
    return in_double(clamp(x, -16.0f, 16.0f), [](f64x8 v) {
        const Normal n = normal(v);
        return n.cdf + n.x * n.density;
    });
}

// x^exponent. The common exponents by one or two roundings, the others by the C library, which is exact to an ulp.
FP16_INLINE f32x16 vpow(f32x16 x, float exponent) {
    if (exponent == 0.0f) return 1.0f;
    if (exponent == 1.0f) return x;
    if (exponent == 2.0f) return x * x;
    if (exponent == 3.0f) return (x * x) * x;
    if (exponent == -1.0f) return 1.0f / x;
    if (exponent == 0.5f) return vsqrt(x);  // NaN at -inf, as in NumPy
    float lanes[kLanes];
    store(lanes, x);
    for (float& lane : lanes) lane = __builtin_powf(lane, exponent);
    return load(lanes);
}

}  // namespace
}  // namespace fp16engine
