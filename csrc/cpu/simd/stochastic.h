// Rounding to a neighbour by sixteen random bits: on the mean, nothing is lost.
#pragma once
#include "cpu/simd/math.h"
#include "cpu/simd/philox.h"

namespace fp16engine {
namespace {

FP16_INLINE i32x16 truncate(f32x16 v) {
    return each_part<int32_t>([](FloatPart x) { return __builtin_convertvector(x, IntPart); }, v);
}

// With f the way from the neighbour nearer to zero to the other one, as a share of it: away from zero where
// floor(f * 2^16) + random >= 2^16. From 65504 on, and for NaN, as to nearest.
FP16_INLINE f32x16 round_stochastic(f32x16 v, u32x16 random) {
    constexpr float kNormal = 0x1p-14f;
    const f32x16 magnitude = absolute(v);
    const u32x16 normal = (bits_of(magnitude) + (random >> 3)) & ~0x1fffu;  // thirteen bits are cut off
    const i32x16 is_small = magnitude < kNormal;
    const i32x16 units = truncate(select(is_small, magnitude, 0.0f) * 0x1p40f);  // of 2^-40
    const f32x16 small = to_floats((units + bit_cast<i32x16>(random)) >> 16) * 0x1p-24f;
    const f32x16 finite = select(is_small, small, bit_cast<f32x16>(normal));
    return with_sign_of(select(magnitude < 65504.0f, finite, round_half(magnitude)), v);
}

// The random bits of a tensor's elements: element i takes half-word i % 8, low halves first, of the Philox words whose
// counter is (i / 8, step, stream, index). Asked for in order, sixteen elements at a time.
class RandomBits {
public:
    FP16_INLINE RandomBits(const StepScalars& step, uint32_t stream, uint32_t index)
        : seed_(step.seed), step_(static_cast<uint64_t>(step.step) << 32), stream_(stream), index_(index) {}

    FP16_INLINE u32x16 next(int64_t i) {
        const int64_t place = i % cpu::kRandomBlock;
        if (place == 0) {
            uint32_t words[4 * kLanes];
            philox(step_ | static_cast<uint64_t>(i / 8), stream_, index_, seed_, words);
            for (int k = 0; k < 4 * kLanes; k++) {
                bits_[2 * k] = words[k] & 0xffffu;
                bits_[2 * k + 1] = words[k] >> 16;
            }
        }
        return load(bits_ + place);
    }

private:
    uint64_t seed_, step_;
    uint32_t stream_, index_;
    uint32_t bits_[cpu::kRandomBlock];
};

}  // namespace
}  // namespace fp16engine
