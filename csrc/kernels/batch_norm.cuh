// Batch normalisation over the rows of x (rows, C), with ReLU or ReLU6 if asked; S is the dtype of the statistics, T
// that of x, y, dy and dx.
//
//   y = fl(((x - mean) * inv_std) * gamma + beta [+ residual]), inv_std = 1 / sqrt(var + eps); both are rounded to S
//   before use; with an addend, s = fl(x + addend) is stored by the pass over the moments and takes the place of x
//
//   g = dy where y > 0 (and y < 6), or dy; xhat = (x - mean) * inv_std; dbeta = sum g; dgamma = sum g * xhat
//
//   dx = fl((gamma * inv_std) * ((g - dbeta / rows) - xhat * (dgamma / rows)) [+ pending_grad]), with the unrounded
//   sums
//
//   After a residual and a rectifier y is read, not recomputed: the first pass of backward stores dr = g, which the
//   second one reads for dy. The sums of dx over its rows, a bias' gradient, are joined by the block that is through
//   last.
//
// Accumulators: float32, where a thread joins eight rows at a time (their sum, and their squares about their own mean;
// Chan et al. 1979), threads of a block join in the order of their rows, slices in theirs, squares each time moved to
// the mean of the whole, never E[x^2] - E[x]^2; or binary16 (batch_norm_strict.cuh).
//
// Each direction is one cooperative launch (cooperative.cuh): all blocks find their slices' sums, wait for each other,
// and use them. Deterministic: slices depend on the shape alone and every block that joins them does it in the same
// order. Arrays that vectors cannot move (wide.cuh) have another order than those they can.
//
// Bytes per element of T: forward 2 reads + 1 write, inference 1 + 1, backward 4 + 1; with binary16 accumulators
// forward 3 + 1. A residual and a pending gradient are a read more each, an addend a read and a write, dr two.
#pragma once
#include "kernels/columns.cuh"
#include "kernels/cooperative.cuh"
#include "kernels/running_statistics.cuh"

namespace fp16engine::gpu {

constexpr int kMomentRows = 8;  // rows that a thread joins at once

// ---- device helpers -----------------------------------------------------------------------------------------------

// What is normalised: x as it is stored, its sum with an addend, or x and more columns side by side; the latter two are
// formed and stored by the pass over the moments.
enum class Source { stored, sum, cat };

// Shared memory of both passes, one after the other: two blocks' worth would not fit into the 48 KB of a kernel.
template <int kWidth>
struct PassStages {
    ColumnStage<kWidth> first, second;
    Shared<float, kColumnBlock> part;
};

// Moments of slices of the rows, sums and squares (count, C): each of terms_each rows but the last, `terms` in all.
struct BatchMoments {
    Ptr<const float> sums, squares;
    int64_t count, terms_each, terms;
};

__device__ __forceinline__ float inverse_std(float variance, float eps) {
    return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(variance, eps)));
}

// The documented order; no FMA.
__device__ __forceinline__ float normalised(float x, float mean, float inv_std, float gamma, float beta) {
    const float xhat = __fmul_rn(__fsub_rn(x, mean), inv_std);
    return __fadd_rn(__fmul_rn(xhat, gamma), beta);
}

// Whether v is above 0 once it is stored: a half from 2^-25 (excluded, a tie) up.
template <class T>
__device__ __forceinline__ bool stays_positive(float v) {
    return v > (sizeof(T) == 2 ? 0x1p-25f : 0.0f);
}

// y of one group, within the bounds of common/rectifier.h; NaN passes.
template <int kWidth>
struct Normalise {
    float mean[kWidth], inv_std[kWidth], gamma[kWidth], beta[kWidth];
    float floor, ceiling;

    template <bool kResidual, class T>
    __device__ __forceinline__ void store(const float (&x)[kWidth], const float (&residual)[kWidth], Ptr<T> y) const {
        float v[kWidth];
        for (int j = 0; j < kWidth; j++) {
            v[j] = normalised(x[j], mean[j], inv_std[j], gamma[j], beta[j]);
            if (kResidual) v[j] = __fadd_rn(v[j], residual[j]);
            v[j] = v[j] <= floor ? floor : v[j];
            v[j] = v[j] >= ceiling ? ceiling : v[j];
        }
        store_floats(y, v);
    }

    template <bool kResidual, class T>
    __device__ __forceinline__ void rows(const ColumnThread<kWidth>& thread, Ptr<const T> x, Ptr<const T> residual,
                                         Ptr<T> y) const {
        constexpr int kRows = kResidual ? kBatch / 2 : kBatch;  // as many vectors in flight
        thread.template each_row<kRows>(
            [&](int64_t at, int64_t step, int64_t) {
                float v[kRows][kWidth], r[kRows][kWidth];
                for (int i = 0; i < kRows; i++) load_floats(x + (at + i * step), v[i]);
                for (int i = 0; kResidual && i < kRows; i++) load_floats(residual + (at + i * step), r[i]);
                for (int i = 0; i < kRows; i++) store<kResidual>(v[i], r[i], y + (at + i * step));
            },
            [&](int64_t at, int64_t) {
                float v[kWidth], r[kWidth];
                load_floats(x + at, v);
                if (kResidual) load_floats(residual + at, r);
                store<kResidual>(v, r, y + at);
            });
    }
};

// How dy is masked: not at all, by y as it is recomputed, or by y as it was stored.
enum class Mask { none, recomputed, stored };

// g of one element, for a mask that needs no y: what is stored is above 0 and below `reached`, where the ceiling begins
template <class T, bool kRecomputed>
__device__ __forceinline__ float masked_gradient(float dy, float xhat, float gamma, float beta, float reached) {
    if (!kRecomputed) return dy;
    const float y = __fadd_rn(__fmul_rn(xhat, gamma), beta);
    return stays_positive<T>(y) && !(y >= reached) ? dy : 0.0f;
}

// and by a stored one
__device__ __forceinline__ float masked_by(float y, float dy, float reached) {
    return y > 0.0f && !(y >= reached) ? dy : 0.0f;
}

// Where the sums of dx over its rows come together: partial (slices, C), arrived (tiles of columns), total (C,)
template <class T>
struct GradientSums {
    Ptr<float> partial;
    Ptr<int> arrived;
    Ptr<T> total;
};

// x (rows, C) -> sums, squares (slices, C) of one place: a slice's sum, and its squared distances from its own mean, of
// s (rows, C), which is stored unless it is x: fl(x + addend), or x and the addend side by side
template <class T, int kWidth, Source kSource>
__device__ __forceinline__ void find_moments(PassStages<kWidth>& stages, const SideBySide<const T>& x,
                                             Ptr<const T> addend, Ptr<T> s, Ptr<float> sums, Ptr<float> squares,
                                             const ColumnTiles& tiles, const ColumnPlace& place) {
    constexpr bool kFormed = kSource != Source::stored;
    auto &staged_sums = stages.first, &staged_squares = stages.second;
    auto& part = stages.part;
    const ColumnThread<kWidth> thread(tiles, place);
    float sum[kWidth] = {}, square[kWidth] = {}, n = 0.0f;
    const auto load = [&](int64_t at, int64_t r, float (&v)[kWidth]) {
        load_floats(kSource == Source::cat ? x.at(r, thread.column) : x.left + at, v);
        if (kSource != Source::sum) return;
        float a[kWidth];
        load_floats(addend + at, a);
        for (int j = 0; j < kWidth; j++) v[j] = rounded<T>(__fadd_rn(v[j], a[j]));
    };
    // More rows, of sum s and squares q about their mean m
    const auto join = [&](int j, float s, float m, float q, float per_row, float weight) {
        const float distance = __fsub_rn(m, __fmul_rn(sum[j], per_row));
        square[j] = __fadd_rn(square[j], __fmaf_rn(__fmul_rn(distance, weight), distance, q));
        sum[j] = __fadd_rn(sum[j], s);
    };
    thread.template each_row<kMomentRows>(
        [&](int64_t at, int64_t step, int64_t r) {
            float v[kMomentRows][kWidth];
            for (int i = 0; i < kMomentRows; i++) load(at + i * step, r + i * thread.row_lanes, v[i]);
            for (int i = 0; kFormed && i < kMomentRows; i++) store_floats(s + (at + i * step), v[i]);
            const float per_row = n > 0.0f ? __fdiv_rn(1.0f, n) : 0.0f,
                        weight = __fdiv_rn(n * kMomentRows, n + kMomentRows);
            for (int j = 0; j < kWidth; j++) {
                float s = v[0][j];
                for (int i = 1; i < kMomentRows; i++) s = __fadd_rn(s, v[i][j]);
                const float m = s * (1.0f / kMomentRows);
                float q = 0.0f;
                for (int i = 0; i < kMomentRows; i++) {
                    const float d = __fsub_rn(v[i][j], m);
                    q = __fmaf_rn(d, d, q);
                }
                join(j, s, m, q, per_row, weight);
            }
            n += kMomentRows;
        },
        [&](int64_t at, int64_t r) {
            float v[kWidth];
            load(at, r, v);
            if (kFormed) store_floats(s + at, v);
            const float per_row = n > 0.0f ? __fdiv_rn(1.0f, n) : 0.0f, weight = __fdiv_rn(n, n + 1.0f);
            for (int j = 0; j < kWidth; j++) join(j, v[j], v[j], 0.0f, per_row, weight);
            n += 1.0f;
        });
    staged_sums.put(sum);
    staged_squares.put(square);
    __syncthreads();

    const int columns = tiles.lanes * kWidth, used = thread.lanes_used();
    const float total = column_total(
        columns, used, [&](int64_t i, int c) { return staged_sums.get(static_cast<int>(i), c, tiles.lanes); }, part);
    const float mean = __fdiv_rn(total, static_cast<float>(thread.end - thread.begin));
    const auto moved = [&](int64_t i, int c) {
        const int lane = static_cast<int>(i);
        const float count = thread.rows_of(lane),
                    distance = __fsub_rn(__fdiv_rn(staged_sums.get(lane, c, tiles.lanes), count), mean);
        return __fmaf_rn(__fmul_rn(distance, count), distance, staged_squares.get(lane, c, tiles.lanes));
    };
    const float square_total = column_total(columns, used, moved, part);
    const int64_t column = staged_column<kWidth>(tiles, place);
    if (static_cast<int>(threadIdx.x) < columns && column < tiles.C) {
        sums[place.slice * tiles.C + column] = total;
        squares[place.slice * tiles.C + column] = square_total;
    }
}

// x residual y (rows, C), gamma beta mean inv_std (C,) of one place; the first slice's block writes the statistics
template <class T, class S, int kWidth, bool kResidual>
__device__ __forceinline__ void normalise_place(PassStages<kWidth>& stages, Ptr<const T> x, Ptr<const S> gamma,
                                                Ptr<const S> beta, const RunningStatistics<S>& running,
                                                Ptr<const T> residual, Ptr<T> y, Ptr<S> mean, Ptr<S> inv_std,
                                                const BatchMoments& moments, const ColumnTiles& tiles,
                                                const ColumnPlace& place, float eps, float floor, float ceiling) {
    auto& part = stages.part;
    __shared__ Shared<float, kTileColumns> means;
    __shared__ Shared<float, kTileColumns> deviations;
    const int columns = tiles.lanes * kWidth, c = static_cast<int>(threadIdx.x) % columns;
    const int64_t column = place.tile * columns + c;
    const auto sum_of = [&](int64_t i, int) { return column < tiles.C ? moments.sums[i * tiles.C + column] : 0.0f; };
    const float terms = static_cast<float>(moments.terms);
    const float batch_mean = __fdiv_rn(column_total(columns, moments.count, sum_of, part), terms);
    const auto moved = [&](int64_t i, int k) {
        const int64_t last = moments.terms - (moments.count - 1) * moments.terms_each;
        const float count = static_cast<float>(i + 1 < moments.count ? moments.terms_each : last);
        const float distance = __fsub_rn(__fdiv_rn(sum_of(i, k), count), batch_mean);
        return __fmaf_rn(__fmul_rn(distance, count), distance,
                         column < tiles.C ? moments.squares[i * tiles.C + column] : 0.0f);
    };
    const float variance = __fdiv_rn(column_total(columns, moments.count, moved, part), terms);
    if (static_cast<int>(threadIdx.x) < columns && column < tiles.C) {
        const float deviation = inverse_std(variance, eps);
        means[c] = rounded<S>(batch_mean);
        deviations[c] = rounded<S>(deviation);
        if (place.slice == 0) {
            put(mean[column], batch_mean);
            put(inv_std[column], deviation);
            running.update(column, tiles.C, batch_mean, variance);
        }
    }
    __syncthreads();

    const ColumnThread<kWidth> thread(tiles, place);
    if (!thread.active) return;
    Normalise<kWidth> normalise;
    const int first = static_cast<int>(threadIdx.x) % tiles.lanes * kWidth;
    for (int j = 0; j < kWidth; j++) {
        normalise.mean[j] = means[first + j];
        normalise.inv_std[j] = deviations[first + j];
    }
    load_floats(gamma + thread.column, normalise.gamma);
    load_floats(beta + thread.column, normalise.beta);
    normalise.floor = floor;
    normalise.ceiling = ceiling;
    normalise.template rows<kResidual>(thread, x, residual, y);
}

// x dy (rows, C), gamma beta mean inv_std (C,) -> shifts, slopes (slices, C) of one place: a slice's sums of g and of
// g * xhat; a stored mask y (rows, C) gives dr (rows, C) too. `arrived`, where given, becomes zero for what follows.
template <class T, class S, int kWidth, Mask kMask>
__device__ __forceinline__ void find_gradient_sums(PassStages<kWidth>& stages, Ptr<const T> x, Ptr<const S> gamma,
                                                   Ptr<const S> beta, Ptr<const S> mean, Ptr<const S> inv_std,
                                                   Ptr<const T> y, Ptr<const T> dy, Ptr<T> dr, Ptr<float> shifts,
                                                   Ptr<float> slopes, Ptr<int> arrived, float reached,
                                                   const ColumnTiles& tiles, const ColumnPlace& place) {
    auto &staged_shifts = stages.first, &staged_slopes = stages.second;
    auto& part = stages.part;
    const ColumnThread<kWidth> thread(tiles, place);
    float shift[kWidth] = {}, slope[kWidth] = {};
    if (arrived && place.slice == 0 && threadIdx.x == 0) arrived[place.tile] = 0;
    if (thread.active) {
        constexpr bool kStored = kMask == Mask::stored, kRecomputed = kMask == Mask::recomputed;
        constexpr int kRows = kStored ? kBatch / 2 : kBatch;
        float m[kWidth], s[kWidth], a[kWidth], b[kWidth];
        load_floats(mean + thread.column, m);
        load_floats(inv_std + thread.column, s);
        load_floats(gamma + thread.column, a);
        load_floats(beta + thread.column, b);
        const auto join = [&](const float (&v)[kWidth], const float (&dv)[kWidth]) {
            for (int j = 0; j < kWidth; j++) {
                const float xhat = __fmul_rn(__fsub_rn(v[j], m[j]), s[j]),
                            g = masked_gradient<T, kRecomputed>(dv[j], xhat, a[j], b[j], reached);
                shift[j] = __fadd_rn(shift[j], g);
                slope[j] = __fadd_rn(slope[j], __fmul_rn(g, xhat));
            }
        };
        const auto load = [&](int64_t at, float (&v)[kWidth], float (&dv)[kWidth]) {
            load_floats(x + at, v);
            load_floats(dy + at, dv);
            if (!kStored) return;
            float stored[kWidth];
            load_floats(y + at, stored);
            for (int j = 0; j < kWidth; j++) dv[j] = masked_by(stored[j], dv[j], reached);
        };
        thread.template each_row<kRows>(
            [&](int64_t at, int64_t step, int64_t) {
                float v[kRows][kWidth], dv[kRows][kWidth];
                for (int i = 0; i < kRows; i++) load(at + i * step, v[i], dv[i]);
                for (int i = 0; kStored && i < kRows; i++) store_floats(dr + (at + i * step), dv[i]);
                for (int i = 0; i < kRows; i++) join(v[i], dv[i]);
            },
            [&](int64_t at, int64_t) {
                float v[kWidth], dv[kWidth];
                load(at, v, dv);
                if (kStored) store_floats(dr + at, dv);
                join(v, dv);
            });
    }
    staged_shifts.put(shift);
    staged_slopes.put(slope);
    __syncthreads();

    const int columns = tiles.lanes * kWidth, used = thread.lanes_used();
    const int64_t column = staged_column<kWidth>(tiles, place);
    const bool writes = static_cast<int>(threadIdx.x) < columns && column < tiles.C;
    const auto sum_of = [&](ColumnStage<kWidth>& stage) {
        return column_total(
            columns, used, [&](int64_t i, int c) { return stage.get(static_cast<int>(i), c, tiles.lanes); }, part);
    };
    const float shift_total = sum_of(staged_shifts), slope_total = sum_of(staged_slopes);
    if (writes) {
        shifts[place.slice * tiles.C + column] = shift_total;
        slopes[place.slice * tiles.C + column] = slope_total;
    }
}

// dx (rows, C), dgamma dbeta (C,) of one place from shifts, slopes (count, C); without dx its rows are left out.
// kAddsPending: pending_grad (rows, C) is added to dx; kSums: dx is summed over its rows.
template <class T, class S, int kWidth, bool kRecomputed, bool kAddsPending, bool kSums>
__device__ __forceinline__ void find_gradients(PassStages<kWidth>& stages, Ptr<const T> x, Ptr<const S> gamma,
                                               Ptr<const S> beta, Ptr<const S> mean, Ptr<const S> inv_std,
                                               Ptr<const T> dy, Ptr<const T> pending_grad, const SideBySide<T>& dx,
                                               Ptr<S> dgamma, Ptr<S> dbeta, Ptr<const float> shifts,
                                               Ptr<const float> slopes, int64_t count, float reached,
                                               const GradientSums<T>& sums, const ColumnTiles& tiles,
                                               const ColumnPlace& place) {
    auto& part = stages.part;
    __shared__ Shared<float, kTileColumns> tile_shifts;
    __shared__ Shared<float, kTileColumns> tile_slopes;
    const int columns = tiles.lanes * kWidth, c = static_cast<int>(threadIdx.x) % columns;
    const int64_t column = place.tile * columns + c;
    const auto sum_of = [&](Ptr<const float> found) {
        return column_total(
            columns, count, [&](int64_t i, int) { return column < tiles.C ? found[i * tiles.C + column] : 0.0f; },
            part);
    };
    const float shift_total = sum_of(shifts), slope_total = sum_of(slopes);
    if (static_cast<int>(threadIdx.x) < columns && column < tiles.C) {
        tile_shifts[c] = __fdiv_rn(shift_total, static_cast<float>(tiles.rows));
        tile_slopes[c] = __fdiv_rn(slope_total, static_cast<float>(tiles.rows));
        if (place.slice == 0) {
            put(dbeta[column], shift_total);
            put(dgamma[column], slope_total);
        }
    }
    __syncthreads();

    const ColumnThread<kWidth> thread(tiles, place);
    float total[kWidth] = {};
    if (thread.active && dx.left) {
        constexpr int kRows = kAddsPending ? kBatch / 2 : kBatch;
        float m[kWidth], s[kWidth], a[kWidth], b[kWidth], shift[kWidth], slope[kWidth];
        load_floats(mean + thread.column, m);
        load_floats(inv_std + thread.column, s);
        load_floats(gamma + thread.column, a);
        load_floats(beta + thread.column, b);
        const int first = static_cast<int>(threadIdx.x) % tiles.lanes * kWidth;
        for (int j = 0; j < kWidth; j++) {
            shift[j] = tile_shifts[first + j];
            slope[j] = tile_slopes[first + j];
        }
        const auto load = [&](int64_t at, float (&v)[kWidth], float (&dv)[kWidth], float (&w)[kWidth]) {
            load_floats(x + at, v);
            load_floats(dy + at, dv);
            if (kAddsPending) load_floats(pending_grad + at, w);
        };
        const auto store = [&](const float (&v)[kWidth], const float (&dv)[kWidth], const float (&w)[kWidth],
                               Ptr<T> to) {
            float out[kWidth];
            for (int j = 0; j < kWidth; j++) {
                const float xhat = __fmul_rn(__fsub_rn(v[j], m[j]), s[j]),
                            g = masked_gradient<T, kRecomputed>(dv[j], xhat, a[j], b[j], reached);
                out[j] = __fmul_rn(__fmul_rn(a[j], s[j]), __fsub_rn(__fsub_rn(g, shift[j]), __fmul_rn(xhat, slope[j])));
                if (kAddsPending) out[j] = __fadd_rn(out[j], w[j]);
                if (kSums) total[j] = __fadd_rn(total[j], rounded<T>(out[j]));
            }
            store_floats(to, out);
        };
        thread.template each_row<kRows>(
            [&](int64_t at, int64_t step, int64_t r) {
                float v[kRows][kWidth], dv[kRows][kWidth], w[kRows][kWidth];
                for (int i = 0; i < kRows; i++) load(at + i * step, v[i], dv[i], w[i]);
                for (int i = 0; i < kRows; i++)
                    store(v[i], dv[i], w[i], dx.at(r + i * thread.row_lanes, thread.column));
            },
            [&](int64_t at, int64_t r) {
                float v[kWidth], dv[kWidth], w[kWidth];
                load(at, v, dv, w);
                store(v, dv, w, dx.at(r, thread.column));
            });
    }
    if constexpr (kSums) {
        auto& staged = stages.first;
        __shared__ Shared<int, 1> last;
        staged.put(total);
        __syncthreads();
        const float mine = column_total(
            columns, thread.lanes_used(),
            [&](int64_t i, int k) { return staged.get(static_cast<int>(i), k, tiles.lanes); }, part);
        const int64_t staged_at = staged_column<kWidth>(tiles, place);
        const bool writes = static_cast<int>(threadIdx.x) < columns && staged_at < tiles.C;
        if (writes) sums.partial[place.slice * tiles.C + staged_at] = mine;
        if (!last_of_tile(tiles, place, sums.arrived, last)) return;
        const float all = column_total(
            columns, tiles.slices,
            [&](int64_t i, int) { return column < tiles.C ? __ldcg(&sums.partial[i * tiles.C + column]) : 0.0f; },
            part);
        if (static_cast<int>(threadIdx.x) < columns && column < tiles.C) put(sums.total[column], all);
    }
}

// ---- kernels ------------------------------------------------------------------------------------------------------

// Both passes of forward. x addend s residual y (rows, C), gamma beta mean inv_std (C,), sums squares
// (sum_tiles.slices, C). Without slices in sum_tiles, `moments` are there already and the first pass is left out.
template <class T, class S, int kWidth, Source kSource, bool kResidual>
__global__ void __launch_bounds__(kColumnBlock)
    batch_norm_forward_kernel(SideBySide<const T> x, Ptr<const T> addend, Ptr<T> s, Ptr<const S> gamma,
                              Ptr<const S> beta, const RunningStatistics<S> running, Ptr<const T> residual, Ptr<T> y,
                              Ptr<S> mean, Ptr<S> inv_std, Ptr<float> sums, Ptr<float> squares, BatchMoments moments,
                              ColumnTiles sum_tiles, ColumnTiles tiles, float eps, float floor, float ceiling) {
    __shared__ PassStages<kWidth> stages;
    if (sum_tiles.slices > 0) {
        count_update(running.updates);
        each_place(sum_tiles, [&](const ColumnPlace& place) {
            find_moments<T, kWidth, kSource>(stages, x, addend, s, sums, squares, sum_tiles, place);
        });
        grid_barrier();
    }
    const Ptr<const T> normalised = kSource == Source::stored ? x.left : Ptr<const T>(s);
    each_place(tiles, [&](const ColumnPlace& place) {
        normalise_place<T, S, kWidth, kResidual>(stages, normalised, gamma, beta, running, residual, y, mean, inv_std,
                                                 moments, tiles, place, eps, floor, ceiling);
    });
}

// x residual y (rows, C); gamma beta running_mean running_var (C,)
template <class T, class S, int kWidth, bool kResidual>
__global__ void __launch_bounds__(kColumnBlock)
    batch_norm_inference_kernel(Ptr<const T> x, Ptr<const S> gamma, Ptr<const S> beta, Ptr<const S> running_mean,
                                Ptr<const S> running_var, Ptr<const T> residual, Ptr<T> y, ColumnTiles tiles,
                                bool deviation, float eps, float floor, float ceiling) {
    each_place(tiles, [&](const ColumnPlace& place) {
        const ColumnThread<kWidth> thread(tiles, place);
        if (!thread.active) return;
        Normalise<kWidth> normalise;
        load_floats(running_mean + thread.column, normalise.mean);
        load_floats(running_var + thread.column, normalise.inv_std);
        for (int j = 0; j < kWidth; j++) {
            const float spread = normalise.inv_std[j];
            normalise.inv_std[j] = inverse_std(deviation ? __fmul_rn(spread, spread) : spread, eps);
        }
        load_floats(gamma + thread.column, normalise.gamma);
        load_floats(beta + thread.column, normalise.beta);
        normalise.floor = floor;
        normalise.ceiling = ceiling;
        normalise.template rows<kResidual>(thread, x, residual, y);
    });
}

// Both passes of backward. x y dy dr pending_grad dx (rows, C), gamma beta mean inv_std dgamma dbeta (C,), shifts
// slopes (count, C). Without slices in sum_tiles the sums are there already and the first pass is left out.
template <class T, class S, int kWidth, Mask kMask, bool kAddsPending, bool kSums>
__global__ void __launch_bounds__(kColumnBlock)
    batch_norm_backward_kernel(Ptr<const T> x, Ptr<const S> gamma, Ptr<const S> beta, Ptr<const S> mean,
                               Ptr<const S> inv_std, Ptr<const T> y, Ptr<const T> dy, Ptr<T> dr,
                               Ptr<const T> pending_grad, SideBySide<T> dx, Ptr<S> dgamma, Ptr<S> dbeta,
                               Ptr<float> shifts, Ptr<float> slopes, int64_t count, float reached, GradientSums<T> sums,
                               ColumnTiles sum_tiles, ColumnTiles tiles) {
    __shared__ PassStages<kWidth> stages;
    if (sum_tiles.slices > 0) {
        each_place(sum_tiles, [&](const ColumnPlace& place) {
            find_gradient_sums<T, S, kWidth, kMask>(stages, x, gamma, beta, mean, inv_std, y, dy, dr, shifts, slopes,
                                                    sums.arrived, reached, sum_tiles, place);
        });
        grid_barrier();
    }
    const Ptr<const T> masked = kMask == Mask::stored ? Ptr<const T>(dr) : dy;
    each_place(tiles, [&](const ColumnPlace& place) {
        find_gradients<T, S, kWidth, kMask == Mask::recomputed, kAddsPending, kSums>(
            stages, x, gamma, beta, mean, inv_std, masked, pending_grad, dx, dgamma, dbeta, shifts, slopes, count,
            reached, sums, tiles, place);
    });
}

}  // namespace fp16engine::gpu
