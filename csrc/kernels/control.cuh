// What a captured step does in addition to its network: it takes its batch from the epoch's order, checks loss and
// gradients, decides whether the step counts, and advances the run's account (common/step_control.h), all on the
// device.
//   batch_indices    indices[i] = order[batch * n + i]
//   loss_seed        the gradient of the loss is the loss scale
//   count_correct    rows whose first maximum is their label; a row with a NaN or without a finite maximum is wrong
//   rank_nonfinite   the highest rank of an array with an infinity or a NaN; the maximum of integers has no order
//   decide_step      the scalars of the optimizer step: a row of the table, 1 / loss scale times what clips the
//     gradients, and whether it is applied
//   replace          other values for arrays if the step is applied, or if it is not: what the forward pass changed
//     goes back
//   advance_step     counters, loss scale, also one that range_statistics.cuh has measured, one row of results
// Bytes: a few numbers, and what is checked or replaced once.
#pragma once
#include "common/step_control.h"
#include "common/step_scalars.h"
#include "kernels/chunk.cuh"
#include "kernels/range_statistics.cuh"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

__device__ __forceinline__ bool is_finite(float v) { return (__float_as_int(v) & 0x7f800000) != 0x7f800000; }
__device__ __forceinline__ bool is_nan(float v) { return (__float_as_int(v) & 0x7fffffff) > 0x7f800000; }

// What LossScaler.measuring says.
__device__ __forceinline__ bool measures(const StepControl& c, const StepPolicy& policy) {
    return policy.automatic && (c.settled < policy.settling || c.clean_steps % policy.every == 0);
}

// What LossScaler.observe does with counts (kRangeColumns,) of the gradients.
__device__ __forceinline__ void measure_scale(StepControl& c, const StepPolicy& policy,
                                              Ptr<const unsigned long long> counts) {
    int column = kRangeOver - 1;
    while (column >= kRangeFirst && counts[column] == 0) column--;
    if (column < kRangeFirst) {  // nothing is left of the gradient
        const double raised = c.loss_scale * ldexp(1.0, static_cast<int>(policy.top));
        c.loss_scale = raised < policy.cap ? raised : policy.cap;
        return;
    }
    if (c.measured == kMeasurements) {
        for (int i = 1; i < kMeasurements; i++) c.tops[i - 1] = c.tops[i];
        c.measured--;
    }
    c.tops[c.measured++] = column - kRangeFirst + kRangeLowest - ilogb(c.loss_scale);
    int most = c.tops[0];
    for (int i = 1; i < c.measured; i++) most = c.tops[i] > most ? c.tops[i] : most;
    const double target = ldexp(1.0, static_cast<int>(policy.top) - most);
    const double least = target > policy.floor ? target : policy.floor;
    c.loss_scale = least < policy.cap ? least : policy.cap;
}

// What LossScaler.update does after a step whose gradients are (or are not) finite.
__device__ __forceinline__ void advance_scale(StepControl& c, const StepPolicy& policy, bool finite) {
    if (finite) {
        c.stuck_steps = 0;
        c.clean_steps++;
        c.settled++;
        if (policy.dynamic && !policy.automatic && c.clean_steps >= policy.interval) {
            const double grown = c.loss_scale * policy.growth;
            c.loss_scale = grown < policy.cap ? grown : policy.cap;
            c.clean_steps = 0;
        }
        return;
    }
    c.clean_steps = 0;
    for (int i = 0; i < c.measured; i++) c.tops[i] = 0;
    c.measured = 0;
    if (!policy.dynamic || c.loss_scale <= policy.floor) {
        c.stuck_steps++;
    } else {
        const double lower = c.loss_scale * policy.backoff;
        c.loss_scale = lower > policy.floor ? lower : policy.floor;
    }
    if (c.stuck_steps >= policy.patience) c.halted = 1;
}

// What grad_scale of train/step.py returns, in the same double operations; norm (2,): scale and root, where gradients
// are clipped.
__device__ __forceinline__ double grad_factor(double loss_scale, const Ptr<const float>& norm, double max_norm) {
    if (!norm) return 1.0 / loss_scale;
    const double length = static_cast<double>(norm[0]) * static_cast<double>(norm[1]) / loss_scale;
    return (length > max_norm ? max_norm / length : 1.0) / loss_scale;
}

template <class T>
struct RankedTensor {
    Ptr<const T> x;
    int64_t size;
    int rank;
    bool vectors;
};

// Values of any type, moved in units of two bytes
struct ReplacedTensor {
    Ptr<__half> x;
    Ptr<const __half> values;
    int64_t size;
    bool vectors;
};

// ---- kernels --------------------------------------------------------------------------------------------------------

// order (count,), indices (n,); past the end of the order an index is -1, which takes a row of NaN
__global__ void __launch_bounds__(kBlock) batch_indices_kernel(Ptr<const StepControl> control, Ptr<const int64_t> order,
                                                               Ptr<int64_t> indices, int64_t count, int64_t n) {
    const int64_t first = control[0].batch * n;
    for (int64_t i = grid_thread(); i < n; i += grid_threads()) indices[i] = first + i < count ? order[first + i] : -1;
}

template <class T>
__global__ void loss_seed_kernel(Ptr<const StepControl> control, Ptr<T> dy) {
    put(dy[0], static_cast<float>(control[0].loss_scale));
}

// logits (N, K), labels (N,)
template <class T>
__global__ void __launch_bounds__(kBlock) count_correct_kernel(Ptr<const T> logits, Ptr<const int64_t> labels,
                                                               Ptr<StepControl> control, int64_t N, int64_t K) {
    const int64_t n = grid_thread();
    bool correct = false;
    if (n < N) {
        int64_t best = 0;
        float most = as_float(logits[n * K]);
        for (int64_t k = 1; k < K && !is_nan(most); k++) {
            const float v = as_float(logits[n * K + k]);
            if (v > most || is_nan(v)) {  // a NaN stays the maximum, as in NumPy
                most = v;
                best = k;
            }
        }
        correct = is_finite(most) && best == labels[n];
    }
    const int found = __popc(__ballot_sync(kFullWarp, correct));
    if (threadIdx.x % kWarpSize == 0 && found) atomicAdd(&control[0].correct, found);
}

constexpr int kRankGroups = 4;  // groups of eight of a thread, all loaded before the first is looked at
constexpr int64_t kRankSlice = kBlock * kEight * kRankGroups;

// Origins are looked for only where the loss, of type L, is not finite.
template <class T, class L>
__global__ void __launch_bounds__(kBlock)
    rank_nonfinite_kernel(FP16_TABLE(TensorTable<RankedTensor<T>>) table, Ptr<const L> loss, bool origin,
                          Ptr<StepControl> control) {
    if (is_finite(as_float(loss[0])) == origin) return;
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const RankedTensor<T>& tensor = table.entries[index];
    const int64_t start = (slice - table.first_slice[index]) * kRankSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    float values[kRankGroups][kEight];
    for (int c = 0; c < kRankGroups; c++) {
        const int64_t i = start + static_cast<int64_t>(c) * kBlock * kEight;
        load_chunk<T>(tensor.x, i, chunk_count(i, tensor.size), tensor.vectors, values[c]);
    }
    bool found = false;
    for (int c = 0; c < kRankGroups; c++)
        for (int j = 0; j < kEight; j++) found |= !is_finite(values[c][j]);
    if (__syncthreads_or(found) && threadIdx.x == 0)
        atomicMax(origin ? &control[0].origin : &control[0].culprit, tensor.rank);
}

// table (rows,), scalars (): the optimizer's kernels read them
template <class L>
__global__ void decide_step_kernel(Ptr<const StepControl> control, Ptr<const L> loss, Ptr<const float> norm,
                                   double max_norm, Ptr<const StepScalars> table, Ptr<StepScalars> scalars,
                                   int64_t rows) {
    const StepControl c = control[0];
    StepScalars now = table[c.applied < rows ? c.applied : rows - 1];
    now.grad_scale = static_cast<float>(grad_factor(c.loss_scale, norm, max_norm));
    now.applied = is_finite(as_float(loss[0])) && c.culprit == 0 && c.halted == 0;
    scalars[0] = now;
}

__global__ void __launch_bounds__(kBlock)
    replace_kernel(FP16_TABLE(TensorTable<ReplacedTensor>) table, Ptr<const StepScalars> scalars, bool applied) {
    if ((scalars[0].applied != 0) != applied) return;
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const ReplacedTensor& tensor = table.entries[index];
    const int64_t i =
        (slice - table.first_slice[index]) * (kBlock * kEight) + static_cast<int64_t>(threadIdx.x) * kEight;
    const int count = chunk_count(i, tensor.size);
    if (tensor.vectors && count == kEight) {
        store_vector<__half>(tensor.x + i, load_vector<__half>(tensor.values + i));
        return;
    }
    for (int j = 0; j < count; j++) move_bytes<sizeof(__half)>(&tensor.x[i + j], &tensor.values[i + j]);
}

// results (rows, kStepResults), counts (rows, kRangeColumns) where the scale is automatic; one thread
template <class L>
__global__ void advance_step_kernel(Ptr<StepControl> control, Ptr<const L> loss, Ptr<int32_t> results,
                                    Ptr<const unsigned long long> counts, int64_t rows, const StepPolicy policy) {
    StepControl c = control[0];
    if (!c.halted) {
        const float value = as_float(loss[0]);
        if (c.steps < rows) {
            const int64_t row = c.steps * kStepResults;
            results[row + kLoss] = __float_as_int(value);
            results[row + kCorrect] = c.correct;
            results[row + kCulprit] = c.culprit;
            results[row + kOrigin] = c.origin;
        }
        c.steps++;
        c.batch++;
        c.dropout += is_finite(value) ? policy.dropout : policy.forward_dropout;
        if (is_finite(value) && c.culprit == 0) {
            c.applied++;
            c.bad_streak = 0;
            if (c.measuring && c.steps <= rows) measure_scale(c, policy, counts + (c.steps - 1) * kRangeColumns);
            if (policy.scaled) advance_scale(c, policy, true);
        } else if (is_finite(value) && policy.scaled) {
            advance_scale(c, policy, false);
        } else {
            c.bad_streak++;
            if (c.bad_streak >= policy.max_bad_steps) c.halted = 1;
        }
        c.measuring = measures(c, policy);
    }
    c.correct = c.culprit = c.origin = 0;
    control[0] = c;
}

}  // namespace fp16engine::gpu
