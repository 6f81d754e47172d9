// RMSprop, with momentum or without.
#include "cpu/simd/update.h"

namespace fp16engine {
namespace {

template <bool kIsNative, int kStateCount>
struct Rmsprop {
    static constexpr int kStates = kStateCount;
    static constexpr bool kNative = kIsNative;
    static constexpr bool kDecayStandsAlone = false;
    static constexpr bool coupled() { return true; }
    cpu::RmspropStep s;

    template <class W>
    FP16_INLINE f32x16 change(f32x16, f32x16 g, float, const StepScalars& step, f32x16& first, f32x16& second) const {
        f32x16 v;
        if constexpr (kNative) {
            v = s.alpha * expand_square(first) + s.rest * (g * g);
            first = compress_square(v);
        } else {
            first = s.alpha * first + s.rest * (g * g);
            v = round_to<W>(first);
        }
        f32x16 b = g / (vsqrt(v) + s.eps);
        if constexpr (kStates == 2) {
            b = s.momentum * (kNative ? expand_signed(second) : second) + b;
            second = kNative ? compress_signed(b) : b;
        }
        return step.lr * b;
    }
};

template <class T, class W>
FP16_KERNEL void rmsprop(const cpu::UpdateSlice<T, W>& x, W* v, W* momentum, const cpu::RmspropStep& s) {
    with_native<W>(s.native, [&](auto native) {
        constexpr bool kNative = decltype(native)::value;
        if (momentum)
            update(x, v, momentum, Rmsprop<kNative, 2>{s});
        else
            update(x, v, momentum, Rmsprop<kNative, 1>{s});
    });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const UpdateKernels<RmspropStep> rmsprop_kernels = {rmsprop<half, half>, rmsprop<half, float>, rmsprop<float, float>,
                                                    rmsprop<bfloat16, bfloat16>, rmsprop<bfloat16, float>};

}  // namespace fp16engine::cpu::FP16_ISA
