// SGD, with momentum or without.
#include "cpu/simd/update.h"

namespace fp16engine {
namespace {

struct PlainSgd {
    static constexpr int kStates = 0;
    static constexpr bool kNative = false;
    static constexpr bool kDecayStandsAlone = true;
    static constexpr bool coupled() { return true; }

    template <class W>
    FP16_INLINE f32x16 change(f32x16, f32x16 g, float, const StepScalars& step, f32x16&, f32x16&) const {
        return step.lr * g;
    }
};

struct MomentumSgd {
    static constexpr int kStates = 1;
    static constexpr bool kNative = false;
    static constexpr bool kDecayStandsAlone = true;
    static constexpr bool coupled() { return true; }
    cpu::SgdStep s;

    template <class W>
    FP16_INLINE f32x16 change(f32x16, f32x16 g, float, const StepScalars& step, f32x16& first, f32x16&) const {
        first = s.momentum * first + g;
        return step.lr * (s.nesterov ? g + s.momentum * first : first);
    }
};

template <class T, class W>
FP16_KERNEL void sgd(const cpu::UpdateSlice<T, W>& x, W* momentum, W* none, const cpu::SgdStep& s) {
    if (momentum)
        update(x, momentum, none, MomentumSgd{s});
    else
        update(x, momentum, none, PlainSgd{});
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const UpdateKernels<SgdStep> sgd_kernels = {sgd<half, half>, sgd<half, float>, sgd<float, float>,
                                            sgd<bfloat16, bfloat16>, sgd<bfloat16, float>};

}  // namespace fp16engine::cpu::FP16_ISA
