// Optimizer steps over many tensors at once. With w the weight, g = grad * grad_scale [+ decay * w], every step
// subtracts a change u from it:
//   sgd      m = momentum * m + g;  u = lr * m, with nesterov lr * (g + momentum * m), without a momentum lr * g
//   adam     m = beta1 * m + (1 - beta1) * g;  v = fl(beta2 * v + (1 - beta2) * (g * g));
//            u = ((lr / correction1) * m) / (sqrt(v) * (1 / sqrt(correction2)) + eps) [+ (lr * decay) * w]
//   rmsprop  v = fl(alpha * v + (1 - alpha) * (g * g));  s = g / (sqrt(v) + eps);  [b = momentum * b + s; s = b];
//            u = lr * s
// Native state (binary16) holds +-sqrt |m| and v^(1/4), rounded stochastically; m, b and v are then registers.
// A new weight is fl(w - u), to nearest or stochastically, or, with compensation, d = rest - u; w' = fl(w + d);
// rest' = fl(d - (w' - w)), of binary16 stochastically: fl((rest - (w' - w)) - u). A parameter with a master becomes
// fl(master). Registers are float, operation by operation as written; what is stored is rounded once. No sums, so
// nothing depends on an order; counts are integers. nonfinite: one flag for all tensors, which any block may set; x is
// read once. Bytes per element: gradient read; weight, compensation and every state read and written; with a master the
// parameter written too. Random bits: ten rounds of Philox for eight elements of a weight, ten for their states.
#pragma once
#include "common/step_scalars.h"
#include "kernels/stochastic.cuh"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

// T stores parameter and gradient, W the weight that is updated and its state.
template <class T, class W>
struct UpdatedTensor {
    Ptr<T> param;
    Ptr<const T> grad;
    Ptr<W> extra;          // the master, or the compensation, or absent
    Ptr<W> first, second;  // absent where the step has no such state
    int64_t size;
    float decay;
    unsigned index;  // of the parameter in its optimizer
    int row;         // of the counts
    bool vectors;
};

template <int kStateCount, bool kIsNative, bool kAlone>
struct UpdateRule {
    static constexpr int kStates = kStateCount;
    static constexpr bool kNative = kIsNative;
    static constexpr bool kDecayStandsAlone = kAlone;  // where it is coupled: its part of the change is lr * decay * w
    bool coupled;                                      // the decay belongs to the gradient
};

// Every rule returns the change, and leaves in first and second what is to be stored.
struct PlainSgdRule : UpdateRule<0, false, true> {
    template <class W>
    __device__ __forceinline__ float change(float, float g, float, const StepScalars& step, float&, float&) const {
        return step.lr * g;
    }
};

struct SgdRule : UpdateRule<1, false, true> {
    float momentum;
    bool nesterov;

    template <class W>
    __device__ __forceinline__ float change(float, float g, float, const StepScalars& step, float& first,
                                            float&) const {
        first = momentum * first + g;
        return step.lr * (nesterov ? g + momentum * first : first);
    }
};

__device__ __forceinline__ float expand_signed(float root) { return root * fabsf(root); }
__device__ __forceinline__ float compress_signed(float v) { return with_sign_of(__fsqrt_rn(fabsf(v)), v); }
__device__ __forceinline__ float expand_square(float root) { return (root * root) * (root * root); }
__device__ __forceinline__ float compress_square(float v) { return __fsqrt_rn(__fsqrt_rn(v)); }

template <bool kIsNative>
struct AdamRule : UpdateRule<2, kIsNative, false> {
    float beta1, rest1, beta2, rest2, eps;

    template <class W>
    __device__ __forceinline__ float change(float w, float g, float decay, const StepScalars& step, float& first,
                                            float& second) const {
        float m, root;  // of the average of squares
        if constexpr (kIsNative) {
            m = beta1 * expand_signed(first) + rest1 * g;
            root = __fsqrt_rn(beta2 * expand_square(second) + rest2 * (g * g));
            first = compress_signed(m);
            second = __fsqrt_rn(root);
        } else {
            m = first = beta1 * first + rest1 * g;
            second = beta2 * second + rest2 * (g * g);
            root = __fsqrt_rn(rounded<W>(second));
        }
        const float rate = __fdiv_rn(step.lr, step.correction1), scale = __fdiv_rn(1.0f, __fsqrt_rn(step.correction2));
        float change = __fdiv_rn(rate * m, root * scale + eps);
        if (!this->coupled && decay != 0.0f) change = change + (step.lr * decay) * w;
        return change;
    }
};

template <int kStateCount, bool kIsNative>
struct RmspropRule : UpdateRule<kStateCount, kIsNative, false> {
    float alpha, rest, eps, momentum;

    template <class W>
    __device__ __forceinline__ float change(float, float g, float, const StepScalars& step, float& first,
                                            float& second) const {
        float v;
        if constexpr (kIsNative) {
            v = alpha * expand_square(first) + rest * (g * g);
            first = compress_square(v);
        } else {
            first = alpha * first + rest * (g * g);
            v = rounded<W>(first);
        }
        float b = __fdiv_rn(g, __fsqrt_rn(v) + eps);
        if constexpr (kStateCount == 2) {
            b = momentum * (kIsNative ? expand_signed(second) : second) + b;
            second = kIsNative ? compress_signed(b) : b;
        }
        return step.lr * b;
    }
};

// w' and rest' of a compensated weight.
struct Compensated {
    float weight, rest;
};

template <class W>
__device__ __forceinline__ Compensated compensated(float w, float rest, float change, unsigned random) {
    const float due = rest - change, weight = rounded<W>(w + due), taken = weight - w;
    if constexpr (sizeof(W) == 2) return {weight, subtract_stochastic(rest - taken, change, random)};
    return {weight, rounded<W>(due - taken)};
}

// Whether storing `updated` leaves `stored` as it is, whatever the random bits.
template <class W, bool kStochastic>
__device__ __forceinline__ bool unmoved(float stored, float updated) {
    if (kStochastic && sizeof(W) == 2)
        return round_stochastic(updated, 0u) == stored && round_stochastic(updated, 0xffffu) == stored;
    return rounded<W>(updated) == stored;
}

template <class W, Rounding kRounding>
__device__ __forceinline__ bool lost(float w, float rest, float change) {
    if constexpr (kRounding == Rounding::nearest) return rounded<W>(w - change) == w;
    if constexpr (kRounding == Rounding::stochastic)
        return subtract_stochastic(w, change, 0u) == w && subtract_stochastic(w, change, ~0u) == w;
    const Compensated low = compensated<W>(w, rest, change, 0u), high = compensated<W>(w, rest, change, ~0u);
    return low.weight == w && low.rest == rest && high.rest == rest;
}

__device__ __forceinline__ void count(int (&found)[kUpdateCounts], UpdateCount column, bool changes, bool unchanged) {
    found[column] += changes;
    found[column + 1] += changes && unchanged;
}

__device__ __forceinline__ RandomBits random_bits(const StepScalars& step, int64_t element, unsigned stream,
                                                  unsigned index) {
    const PhiloxWords counter = {{static_cast<unsigned>(element / kEight), step.step, stream, index}};
    return {philox(counter, step.seed)};
}

// ---- kernels --------------------------------------------------------------------------------------------------------

constexpr int64_t kUpdateSlice = kBlock * kEight;

// scalars: those of the step, or, where `memory` (1,) is there, that one's. counts (params, kUpdateCounts): added to.
template <class T, class W, bool kMaster, class Rule, Rounding kRounding, bool kCount>
__global__ void __launch_bounds__(kBlock)
    update_kernel(FP16_TABLE(TensorTable<UpdatedTensor<T, W>>) table, const __grid_constant__ Rule rule,
                  const __grid_constant__ StepScalars scalars, Ptr<const StepScalars> memory,
                  Ptr<unsigned long long> counts) {
    const StepScalars step = memory ? memory[0] : scalars;
    if (!step.applied) return;
    const int slice = static_cast<int>(blockIdx.x), entry = table.find(slice);
    const UpdatedTensor<T, W>& tensor = table.entries[entry];
    const int64_t i = (slice - table.first_slice[entry]) * kUpdateSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    const int valid = chunk_count(i, tensor.size);
    if (!kCount && valid == 0) return;
    const bool vectors = tensor.vectors;

    float w[kEight], g[kEight], first[kEight] = {}, second[kEight] = {}, rest[kEight] = {};
    load_chunk<T>(tensor.grad, i, valid, vectors, g);
    if constexpr (kMaster)
        load_chunk<W>(tensor.extra, i, valid, vectors, w);
    else
        load_chunk<T>(tensor.param, i, valid, vectors, w);
    if constexpr (kRounding == Rounding::kahan) load_chunk<W>(tensor.extra, i, valid, vectors, rest);
    if constexpr (Rule::kStates >= 1) load_chunk<W>(tensor.first, i, valid, vectors, first);
    if constexpr (Rule::kStates >= 2) load_chunk<W>(tensor.second, i, valid, vectors, second);

    const float decay = tensor.decay;
    const bool decays = decay != 0.0f;
    int found[kUpdateCounts] = {};
    RandomBits bits{};
    if constexpr (kRounding != Rounding::nearest && sizeof(W) == 2)
        bits = random_bits(step, i, kWeightStream, tensor.index);
    for (int j = 0; j < kEight; j++) {
        float gradient = g[j] * step.grad_scale;
        if (rule.coupled && decays) gradient = gradient + decay * w[j];
        const float old_first = first[j], old_second = second[j];
        const float change = rule.template change<W>(w[j], gradient, decay, step, first[j], second[j]);
        if constexpr (kCount) {
            const bool here = j < valid;
            count(found, kUpdates, here && change != 0.0f, lost<W, kRounding>(w[j], rest[j], change));
            if (decays && (Rule::kDecayStandsAlone || !rule.coupled)) {
                const float shrinking = (step.lr * decay) * w[j];
                count(found, kDecays, here && shrinking != 0.0f, lost<W, kRounding>(w[j], rest[j], shrinking));
            }
            if constexpr (Rule::kStates >= 1)
                count(found, kFirst, here && first[j] != old_first, unmoved<W, Rule::kNative>(old_first, first[j]));
            if constexpr (Rule::kStates >= 2)
                count(found, kSecond, here && second[j] != old_second,
                      unmoved<W, Rule::kNative>(old_second, second[j]));
        }
        const unsigned random = bits[j] << 16 | bits[j ^ 4];
        if constexpr (kRounding == Rounding::kahan) {
            const Compensated next = compensated<W>(w[j], rest[j], change, random);
            w[j] = next.weight;
            rest[j] = next.rest;
        } else if constexpr (kRounding == Rounding::stochastic) {
            w[j] = subtract_stochastic(w[j], change, random);
        } else {
            w[j] = w[j] - change;
        }
    }
    if constexpr (Rule::kNative) {
        const RandomBits state_bits = random_bits(step, i, kStateStream, tensor.index);
        for (int j = 0; j < kEight; j++) first[j] = round_stochastic(first[j], state_bits[j]);
        if constexpr (Rule::kStates >= 2)
            for (int j = 0; j < kEight; j++) second[j] = round_stochastic(second[j], state_bits[j ^ 4]);
    }

    if constexpr (Rule::kStates >= 1) store_chunk<W>(tensor.first, i, valid, vectors, first);
    if constexpr (Rule::kStates >= 2) store_chunk<W>(tensor.second, i, valid, vectors, second);
    if constexpr (kMaster) store_chunk<W>(tensor.extra, i, valid, vectors, w);
    if constexpr (kRounding == Rounding::kahan) store_chunk<W>(tensor.extra, i, valid, vectors, rest);
    store_chunk<T>(tensor.param, i, valid, vectors, w);

    if constexpr (kCount) {
        for (int c = 0; c < kUpdateCounts; c++) {
            const int total = warp_count(found[c]);
            if (threadIdx.x % kWarpSize == 0 && total)
                atomicAdd(&counts[static_cast<int64_t>(tensor.row) * kUpdateCounts + c],
                          static_cast<unsigned long long>(total));
        }
    }
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
    nonfinite_kernel(FP16_TABLE(TensorTable<CheckedTensor<T>>) table, Ptr<int> flag) {
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
