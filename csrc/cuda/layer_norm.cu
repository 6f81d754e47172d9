#include "kernels/layer_norm.cuh"

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/ops.h"
#include "cuda/row_plans.h"

namespace fp16engine::gpu {
namespace {

constexpr int64_t kMaxSlices = 512;  // partial sums of a column
constexpr int64_t kMinPerTeam = 4;   // rows that a team should have

// Backward keeps two rows and two sums for each of their columns in registers.
template <class T, bool kHalf, class Body>
void with_backward_plan(int64_t K, bool wide, Body body) {
    constexpr int kVector = kWide<T>;
    if constexpr (kHalf)
        with_strict_plan<T>(wide, body);
    else if (wide && K <= 256)
        body(RowPlan<kWarpSize, kVector, 8 / kVector>{});
    else if (wide && K <= 512)
        body(RowPlan<kWarpSize, kVector, 16 / kVector>{});
    else if (wide && K <= 4096)
        body(RowPlan<kBlock, kVector, 16 / kVector>{});
    else if (wide)
        body(RowPlan<kBlock, kVector, 0>{});
    else if (K <= 256)
        body(RowPlan<kWarpSize, 1, 8>{});
    else if (K <= 2048)
        body(RowPlan<kBlock, 1, 8>{});
    else
        body(RowPlan<kBlock, 1, 0>{});
}

template <class T, class S, bool kHalf>
void backward(const Rows& r, const ArrayView& x, const ArrayView& gamma, const ArrayView& mean,
              const ArrayView& inv_std, const ArrayView& dy, const ArrayView& dx, const ArrayView& dgamma,
              const ArrayView& dbeta) {
    const auto xs = pointer<const T>(x), dys = pointer<const T>(dy);
    const auto dxs = pointer<T>(dx);
    const auto gs = pointer<const S>(gamma), ms = pointer<const S>(mean), ds = pointer<const S>(inv_std);
    const auto dgs = pointer<S>(dgamma), dbs = pointer<S>(dbeta);
    const int64_t rows = r.count, K = r.K;
    const auto parameters = [&](Ptr<const float> shifts, Ptr<const float> slopes, int64_t slices) {
        const Dim3 grid(static_cast<unsigned>(ceil_divide(K, kParameterColumns)), 2);
        FP16_LAUNCH((layer_norm_parameters_kernel<S>), grid, kBlock, shifts, slopes, dbs, dgs, slices, K);
    };
    with_backward_plan<T, kHalf>(K, by_vectors(K, {&x, &gamma, &dy, &dx}), [&](auto plan) {
        using Plan = decltype(plan);
        const int64_t slice =
            kHalf ? Plan::kTeams : std::max(ceil_divide(rows, kMaxSlices), Plan::kTeams * kMinPerTeam);
        const int64_t slices = ceil_divide(rows, slice), groups = ceil_divide(rows, kStrictRows);
        const Workspace workspace(kHalf ? 2 * K + 2 * groups * K : 2 * slices * K);
        const Ptr<float> first = workspace.get(), second = first + (kHalf ? 1 : slices) * K;
        if (rows > 0)
            FP16_LAUNCH((layer_norm_backward_kernel<T, S, Plan, kHalf>), static_cast<unsigned>(slices), kBlock, xs, gs,
                        ms, ds, dys, dxs, first, second, rows, K, slice);
        if constexpr (kHalf) {
            const Ptr<float> sums = first + 2 * K;
            const Ptr<const float> group_sums = sums;
            const unsigned grid = grid_of(strict_column_blocks(rows, K));
            if (rows > 0)
                FP16_LAUNCH((layer_norm_strict_gradients_kernel<T, S>), grid, kBlock, xs, ms, ds, dys, sums, rows, K);
            FP16_LAUNCH((strict_columns_kernel<false>), grid_for(2 * K * kWarpSize), kBlock, group_sums, first,
                        int64_t{2}, rows, K, 1.0f, false, Ptr<const float>(), 0);
        }
        parameters(first, second, kHalf ? 1 : slices);
    });
}

}  // namespace

void layer_norm_forward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double eps, bool half_accumulator) {
    const Rows r(x);
    if (x.size() == 0) return;
    with_norm_types(x, gamma, [&](auto type, auto statistics_type) {
        using T = decltype(type);
        using S = decltype(statistics_type);
        with_plan<T>(r.K, by_vectors(r.K, {&x, &y, &gamma, &beta}), half_accumulator, [&](auto plan, auto half) {
            using Plan = decltype(plan);
            constexpr bool kHalf = decltype(half)::value;
            const auto xs = pointer<const T>(x);
            const auto ys = pointer<T>(y);
            const auto gs = pointer<const S>(gamma), bs = pointer<const S>(beta);
            const auto ms = pointer<S>(mean), ds = pointer<S>(inv_std);
            const int64_t rows = r.count, K = r.K;
            const auto epsilon = static_cast<float>(eps);
            FP16_LAUNCH((layer_norm_forward_kernel<T, S, Plan, kHalf>), row_grid<Plan>(rows), kBlock, xs, gs, bs, ys,
                        ms, ds, rows, K, epsilon);
        });
    });
}

void layer_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& mean, const ArrayView& inv_std,
                         const ArrayView& dy, const ArrayView& dx, const ArrayView& dgamma, const ArrayView& dbeta,
                         bool half_accumulator) {
    const Rows r(x);
    if (r.K == 0) return;
    with_norm_types(x, gamma, [&](auto type, auto statistics_type) {
        using T = decltype(type);
        using S = decltype(statistics_type);
        with_accumulator<T>(half_accumulator, [&](auto half) {
            backward<T, S, decltype(half)::value>(r, x, gamma, mean, inv_std, dy, dx, dgamma, dbeta);
        });
    });
}

}  // namespace fp16engine::gpu
