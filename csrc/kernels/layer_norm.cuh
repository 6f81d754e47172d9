// Layer normalisation over rows of K values; S is the dtype of gamma, beta and the statistics, T that of x, y, dy and
// dx.
//
//   y = fl(((x - mean) * inv_std) * gamma + beta), inv_std = 1 / sqrt(var + eps); both are rounded to S before use
//
//   xhat = (x - mean) * inv_std; over the rows dbeta = sum dy, dgamma = sum dy * xhat; along a row with g = dy * gamma
//
//   dx = fl(inv_std * ((g - sum g / K) - xhat * (sum g * xhat / K)))
//
// Accumulators along a row: float32, a thread's terms in order, lanes by halving distance, warps in order, the variance
// in a second pass about the mean; or binary16 in the order of strict_sum.cuh, a warp per row, variance terms times
// 2^-5. Over the rows: float32, a team's rows of a slice in order, then teams, then slices; or binary16 by
// strict_columns.cuh.
//
// Deterministic: teams and slices depend on the shape, and on whether vectors can move the arrays (wide.cuh).
//
// Bytes per element of T: forward 1 read + 1 write, backward 2 + 1 (dgamma and dbeta join the pass of dx), while a row
// fits the registers of its team. Longer rows are read at every pass: 3 + 1 and 4 + 1; binary16 accumulators 4 + 1 and
// 10 + 1.
#pragma once
#include "kernels/rows.cuh"
#include "kernels/strict_columns.cuh"

namespace fp16engine::gpu {

constexpr int kParameterColumns = kWarpSize;  // columns of a block that joins slices, kBlock / 32 threads each

// ---- kernels ------------------------------------------------------------------------------------------------------

// x y (rows, K), gamma beta (K,), mean inv_std (rows,)
template <class T, class S, class Plan, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    layer_norm_forward_kernel(Ptr<const T> x, Ptr<const S> gamma, Ptr<const S> beta, Ptr<T> y, Ptr<S> mean,
                              Ptr<S> inv_std, int64_t rows, int64_t K, float eps) {
    __shared__ WarpParts part;
    const float terms = static_cast<float>(K);
    for (int64_t row = first_row<Plan>(); row < rows; row += row_step<Plan>()) {
        const Ptr<const T> values = x + row * K;
        RowValues<T, Plan> held(values, K);
        float center = 0.0f, variance = 0.0f;
        if constexpr (kHalf) {
            center = fl16(__fdiv_rn(strict_warp_sum<true>(K, [&](int64_t k) { return as_float(values[k]); }), terms));
            const auto square = [&](int64_t k) {
                const float distance = __fsub_rn(as_float(values[k]), center);
                return __fmul_rn(__fmul_rn(distance, distance), 1.0f / kStrictBlock);
            };
            variance = __fdiv_rn(__fmul_rn(strict_warp_sum<true>(K, square), 1.0f * kStrictBlock), terms);
        } else {
            held.each([&](int64_t, const float (&v)[Plan::kWidth]) {
                for (int j = 0; j < Plan::kWidth; j++) center = __fadd_rn(center, v[j]);
            });
            center = __fdiv_rn(team_sum<Plan>(center, part), terms);
            held.each([&](int64_t, const float (&v)[Plan::kWidth]) {
                for (int j = 0; j < Plan::kWidth; j++) {
                    const float distance = __fsub_rn(v[j], center);
                    variance = __fmaf_rn(distance, distance, variance);
                }
            });
            variance = __fdiv_rn(team_sum<Plan>(variance, part), terms);
        }
        const float deviation = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(variance, eps)));
        const float m = rounded<S>(center), s = rounded<S>(deviation);
        if (team_thread<Plan>() == 0) {
            put(mean[row], center);
            put(inv_std[row], deviation);
        }
        held.each([&](int64_t k, const float (&v)[Plan::kWidth]) {
            float a[Plan::kWidth], b[Plan::kWidth], out[Plan::kWidth];
            load_floats(gamma + k, a);
            load_floats(beta + k, b);
            for (int j = 0; j < Plan::kWidth; j++)
                out[j] =
                    __fadd_rn(__fmul_rn(__fmul_rn(__fsub_rn(v[j], m), s), a[j]), b[j]);  // the documented order; no FMA
            store_floats(y + (row * K + k), out);
        });
    }
}

// x dy dx (rows, K), gamma (K,), mean inv_std (rows,); unless kHalf also shifts, slopes (slices, K), the sums of dy and
// of dy * xhat over slices of `slice` rows. blockIdx.x = slice.
template <class T, class S, class Plan, bool kHalf>
__global__ void __launch_bounds__(kBlock)
    layer_norm_backward_kernel(Ptr<const T> x, Ptr<const S> gamma, Ptr<const S> mean, Ptr<const S> inv_std,
                               Ptr<const T> dy, Ptr<T> dx, Ptr<float> shifts, Ptr<float> slopes, int64_t rows,
                               int64_t K, int64_t slice) {
    constexpr int kWidth = Plan::kWidth, kHeld = Plan::kIsHeld ? Plan::kHeld : 1;
    constexpr bool kStaged = !kHalf && Plan::kTeams > 1;
    __shared__ WarpParts part;
    float shift[kHeld][kWidth] = {}, slope[kHeld][kWidth] = {};
    const float terms = static_cast<float>(K);
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * slice, end = begin + slice < rows ? begin + slice : rows;
    const int team = static_cast<int>(threadIdx.x) / Plan::kTeam;
    for (int64_t row = begin + team; row < end; row += Plan::kTeams) {
        const Ptr<const T> values = x + row * K, gradients = dy + row * K;
        const float m = as_float(mean[row]), s = as_float(inv_std[row]);
        RowPair<T, Plan> held(values, gradients, K);
        float offset = 0.0f, incline = 0.0f;  // sums of g and of g * xhat
        if constexpr (kHalf) {
            const auto scaled = [&](int64_t k) { return __fmul_rn(as_float(gradients[k]), as_float(gamma[k])); };
            const auto weighted = [&](int64_t k) {
                return __fmul_rn(scaled(k), __fmul_rn(__fsub_rn(as_float(values[k]), m), s));
            };
            offset = strict_warp_sum<false>(K, scaled);
            incline = strict_warp_sum<false>(K, weighted);
        } else {
            held.each([&](int i, int64_t k, const float (&v)[kWidth], const float (&dv)[kWidth]) {
                float a[kWidth];
                load_floats(gamma + k, a);
                for (int j = 0; j < kWidth; j++) {
                    const float xhat = __fmul_rn(__fsub_rn(v[j], m), s), g = __fmul_rn(dv[j], a[j]),
                                slope_term = __fmul_rn(dv[j], xhat);
                    offset = __fadd_rn(offset, g);
                    incline = __fadd_rn(incline, __fmul_rn(g, xhat));
                    if constexpr (Plan::kIsHeld) {
                        shift[i][j] = __fadd_rn(shift[i][j], dv[j]);
                        slope[i][j] = __fadd_rn(slope[i][j], slope_term);
                    } else {  // this thread owns the column
                        const int64_t at = blockIdx.x * K + k + j;
                        shifts[at] = row == begin ? dv[j] : __fadd_rn(shifts[at], dv[j]);
                        slopes[at] = row == begin ? slope_term : __fadd_rn(slopes[at], slope_term);
                    }
                }
            });
            offset = team_sum<Plan>(offset, part);
            incline = team_sum<Plan>(incline, part);
        }
        offset = __fdiv_rn(offset, terms);
        incline = __fdiv_rn(incline, terms);
        held.each([&](int, int64_t k, const float (&v)[kWidth], const float (&dv)[kWidth]) {
            float a[kWidth], out[kWidth];
            load_floats(gamma + k, a);
            for (int j = 0; j < kWidth; j++) {
                const float xhat = __fmul_rn(__fsub_rn(v[j], m), s), g = __fmul_rn(dv[j], a[j]);
                out[j] = __fmul_rn(s, __fsub_rn(__fsub_rn(g, offset), __fmul_rn(xhat, incline)));
            }
            store_floats(dx + (row * K + k), out);
        });
    }
    if constexpr (kStaged) {
        __shared__ Shared<float, Plan::kMost> shift_stage;
        __shared__ Shared<float, Plan::kMost> slope_stage;
        for (int turn = 0; turn < Plan::kTeams; turn++) {
            if (turn == team)
                each_group<Plan>(K, [&](int i, int64_t k) {
                    for (int j = 0; j < kWidth; j++) {
                        const int at = static_cast<int>(k) + j;
                        shift_stage[at] = turn == 0 ? shift[i][j] : __fadd_rn(shift_stage[at], shift[i][j]);
                        slope_stage[at] = turn == 0 ? slope[i][j] : __fadd_rn(slope_stage[at], slope[i][j]);
                    }
                });
            __syncthreads();
        }
        for (int k = static_cast<int>(threadIdx.x); k < K; k += kBlock) {
            shifts[blockIdx.x * K + k] = shift_stage[k];
            slopes[blockIdx.x * K + k] = slope_stage[k];
        }
    } else if constexpr (!kHalf && Plan::kIsHeld) {
        each_group<Plan>(K, [&](int i, int64_t k) {
            for (int j = 0; j < kWidth; j++) {
                shifts[blockIdx.x * K + k + j] = shift[i][j];
                slopes[blockIdx.x * K + k + j] = slope[i][j];
            }
        });
    }
}

// shifts, slopes (slices, K) -> dbeta, dgamma (K,); blockIdx = (columns, 0 for dbeta or 1 for dgamma)
template <class S>
__global__ void __launch_bounds__(kBlock)
    layer_norm_parameters_kernel(Ptr<const float> shifts, Ptr<const float> slopes, Ptr<S> dbeta, Ptr<S> dgamma,
                                 int64_t slices, int64_t K) {
    constexpr int kParts = kBlock / kParameterColumns;
    __shared__ Shared<float, kBlock> part;
    const int c = static_cast<int>(threadIdx.x) % kParameterColumns,
              mine = static_cast<int>(threadIdx.x) / kParameterColumns;
    const int64_t k = static_cast<int64_t>(blockIdx.x) * kParameterColumns + c;
    const Ptr<const float> sums = blockIdx.y == 0 ? shifts : slopes;
    float sum = 0.0f;
    if (k < K && mine < slices) {
        sum = sums[mine * K + k];
        for (int64_t i = mine + kParts; i < slices; i += kParts) sum = __fadd_rn(sum, sums[i * K + k]);
    }
    part[static_cast<int>(threadIdx.x)] = sum;
    __syncthreads();
    if (k >= K || mine != 0) return;
    for (int i = 1; i < kParts && i < slices; i++) sum = __fadd_rn(sum, part[i * kParameterColumns + c]);
    put((blockIdx.y == 0 ? dbeta : dgamma)[k], sum);
}

// Binary16 accumulators: groups (2, ceil(rows / 1024), K) of dy and of dy * xhat
template <class T, class S>
__global__ void __launch_bounds__(kBlock)
    layer_norm_strict_gradients_kernel(Ptr<const T> x, Ptr<const S> mean, Ptr<const S> inv_std, Ptr<const T> dy,
                                       Ptr<float> groups, int64_t rows, int64_t K) {
    __shared__ StrictStage<2> stage;
    strict_column_groups<2, false>(rows, K, groups, stage, [&](int64_t r, int64_t k, float (&terms)[2]) {
        const float xhat = __fmul_rn(__fsub_rn(as_float(x[r * K + k]), as_float(mean[r])), as_float(inv_std[r]));
        terms[0] = as_float(dy[r * K + k]);
        terms[1] = __fmul_rn(terms[0], xhat);
    });
}

}  // namespace fp16engine::gpu
