// Optimizer steps on a slice of one tensor: gradient, weight and state are read once, weight and state rounded once at
// the store. T stores parameter and gradient, W the weight that is updated and its state: T itself, or the float of a
// master. No fused multiply-add and no reordering: the bits are those of the written order.
#pragma once
#include "cpu/simd/columns.h"
#include "cpu/simd/kernels.h"
#include "cpu/simd/math.h"

namespace fp16engine {
namespace {

// update(i, w, g, lanes) returns the new weight. `weight` is `param` where there is no master.
template <class T, class W, class Update>
FP16_INLINE void update_slice(T* param, const T* grad, W* weight, int64_t n, const cpu::GradientScale& gradient,
                              Update update) {
    const bool has_master = static_cast<const void*>(weight) != static_cast<const void*>(param);
    for_column_blocks(n, [&](int64_t i, auto lanes) {
        const f32x16 w = lanes.get(weight + i);
        f32x16 g = lanes.get(grad + i) * gradient.scale;
        if (gradient.decays) g = g + gradient.decay * w;
        const f32x16 updated = update(i, w, g, lanes);
        lanes.put(weight + i, updated);
        if (has_master) lanes.put(param + i, updated);
    });
}

template <class T, class W>
FP16_KERNEL void sgd(T* param, const T* grad, W* weight, W* momentum, int64_t n, const cpu::GradientScale& gradient,
                     const cpu::SgdStep& s) {
    update_slice(param, grad, weight, n, gradient, [&](int64_t i, f32x16 w, f32x16 g, auto lanes) {
        f32x16 step = g;
        if (momentum) {
            const f32x16 m = s.momentum * lanes.get(momentum + i) + g;
            lanes.put(momentum + i, m);
            step = s.nesterov ? g + s.momentum * m : m;
        }
        return w - s.lr * step;
    });
}

template <class T, class W>
FP16_KERNEL void adam(T* param, const T* grad, W* weight, W* m, W* v, int64_t n, const cpu::GradientScale& gradient,
                      const cpu::AdamStep& s) {
    update_slice(param, grad, weight, n, gradient, [&](int64_t i, f32x16 w, f32x16 g, auto lanes) {
        const f32x16 first = s.beta1 * lanes.get(m + i) + s.rest1 * g;
        const f32x16 second = round_to<W>(s.beta2 * lanes.get(v + i) + s.rest2 * (g * g));
        lanes.put(m + i, first);
        lanes.put(v + i, second);
        const f32x16 denominator = vsqrt(second / s.correction2) + s.eps;
        f32x16 change = (s.lr * (first / s.correction1)) / denominator;
        if (s.decays) change = change + s.decay * w;
        return w - change;
    });
}

template <class T, class W>
FP16_KERNEL void rmsprop(T* param, const T* grad, W* weight, W* v, W* momentum, int64_t n,
                         const cpu::GradientScale& gradient, const cpu::RmspropStep& s) {
    update_slice(param, grad, weight, n, gradient, [&](int64_t i, f32x16 w, f32x16 g, auto lanes) {
        const f32x16 second = round_to<W>(s.alpha * lanes.get(v + i) + s.rest * (g * g));
        lanes.put(v + i, second);
        f32x16 step = g / (vsqrt(second) + s.eps);
        if (momentum) {
            step = s.momentum * lanes.get(momentum + i) + step;
            lanes.put(momentum + i, step);
        }
        return w - s.lr * step;
    });
}

// The exponent of an infinity or NaN is all ones; plain loops, which compilers vectorise.
bool all_finite(const half* x, int64_t n) {
    unsigned found = 0;
    for (int64_t i = 0; i < n; i++) found |= (x[i].bits & 0x7c00u) == 0x7c00u;
    return !found;
}

bool all_finite(const float* x, int64_t n) {
    unsigned found = 0;
    for (int64_t i = 0; i < n; i++) found |= (bit_cast<uint32_t>(x[i]) & 0x7f800000u) == 0x7f800000u;
    return !found;
}

}  // namespace
}  // namespace fp16engine
