// Adam and AdamW.
#include "cpu/simd/update.h"

namespace fp16engine {
namespace {

template <bool kIsNative>
struct Adam {
    static constexpr int kStates = 2;
    static constexpr bool kNative = kIsNative;
    static constexpr bool kDecayStandsAlone = false;
    bool coupled() const { return !s.decoupled; }
    cpu::AdamStep s;

    template <class W>
    FP16_INLINE f32x16 change(f32x16 w, f32x16 g, float decay, const StepScalars& step, f32x16& first,
                              f32x16& second) const {
        f32x16 m, v;
        if constexpr (kNative) {
            m = s.beta1 * expand_signed(first) + s.rest1 * g;
            v = s.beta2 * expand_square(second) + s.rest2 * (g * g);
            first = compress_signed(m);
            second = compress_square(v);
        } else {
            m = first = s.beta1 * first + s.rest1 * g;
            second = s.beta2 * second + s.rest2 * (g * g);
            v = round_to<W>(second);
        }
        f32x16 change = (step.lr * (m / step.correction1)) / (vsqrt(v / step.correction2) + s.eps);
        if (s.decoupled && decay != 0.0f) change = change + (step.lr * decay) * w;
        return change;
    }
};

template <class T, class W>
FP16_KERNEL void adam(const cpu::UpdateSlice<T, W>& x, W* m, W* v, const cpu::AdamStep& s) {
    with_native<W>(s.native, [&](auto native) { update(x, m, v, Adam<decltype(native)::value>{s}); });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const UpdateKernels<AdamStep> adam_kernels = {adam<half, half>, adam<half, float>, adam<float, float>,
                                              adam<bfloat16, bfloat16>, adam<bfloat16, float>};

}  // namespace fp16engine::cpu::FP16_ISA
