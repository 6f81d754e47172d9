// The running statistics of a batch norm, moved by the kernel that finds those of the batch.
//   running = fl(kept * running + taken * batch), in registers (common/running_average.h has the shares)
#pragma once
#include "common/running_average.h"
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -----------------------------------------------------------------------------------------------

// The running statistics (C,), their count (1,), which the pass before has raised, and rest (2, C), which keeps what
// rounding takes from mean and standard deviation; without it `var` is the variance, without the count the shares stay.
template <class S>
struct RunningStatistics {
    Ptr<S> mean, var, rest;
    Ptr<int64_t> updates;
    double momentum;

    __device__ __forceinline__ void update(int64_t column, int64_t C, float batch_mean, float variance) const {
        const RunningShares shares(momentum, updates ? updates[0] : 0);
        const Ptr<S> lost = rest ? rest + column : rest;
        average(mean[column], lost, batch_mean, shares, false);
        average(var[column], rest ? lost + C : lost, variance, shares, static_cast<bool>(rest));
    }

private:
    __device__ static __forceinline__ void average(S& running, Ptr<S> lost, float batch, const RunningShares& shares,
                                                   bool root) {
        float before = as_float(running);
        if (lost) before = __fadd_rn(before, as_float(lost[0]));
        if (root) before = __fmul_rn(before, before);
        float after = __fadd_rn(__fmul_rn(shares.kept, before), __fmul_rn(shares.taken, batch));
        if (root) after = __fsqrt_rn(after);
        put(running, after);
        if (lost) put(lost[0], __fsub_rn(after, rounded<S>(after)));
    }
};

// The first thread of a grid counts one more update.
__device__ __forceinline__ void count_update(Ptr<int64_t> updates) {
    if (updates && blockIdx.x == 0 && threadIdx.x == 0) updates[0] = updates[0] + 1;
}

}  // namespace fp16engine::gpu
