// Softmax, its logarithm and the cross-entropy loss over rows of K values; m = max x, e = exp(x - m), s = sum e.
//
//   softmax        y = fl(e / s)               dx = fl(y * (dy - sum y * dy))
//
//   log_softmax    y = fl((x - m) - log s)     dx = fl(dy - exp(y) * sum dy)
//
//   cross-entropy  loss = fl((sum over rows of log s - (x[label] - m)) / n), dx = fl((e / s - onehot) * (dy / n)),
//                  over the n rows whose label is not negative; the others are terms of +0 and have a gradient of 0.
//                  With smoothing h: (1 - h) * (x[label] - m) + h * (sum x / K - m) in the loss, and (1 - h) * onehot
//                  + h / K in the gradient
//
// Accumulators: float32, a thread's terms in order, lanes by halving distance, warps in order; or binary16 in the order
// of strict_sum.cuh, a warp per row, products joined by __hfma. All else is a float32 register. NaN passes: whatever
// the maximum, it meets the NaN again in x - m.
//
// Deterministic: the order depends on the shape, and on whether vectors can move the arrays (wide.cuh).
//
// Bytes per element of T: forward 1 read + 1 write, backward 2 + 1, cross-entropy 1 + 0 and 1 + 1, while a row fits the
// registers of its team. Longer rows are read at every pass, from the cache: 3 forward, 4 backward; binary16
// accumulators too.
#pragma once
#include "kernels/rows.cuh"

namespace fp16engine::gpu {

enum class ExpOutput { softmax, log_softmax, loss, loss_gradient };

// What the kernels of the exponentials need in addition to x.
template <class T>
struct ExpArguments {
    Ptr<T> y;                   // (rows, K)
    Ptr<const int64_t> labels;  // (rows,)
    Ptr<float> losses;          // (rows,)
    Ptr<const T> dy;            // ()
    Ptr<const float> counted;   // (), n
    float on, off;              // loss: 1 - smoothing and smoothing; gradient: the targets at the label and elsewhere
    int64_t rows, K, causal_rows;  // causal_rows > 0: row r has its first r % causal_rows + 1 values only
    Ptr<const int64_t> lengths;    // (rows / run,)
    int64_t run;                   // > 0: row r has its first lengths[r / run] values at most
};

// ---- device helpers -----------------------------------------------------------------------------------------------

__device__ __forceinline__ float infinity() { return __int_as_float(0x7f800000); }
__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fc00000); }

// How many values row has: 0 to K, whatever a length says.
template <class T>
__device__ __forceinline__ int64_t values_of_row(int64_t row, const ExpArguments<T>& a) {
    int64_t keys = a.causal_rows > 0 && row % a.causal_rows + 1 < a.K ? row % a.causal_rows + 1 : a.K;
    if (a.run > 0) {
        const int64_t length = a.lengths[row / a.run];
        keys = length < keys ? length : keys;
    }
    return keys < 0 ? 0 : keys;
}

// ---- kernels ------------------------------------------------------------------------------------------------------

// counted () = how many of labels (rows,) are not negative; one block
__global__ void __launch_bounds__(kBlock)
    counted_labels_kernel(Ptr<const int64_t> labels, Ptr<float> counted, int64_t rows) {
    __shared__ WarpParts part;
    float count = 0.0f;  // of a thread and of all: exact below 2^24
    for (int64_t i = threadIdx.x; i < rows; i += kBlock) count = __fadd_rn(count, labels[i] < 0 ? 0.0f : 1.0f);
    count = block_sum(count, part);
    if (threadIdx.x == 0) *counted = count;
}

// x (rows, K). A label of K or more gives NaN: a kernel cannot raise.
template <class T, class Plan, bool kHalf, ExpOutput kOutput>
__global__ void __launch_bounds__(kBlock) softmax_kernel(Ptr<const T> x, ExpArguments<T> a) {
    __shared__ WarpParts part;
    for (int64_t row = first_row<Plan>(); row < a.rows; row += row_step<Plan>()) {
        const Ptr<const T> values = x + row * a.K;
        const int64_t keys = values_of_row(row, a);
        RowValues<T, Plan> held(values, keys);

        float max = -infinity();
        held.each([&](int64_t k, float (&v)[Plan::kWidth]) {
            for (int j = 0; j < Plan::kWidth; j++) max = k + j < keys ? fmaxf(max, v[j]) : max;
        });
        max = team_max<Plan>(max, part);

        float sum = 0.0f;
        if constexpr (kHalf) {
            sum = strict_warp_sum<false>(keys, [&](int64_t k) { return expf(__fsub_rn(as_float(values[k]), max)); });
        } else {
            held.each([&](int64_t k, float (&v)[Plan::kWidth]) {
                for (int j = 0; j < Plan::kWidth; j++) {
                    const float distance = __fsub_rn(v[j], max), e = expf(distance);
                    sum = __fadd_rn(sum, k + j < keys ? e : 0.0f);
                    v[j] = kOutput == ExpOutput::log_softmax ? distance : e;
                }
            });
            sum = team_sum<Plan>(sum, part);
        }

        float mean = 0.0f;  // of the values, where labels are smoothed
        if constexpr (kOutput == ExpOutput::loss) {
            if (a.off > 0.0f) {
                if constexpr (kHalf) {
                    mean = strict_warp_sum<true>(keys, [&](int64_t k) { return as_float(values[k]); });
                } else {
                    RowValues<T, Plan> again(values, keys);
                    again.each([&](int64_t k, const float (&v)[Plan::kWidth]) {
                        for (int j = 0; j < Plan::kWidth; j++) mean = __fadd_rn(mean, k + j < keys ? v[j] : 0.0f);
                    });
                    mean = team_sum<Plan>(mean, part);
                }
                mean = __fdiv_rn(mean, static_cast<float>(keys));
            }
        }
        if (keys == 0) sum = 1.0f;  // a row without values gives 0

        if constexpr (kOutput == ExpOutput::loss) {
            if (team_thread<Plan>() == 0) {
                const int64_t label = a.labels[row];
                float loss = label < 0 ? 0.0f : not_a_number();
                if (label >= 0 && label < a.K) {
                    float distance = __fsub_rn(as_float(values[label]), max);
                    if (a.off > 0.0f)
                        distance = __fadd_rn(__fmul_rn(a.on, distance), __fmul_rn(a.off, __fsub_rn(mean, max)));
                    loss = __fsub_rn(logf(sum), distance);
                }
                a.losses[row] = loss;
            }
        } else {
            const float log_sum = kOutput == ExpOutput::log_softmax ? logf(sum) : 0.0f;
            int64_t label = -1;
            float scale = 1.0f;
            if constexpr (kOutput == ExpOutput::loss_gradient) {
                label = a.labels[row];
                scale = label < a.K ? __fdiv_rn(as_float(*a.dy), *a.counted) : not_a_number();
            }
            const Ptr<T> y = a.y + row * a.K;
            held.each([&](int64_t k, float (&v)[Plan::kWidth]) {
                float out[Plan::kWidth];
                for (int j = 0; j < Plan::kWidth; j++) {
                    float value = v[j];  // the exponential or the distance
                    if constexpr (!Plan::kIsHeld) {
                        value = __fsub_rn(value, max);
                        if constexpr (kOutput != ExpOutput::log_softmax) value = expf(value);
                    }
                    if constexpr (kOutput == ExpOutput::log_softmax) {
                        out[j] = __fsub_rn(value, log_sum);
                    } else {
                        out[j] = __fdiv_rn(k + j < keys ? value : 0.0f, sum);
                        if constexpr (kOutput == ExpOutput::loss_gradient) {
                            out[j] = __fmul_rn(__fsub_rn(out[j], k + j == label ? a.on : a.off), scale);
                            if (label < 0) out[j] = 0.0f;
                        }
                    }
                }
                store_floats(y + k, out);
            });
            // Groups wholly past the last key were not visited.
            const int64_t visited = (keys + Plan::kWidth - 1) / Plan::kWidth * Plan::kWidth;
            const float past = __fdiv_rn(0.0f, sum);
            for (int64_t k = visited + team_thread<Plan>(); k < a.K; k += Plan::kTeam) put(y[k], past);
        }
    }
}

// loss () = (losses[0] + ... + losses[rows - 1]) / counted; one block, one warp of it for binary16 accumulators
template <class T, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    cross_entropy_mean_kernel(Ptr<const float> losses, Ptr<const float> counted, Ptr<T> loss, int64_t rows) {
    __shared__ WarpParts part;
    float sum = 0.0f;
    if constexpr (kHalf) {
        if (threadIdx.x >= kWarpSize) return;
        sum = strict_warp_sum<false>(rows, [&](int64_t i) { return losses[i]; });
    } else {
        for (int64_t i = threadIdx.x; i < rows; i += kBlock) sum = __fadd_rn(sum, losses[i]);
        sum = block_sum(sum, part);
    }
    if (threadIdx.x == 0) put(*loss, __fdiv_rn(sum, *counted));
}

// y dy dx (rows, K); of softmax, or of its logarithm
template <class T, class Plan, bool kHalf, bool kLog>
__global__ void __launch_bounds__(kBlock)
    softmax_backward_kernel(Ptr<const T> y, Ptr<const T> dy, Ptr<T> dx, int64_t rows, int64_t K) {
    __shared__ WarpParts part;
    for (int64_t row = first_row<Plan>(); row < rows; row += row_step<Plan>()) {
        const Ptr<const T> ys = y + row * K, dys = dy + row * K;
        RowPair<T, Plan> held(ys, dys, K);
        float sum = 0.0f;
        if constexpr (kHalf && kLog) {
            sum = strict_warp_sum<false>(K, [&](int64_t k) { return as_float(dys[k]); });
        } else if constexpr (kHalf) {
            const auto block = [&](int64_t i) {
                __half dot = __float2half_rn(0.0f);
                for (int64_t k = i * kStrictBlock; k < (i + 1) * kStrictBlock && k < K; k++)
                    dot = __hfma(dys[k], ys[k], dot);
                return __half2float(dot);
            };
            sum = strict_fold<false>((K + kStrictBlock - 1) / kStrictBlock, block).sum();
        } else {
            held.each([&](int, int64_t, const float (&v)[Plan::kWidth], const float (&dv)[Plan::kWidth]) {
                for (int j = 0; j < Plan::kWidth; j++) sum = __fadd_rn(sum, kLog ? dv[j] : __fmul_rn(dv[j], v[j]));
            });
            sum = team_sum<Plan>(sum, part);
        }
        held.each([&](int, int64_t k, const float (&v)[Plan::kWidth], const float (&dv)[Plan::kWidth]) {
            float out[Plan::kWidth];
            for (int j = 0; j < Plan::kWidth; j++)
                out[j] = kLog ? __fsub_rn(dv[j], __fmul_rn(expf(v[j]), sum)) : __fmul_rn(v[j], __fsub_rn(dv[j], sum));
            store_floats(dx + (row * K + k), out);
        });
    }
}

}  // namespace fp16engine::gpu
