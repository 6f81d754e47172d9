// What batch normalisation with binary16 accumulators has in place of the passes over moments and gradient sums of
// batch_norm.cuh: sums in the order of strict_sum.cuh, of terms that a power of two per column keeps from overflowing.
#pragma once
#include "kernels/batch_norm.cuh"
#include "kernels/strict_columns.cuh"

namespace fp16engine::gpu {

// ---- kernels ------------------------------------------------------------------------------------------------------

// The largest |x| of 1024 rows at a time: largest (ceil(rows / 1024), C), infinity where one is NaN
template <class T>
__global__ void __launch_bounds__(kBlock)
    batch_norm_strict_largest_kernel(Ptr<const T> x, Ptr<float> largest, Ptr<int64_t> updates, int64_t rows,
                                     int64_t C) {
    __shared__ Shared<float, kBlock> part;
    count_update(updates);
    const int lane = static_cast<int>(threadIdx.x % kWarpSize), warp = static_cast<int>(threadIdx.x / kWarpSize);
    const StrictTile tile(rows, C);
    const int64_t column = tile.first + lane;
    float most = 0.0f;
    for (int64_t r = tile.begin + warp; r < tile.end && column < C; r += kBlock / kWarpSize) {
        const float value = as_float(x[r * C + column]), size = value < 0.0f ? -value : value;
        if (!(size <= most)) most = size == size ? size : __int_as_float(0x7f800000);
    }
    part[static_cast<int>(threadIdx.x)] = most;
    __syncthreads();
    if (warp != 0 || column >= C) return;
    for (int i = lane + kWarpSize; i < kBlock; i += kWarpSize) most = part[i] > most ? part[i] : most;
    largest[tile.group * C + column] = most;
}

// scale (C,) from largest (count, C)
inline __global__ void __launch_bounds__(kBlock)
    batch_norm_strict_scale_kernel(Ptr<const float> largest, Ptr<float> scale, int64_t count, int64_t C) {
    for (int64_t c = grid_thread(); c < C; c += grid_threads()) {
        float most = 0.0f;
        for (int64_t i = 0; i < count; i++) most = largest[i * C + c] > most ? largest[i * C + c] : most;
        scale[c] = strict_scale(most);
    }
}

// Binary16 accumulators: groups (ceil(rows / 1024), C) of x times scale (C,), or of its squared distances from mean
// (C,) where it is given
template <class T>
__global__ void __launch_bounds__(kBlock)
    batch_norm_strict_moments_kernel(Ptr<const T> x, Ptr<const float> scale, Ptr<const float> mean, Ptr<float> groups,
                                     int64_t rows, int64_t C) {
    __shared__ StrictStage<1> stage;
    strict_column_groups<1, true>(rows, C, groups, stage, [&](int64_t r, int64_t c, float (&terms)[1]) {
        terms[0] = as_float(x[r * C + c]);
        if (mean) terms[0] = __fsub_rn(terms[0], mean[c]);
        terms[0] = __fmul_rn(terms[0], scale[c]);
        if (mean) terms[0] = __fmul_rn(terms[0], terms[0]);
    });
}

// Binary16 accumulators: groups (2, ceil(rows / 1024), C) of g and of g * xhat; a stored mask y gives dr too
template <class S, Mask kMask>
__global__ void __launch_bounds__(kBlock)
    batch_norm_strict_gradients_kernel(Ptr<const __half> x, Ptr<const S> gamma, Ptr<const S> beta, Ptr<const S> mean,
                                       Ptr<const S> inv_std, Ptr<const __half> y, Ptr<const __half> dy, Ptr<__half> dr,
                                       Ptr<float> groups, int64_t rows, int64_t C, float reached) {
    __shared__ StrictStage<2> stage;
    strict_column_groups<2, false>(rows, C, groups, stage, [&](int64_t r, int64_t c, float (&terms)[2]) {
        const float xhat = __fmul_rn(__fsub_rn(as_float(x[r * C + c]), as_float(mean[c])), as_float(inv_std[c]));
        terms[0] = masked_gradient<__half, kMask == Mask::recomputed>(as_float(dy[r * C + c]), xhat, as_float(gamma[c]),
                                                                      as_float(beta[c]), reached);
        if (kMask == Mask::stored) {
            terms[0] = masked_by(as_float(y[r * C + c]), terms[0], reached);
            put(dr[r * C + c], terms[0]);
        }
        terms[1] = __fmul_rn(terms[0], xhat);
    });
}

}  // namespace fp16engine::gpu
