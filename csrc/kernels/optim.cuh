// Optimizer steps over many tensors at once. With w the weight, g = grad * grad_scale [+ decay * w]:
//   sgd      m = momentum * m + g;  s = m, with nesterov g + momentum * m, without a momentum g;  w = w - lr * s
//   adam     m = beta1 * m + (1 - beta1) * g;  v = fl(beta2 * v + (1 - beta2) * (g * g));
//            w = w - ((lr * (m / correction1)) / (sqrt(v / correction2) + eps) [+ (lr * decay) * w])
//   rmsprop  v = fl(alpha * v + (1 - alpha) * (g * g));  s = g / (sqrt(v) + eps);
//            [b = momentum * b + s; s = b];  w = w - lr * s
// Registers are float, operation by operation as written; weight and state are rounded once at the store, and a
// parameter with a master becomes fl(master). No sums, so nothing depends on an order.
// nonfinite: one flag for all tensors, which any block may set; x is read once.
// Bytes per element: gradient read; weight and every state read and written; with a master the parameter written too.
#pragma once
#include "kernels/chunk.cuh"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

// T stores parameter and gradient, W the weight that is updated and its state.
template <class T, class W>
struct UpdatedTensor {
    Ptr<T> param;
    Ptr<const T> grad;
    Ptr<W> master, first, second;  // absent where the step has no such state
    int64_t size;
    float decay;
    bool decays, vectors;
};

struct NoState {
    static constexpr int kStates = 0;
};
struct OneState {
    static constexpr int kStates = 1;
};
struct TwoStates {
    static constexpr int kStates = 2;
};

// Every step returns the new weight, and leaves in first and second what is to be stored.
struct PlainSgdStep : NoState {
    float lr;

    template <class W>
    __device__ __forceinline__ float update(float w, float g, float, bool, float&, float&) const {
        return w - lr * g;
    }
};

struct SgdStep : OneState {
    float lr, momentum;
    bool nesterov;

    template <class W>
    __device__ __forceinline__ float update(float w, float g, float, bool, float& first, float&) const {
        first = momentum * first + g;
        return w - lr * (nesterov ? g + momentum * first : first);
    }
};

struct AdamStep : TwoStates {
    float lr, beta1, rest1, beta2, rest2, correction1, correction2, eps_float16, eps_float32;
    bool decoupled;

    template <class W>
    __device__ __forceinline__ float update(float w, float g, float decay, bool decays, float& first,
                                            float& second) const {
        first = beta1 * first + rest1 * g;
        second = rounded<W>(beta2 * second + rest2 * (g * g));
        const float eps = sizeof(W) == 2 ? eps_float16 : eps_float32;
        float change = __fdiv_rn(lr * __fdiv_rn(first, correction1), __fsqrt_rn(__fdiv_rn(second, correction2)) + eps);
        if (decoupled && decays) change = change + decay * w;
        return w - change;
    }
};

template <class States>
struct RmspropStep : States {
    float lr, alpha, rest, eps_float16, eps_float32, momentum;

    template <class W>
    __device__ __forceinline__ float update(float w, float g, float, bool, float& first, float& second) const {
        first = rounded<W>(alpha * first + rest * (g * g));
        float step = __fdiv_rn(g, __fsqrt_rn(first) + (sizeof(W) == 2 ? eps_float16 : eps_float32));
        if (States::kStates == 2) {
            second = momentum * second + step;
            step = second;
        }
        return w - lr * step;
    }
};

// ---- kernels --------------------------------------------------------------------------------------------------------

constexpr int64_t kUpdateSlice = kBlock * kEight;

// coupled: the decay belongs to the gradient.
template <class T, class W, bool kMaster, class Step>
__global__ void __launch_bounds__(kBlock)
    update_kernel(const __grid_constant__ TensorTable<UpdatedTensor<T, W>> table, const __grid_constant__ Step step,
                  float grad_scale, bool coupled) {
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const UpdatedTensor<T, W>& tensor = table.entries[index];
    const int64_t i = (slice - table.first_slice[index]) * kUpdateSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    const int count = chunk_count(i, tensor.size);
    if (count == 0) return;
    const bool vectors = tensor.vectors;

    float w[kEight], g[kEight], first[kEight] = {}, second[kEight] = {};
    load_chunk<T>(tensor.grad, i, count, vectors, g);
    if constexpr (kMaster)
        load_chunk<W>(tensor.master, i, count, vectors, w);
    else
        load_chunk<T>(tensor.param, i, count, vectors, w);
    if constexpr (Step::kStates >= 1) load_chunk<W>(tensor.first, i, count, vectors, first);
    if constexpr (Step::kStates >= 2) load_chunk<W>(tensor.second, i, count, vectors, second);

    const bool decays = tensor.decays;
    const float decay = tensor.decay;
    for (int j = 0; j < kEight; j++) {
        float gradient = g[j] * grad_scale;
        if (coupled && decays) gradient = gradient + decay * w[j];
        w[j] = step.template update<W>(w[j], gradient, decay, decays, first[j], second[j]);
    }

    if constexpr (Step::kStates >= 1) store_chunk<W>(tensor.first, i, count, vectors, first);
    if constexpr (Step::kStates >= 2) store_chunk<W>(tensor.second, i, count, vectors, second);
    if constexpr (kMaster) store_chunk<W>(tensor.master, i, count, vectors, w);
    store_chunk<T>(tensor.param, i, count, vectors, w);
}

template <class T>
struct CheckedTensor {
    Ptr<const T> x;
    int64_t size;
    bool vectors;
};

constexpr int kFiniteGroups = 4;  // groups of eight of a thread, all loaded before the first is looked at
constexpr int64_t kFiniteSlice = kBlock * kEight * kFiniteGroups;

// flag (1): set to 1 if there is an infinity or a NaN, else left alone.
template <class T>
__global__ void __launch_bounds__(kBlock)
    nonfinite_kernel(const __grid_constant__ TensorTable<CheckedTensor<T>> table, Ptr<int> flag) {
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const CheckedTensor<T>& tensor = table.entries[index];
    const int64_t start =
        (slice - table.first_slice[index]) * kFiniteSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    float values[kFiniteGroups][kEight];
    for (int c = 0; c < kFiniteGroups; c++) {
        const int64_t i = start + static_cast<int64_t>(c) * kBlock * kEight;
        load_chunk<T>(tensor.x, i, chunk_count(i, tensor.size), tensor.vectors, values[c]);
    }
    bool found = false;
    for (int c = 0; c < kFiniteGroups; c++)
        for (int j = 0; j < kEight; j++) found |= (__float_as_int(values[c][j]) & 0x7f800000) == 0x7f800000;
    if (__syncthreads_or(found) && threadIdx.x == 0) atomicOr(&flag[0], 1);
}

}  // namespace fp16engine::gpu
