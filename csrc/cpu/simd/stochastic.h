// Rounding to a neighbour by random bits: on the mean, nothing is lost.
#pragma once
#include "cpu/simd/kernels.h"
#include "cpu/simd/math.h"
#include "cpu/simd/philox.h"

namespace fp16engine {
namespace {

FP16_INLINE i32x16 truncate(f32x16 v) {
    return each_part<int32_t>([](FloatPart x) { return __builtin_convertvector(x, IntPart); }, v);
}

template <class T>
FP16_INLINE f32x16 round_stochastic(f32x16 v, u32x16 random);

// With f the way from the neighbour nearer to zero to the other one, as a share of it: away from zero where
// floor(f * 2^16) + random >= 2^16. From 65504 on, and for NaN, as to nearest.
template <>
FP16_INLINE f32x16 round_stochastic<half>(f32x16 v, u32x16 random) {
    constexpr float kNormal = 0x1p-14f;
    const f32x16 magnitude = absolute(v);
    const u32x16 normal = (bits_of(magnitude) + (random >> 3)) & ~0x1fffu;  // thirteen bits are cut off
    const i32x16 is_small = magnitude < kNormal, is_normal = magnitude < 65504.0f;
    if (!any(is_small | ~is_normal)) return with_sign_of(bit_cast<f32x16>(normal), v);
    const i32x16 units = truncate(select(is_small, magnitude, 0.0f) * 0x1p40f);  // of 2^-40
    const f32x16 small = to_floats((units + bit_cast<i32x16>(random)) >> 16) * 0x1p-24f;
    const f32x16 finite = select(is_small, small, bit_cast<f32x16>(normal));
    return with_sign_of(select(is_normal, finite, round_half(magnitude)), v);
}

// The same for bfloat16, of which the largest is 0x7f7f: sixteen bits are cut off, below the smallest normal too.
template <>
FP16_INLINE f32x16 round_stochastic<bfloat16>(f32x16 v, u32x16 random) {
    const f32x16 magnitude = absolute(v);
    const f32x16 finite = bit_cast<f32x16>((bits_of(magnitude) + random) & ~0xffffu);
    const i32x16 is_less = bit_cast<i32x16>(magnitude) < 0x7f7f0000;
    return with_sign_of(select(is_less, finite, round_to<bfloat16>(magnitude)), v);
}

// -1 where position + random does not fit into 32 bits.
FP16_INLINE i32x16 carries(i32x16 position, u32x16 random) {
    return bit_cast<i32x16>((bit_cast<u32x16>(position) + random) < random);
}

// A sum s and what its rounding took, s + error being exact (Knuth's TwoSum); `beyond` is the error of the magnitude.
struct Difference {
    f32x16 s, beyond;

    FP16_INLINE Difference(f32x16 w, f32x16 change) {
        s = w - change;
        const f32x16 back = w - s, error = (w - (s + back)) + (back - change);
        beyond = select(s < 0.0f, -error, error);
    }
};

template <class T>
FP16_INLINE f32x16 subtract_stochastic(f32x16 w, f32x16 change, u32x16 random);

// The exact w - change, of a w that is a multiple of 2^-24, rounded to a binary16 neighbour by 32 random bits. The
// sum's error counts too: away from zero where its position between the neighbours, in units of 2^-32 of their
// distance, + random >= 2^32.
template <>
FP16_INLINE f32x16 subtract_stochastic<half>(f32x16 w, f32x16 change, u32x16 random) {
    const Difference difference(w, change);
    const f32x16 s = difference.s, beyond = difference.beyond;
    i32x16 magnitude = bit_cast<i32x16>(absolute(s));
    // the error in units of 2^-19 of the float gap it lies in; below 2^-85 there is none
    const i32x16 exponent = (magnitude + (beyond < 0.0f)) >> 23;
    const i32x16 gap = select(exponent > 42, exponent, i32x16(42));
    const f32x16 scale = bit_cast<f32x16>((296 - gap) << 23);
    i32x16 tail = bit_cast<i32x16>(beyond * scale + 0x1.8p23f) - 0x4b400000;  // to nearest
    const i32x16 is_below = tail < 0;
    magnitude = magnitude + is_below;
    tail = tail + (is_below & (1 << 19));

    // thirteen bits are cut off, and the tail
    const i32x16 is_small = magnitude < 0x38800000, is_normal = magnitude < 0x477fe000;  // 2^-14, 65504
    const i32x16 position = (magnitude << 19) + tail;
    const f32x16 normal = bit_cast<f32x16>(((magnitude >> 13) - carries(position, random)) << 13);
    if (!any(is_small | ~is_normal)) return with_sign_of(normal, s);

    // below 2^-14, the position counts from a multiple of 2^-24
    const f32x16 units = select(is_small, bit_cast<f32x16>(magnitude), 0.0f) * 0x1p24f;
    const i32x16 whole = truncate(units);
    const f32x16 high = (units - to_floats(whole)) * 0x1p16f;
    const i32x16 high_bits = truncate(high), low_bits = truncate((high - to_floats(high_bits)) * 0x1p16f);
    const i32x16 short_of = 113 - (magnitude >> 23), shift = select(is_small & (short_of < 31), short_of, i32x16(31));
    const i32x16 small_tail = truncate(to_floats(tail) * bit_cast<f32x16>((127 - shift) << 23));
    const i32x16 small_position = ((high_bits << 16) | low_bits) + small_tail;
    const f32x16 small = to_floats(whole - carries(small_position, random)) * 0x1p-24f;
    const f32x16 finite = select(is_small, small, normal);
    return with_sign_of(select(is_normal, finite, round_half(absolute(s))), s);
}

// The same of any w, rounded to a bfloat16 neighbour.
template <>
FP16_INLINE f32x16 subtract_stochastic<bfloat16>(f32x16 w, f32x16 change, u32x16 random) {
    const Difference difference(w, change);
    const f32x16 s = difference.s, beyond = difference.beyond;
    i32x16 magnitude = bit_cast<i32x16>(absolute(s));
    // the error in units of 2^-16 of the float gap it lies in, by two powers of two that are floats
    const i32x16 exponent = (magnitude + (beyond < 0.0f)) >> 23;
    const i32x16 power = 166 - select(exponent > 1, exponent, i32x16(1)), first = power >> 1;
    const f32x16 scale = bit_cast<f32x16>((first + 127) << 23), rest = bit_cast<f32x16>((power - first + 127) << 23);
    i32x16 tail = bit_cast<i32x16>((beyond * scale) * rest + 0x1.8p23f) - 0x4b400000;  // to nearest
    const i32x16 is_below = tail < 0;
    magnitude = magnitude + is_below;
    tail = tail + (is_below & (1 << 16));

    // sixteen bits are cut off, and the tail
    const i32x16 position = (magnitude << 16) + tail;
    const f32x16 finite = bit_cast<f32x16>(((magnitude >> 16) - carries(position, random)) << 16);
    const i32x16 is_less = magnitude < 0x7f7f0000;
    return with_sign_of(select(is_less, finite, round_to<bfloat16>(absolute(s))), s);
}

// Sixteen half-words from number `first` on, low halves of words first.
FP16_INLINE u32x16 half_words(const uint32_t* words, int64_t first) {
    typedef uint16_t HalfWords __attribute__((vector_size(kPartLanes * sizeof(uint16_t))));
    u32x16 v;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) {
        HalfWords part;
        std::memcpy(&part, reinterpret_cast<const char*>(words) + 2 * (first + i * kPartLanes), sizeof part);
        v.part[i] = __builtin_convertvector(part, u32x16::Part);
    }
    return v;
}

struct HalfWords {
    u32x16 own, other;
};

// The random bits of a tensor's elements: element i has half-word i % 8, low halves first, of the Philox words whose
// counter is (i / 8, step, stream, index), and half-word i % 8 ^ 4 as its other one. Asked for in order, sixteen
// elements at a time.
class RandomBits {
public:
    FP16_INLINE RandomBits(const StepScalars& step, uint32_t stream, uint32_t index)
        : seed_(step.seed), step_(static_cast<uint64_t>(step.step) << 32), stream_(stream), index_(index) {}

    FP16_INLINE HalfWords next(int64_t i) {
        const int64_t slot = i % cpu::kRandomBlock;
        if (slot == 0) refill(i);
        return {half_words(words_, slot), half_words(others_, slot)};
    }

private:
    // Out of line: ten rounds for every stream in every loop would be most of what the compiler works on.
    __attribute__((noinline)) void refill(int64_t i) {
        philox(step_ | static_cast<uint64_t>(i / 8), stream_, index_, seed_, words_, others_);
    }

    uint64_t seed_, step_;
    uint32_t stream_, index_;
    uint32_t words_[4 * kLanes], others_[4 * kLanes];
};

}  // namespace
}  // namespace fp16engine
