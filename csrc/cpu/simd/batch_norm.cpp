// Batch normalisation over the rows of x (rows, C), C innermost. Every element costs one read and, where there is an
// output, one write. Registers are float32; T is the storage type. No fused multiply-add: the bits are those of the
// written order.
#include "common/rectifier.h"
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

template <class T>
FP16_KERNEL void slice_moments(const T* x, int64_t rows, int64_t C, float* sum, float* squares) {
    const float count = static_cast<float>(rows);
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        const f32x16 total = sum_rows(rows, [&](int64_t r) { return lanes.get(x + r * C + c); });
        const f32x16 mean = total / count;
        const f32x16 second = sum_rows(rows, [&](int64_t r) {
            const f32x16 distance = lanes.get(x + r * C + c) - mean;
            return distance * distance;
        });
        lanes.put(sum + c, total);
        lanes.put(squares + c, second);
    });
}

FP16_INLINE f32x16 affine(f32x16 x, f32x16 mean, f32x16 inv_std, f32x16 gamma, f32x16 beta) {
    f32x16 t = x - mean;
    t = t * inv_std;
    t = t * gamma;
    return t + beta;
}

// NaN passes through, as in every ReLU here.
FP16_INLINE f32x16 within(const Rectifier& bounds, f32x16 v) {
    return select(v >= bounds.ceiling, f32x16{} + bounds.ceiling, select(v <= 0.0f, f32x16{}, v));
}

template <class T>
FP16_KERNEL void normalize(const T* x, const T* residual, int64_t rows, int64_t C, const float* mean,
                           const float* inv_std, const float* gamma, const float* beta, const Rectifier& rectifier,
                           T* y) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        const f32x16 m = lanes.get(mean + c), s = lanes.get(inv_std + c), g = lanes.get(gamma + c),
                     b = lanes.get(beta + c);
        const auto each = [&](auto value) {
            if (rectifier.any()) {
                for (int64_t i = c; i < rows * C; i += C) lanes.put(y + i, within(rectifier, round_to<T>(value(i))));
            } else {
                for (int64_t i = c; i < rows * C; i += C) lanes.put(y + i, value(i));
            }
        };
        if (residual)
            each([&](int64_t i) { return affine(lanes.get(x + i), m, s, g, b) + lanes.get(residual + i); });
        else
            each([&](int64_t i) { return affine(lanes.get(x + i), m, s, g, b); });
    });
}

template <class T, class Lanes>
struct MaskedGradient {
    const T *x, *dy;
    Lanes lanes;
    f32x16 mean, inv_std, gamma, beta;
    Rectifier rectifier;

    FP16_INLINE f32x16 operator()(int64_t i, f32x16 value) const {
        const f32x16 gradient = lanes.get(dy + i);
        if (!rectifier.any()) return gradient;
        const f32x16 y = round_to<T>(affine(value, mean, inv_std, gamma, beta));  // before the rectifier
        return select(y > 0.0f, select(y >= rectifier.ceiling, f32x16{}, gradient), f32x16{});
    }
};

template <class T, class Lanes>
FP16_INLINE MaskedGradient<T, Lanes> masked_gradient(const T* x, const T* dy, int64_t c, Lanes lanes, const float* mean,
                                                     const float* inv_std, const float* gamma, const float* beta,
                                                     const Rectifier& rectifier) {
    return {x,        dy, lanes, lanes.get(mean + c), lanes.get(inv_std + c), lanes.get(gamma + c), lanes.get(beta + c),
            rectifier};
}

template <class T>
FP16_KERNEL void backward_sums(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean,
                               const float* inv_std, const float* gamma, const float* beta, const Rectifier& rectifier,
                               float* dbeta, float* dgamma) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        const auto gradient = masked_gradient(x, dy, c, lanes, mean, inv_std, gamma, beta, rectifier);
        f32x16 sum[2] = {}, weighted[2] = {};
        const auto add = [&](int64_t r, int k) {
            const f32x16 value = lanes.get(x + r * C + c);
            const f32x16 g = gradient(r * C + c, value);
            sum[k] += g;
            weighted[k] += g * ((value - gradient.mean) * gradient.inv_std);
        };
        int64_t r = 0;
        for (; r + 2 <= rows; r += 2) {
            add(r, 0);
            add(r + 1, 1);
        }
        if (r < rows) add(r, 0);
        lanes.put(dbeta + c, sum[0] + sum[1]);
        lanes.put(dgamma + c, weighted[0] + weighted[1]);
    });
}

template <class T>
FP16_KERNEL void backward_input(const T* x, const T* dy, const T* pending_grad, int64_t rows, int64_t C,
                                const float* mean, const float* inv_std, const float* gamma, const float* beta,
                                const Rectifier& rectifier, const float* dbeta_mean, const float* dgamma_mean, T* dx) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        const auto gradient = masked_gradient(x, dy, c, lanes, mean, inv_std, gamma, beta, rectifier);
        const f32x16 scale = gradient.gamma * gradient.inv_std;
        const f32x16 shift = lanes.get(dbeta_mean + c), slope = lanes.get(dgamma_mean + c);
        const auto register_of = [&](int64_t i) {
            const f32x16 value = lanes.get(x + i);
            const f32x16 xhat = (value - gradient.mean) * gradient.inv_std;
            return scale * ((gradient(i, value) - shift) - xhat * slope);
        };
        if (pending_grad) {
            for (int64_t i = c; i < rows * C; i += C) lanes.put(dx + i, register_of(i) + lanes.get(pending_grad + i));
        } else {
            for (int64_t i = c; i < rows * C; i += C) lanes.put(dx + i, register_of(i));
        }
    });
}

// The largest |x| of each column, infinity where one is NaN.
template <class T>
FP16_KERNEL void column_largest(const T* x, int64_t rows, int64_t C, float* largest) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        f32x16 most = {};
        for (int64_t i = c; i < rows * C; i += C) {
            const f32x16 value = lanes.get(x + i);
            const f32x16 size = select(value < 0.0f, -value, value);
            most = select(size <= most, most, select(size == size, size, f32x16{} + __builtin_inff()));
        }
        lanes.put(largest + c, most);
    });
}

// What a strict block sums over its rows.
enum StrictQuantity { kSumX, kSumSquaredDistance, kSumGradient, kSumGradientXhat };

template <class T>
FP16_KERNEL void strict_block_sums(const T* x, const T* dy, int64_t rows, int64_t C, const float* mean,
                                   const float* inv_std, const float* gamma, const float* beta, int quantity,
                                   const Rectifier& rectifier, float* sums) {
    for_column_blocks(C, [&](int64_t c, auto lanes) {
        const auto gradient = masked_gradient(x, dy, c, lanes, mean, inv_std, gamma, beta, rectifier);
        for (int64_t first = 0; first < rows; first += 32) {
            const int64_t last = first + 32 < rows ? first + 32 : rows;
            f32x16 acc = {};
            for (int64_t r = first; r < last; r++) {
                const f32x16 value = lanes.get(x + r * C + c);
                f32x16 term = value * gradient.inv_std;  // of moments, a scale
                if (quantity == kSumSquaredDistance) {
                    term = (value - gradient.mean) * gradient.inv_std;
                    term = term * term;
                }
                if (quantity >= kSumGradient) term = gradient(r * C + c, value);
                if (quantity == kSumGradientXhat) term = term * ((value - gradient.mean) * gradient.inv_std);
                acc = round_half(acc + term);
            }
            lanes.put(sums + first / 32 * C + c, acc);
        }
    });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<BatchNormKernels> batch_norm_kernels = {
    {slice_moments<half>, normalize<half>, backward_sums<half>, backward_input<half>, column_largest<half>,
     strict_block_sums<half>},
    {slice_moments<float>, normalize<float>, backward_sums<float>, backward_input<float>, column_largest<float>,
     strict_block_sums<float>},
    {slice_moments<bfloat16>, normalize<bfloat16>, backward_sums<bfloat16>, backward_input<bfloat16>,
     column_largest<bfloat16>, strict_block_sums<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
