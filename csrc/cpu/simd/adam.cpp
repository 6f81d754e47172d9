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
    float rate, scale;  // of the average and of the root of the average of squares

    template <class W>
    FP16_INLINE f32x16 change(f32x16 w, f32x16 g, float decay, const StepScalars& step, f32x16& first,
                              f32x16& second) const {
        f32x16 m, root;  // of the average of squares
        if constexpr (kNative) {
            m = s.beta1 * expand_signed(first) + s.rest1 * g;
            root = vsqrt(s.beta2 * expand_square(second) + s.rest2 * (g * g));
            first = compress_signed(m);
            second = vsqrt(root);
        } else {
            m = first = s.beta1 * first + s.rest1 * g;
            second = s.beta2 * second + s.rest2 * (g * g);
            root = vsqrt(round_to<W>(second));
        }
        f32x16 change = (rate * m) / (root * scale + s.eps);
        if (s.decoupled && decay != 0.0f) change = change + (step.lr * decay) * w;
        return change;
    }
};

template <class T, class W>
FP16_KERNEL void adam(const cpu::UpdateSlice<T, W>& x, W* m, W* v, const cpu::AdamStep& s) {
    const float rate = x.step.lr / x.step.correction1, scale = 1.0f / __builtin_sqrtf(x.step.correction2);
    with_native<W>(s.native, [&](auto native) { update(x, m, v, Adam<decltype(native)::value>{s, rate, scale}); });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const UpdateKernels<AdamStep> adam_kernels = {adam<half, half>, adam<half, float>, adam<float, float>,
                                              adam<bfloat16, bfloat16>, adam<bfloat16, float>};

}  // namespace fp16engine::cpu::FP16_ISA
