#include "cuda/batch_norm.h"

#include <algorithm>

#include "common/rectifier.h"
#include "cuda/cooperative.h"
#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

struct Gradients {
    const ArrayView &x, &gamma, &beta, &mean, &inv_std, &y, &dy, &pending_grad, &dx, &djoined, &dgamma, &dbeta, &dr,
        &db;
    Rectifier rectifier;
    bool half_accumulator;
};

// Calls body(std::integral_constant<Mask, mask>).
template <class Body>
void with_mask(const Gradients& given, Body body) {
    if (given.y)
        body(std::integral_constant<Mask, Mask::stored>{});
    else if (given.rectifier.any())
        body(std::integral_constant<Mask, Mask::recomputed>{});
    else
        body(std::integral_constant<Mask, Mask::none>{});
}

template <class T, class S, int kWidth, Mask kMask>
void backward(const Rows& r, const Gradients& given) {
    const auto xs = pointer<const T>(given.x), ys = pointer<const T>(given.y), dys = pointer<const T>(given.dy),
               ws = pointer<const T>(given.pending_grad);
    const SideBySide<T> dxs{pointer<T>(given.dx), pointer<T>(given.djoined), given.djoined ? given.dx.dim(-1) : r.C,
                            r.C};
    const auto drs = pointer<T>(given.dr);
    const auto gs = pointer<const S>(given.gamma), bs = pointer<const S>(given.beta), ms = pointer<const S>(given.mean),
               ds = pointer<const S>(given.inv_std);
    const auto dgs = pointer<S>(given.dgamma), dbs = pointer<S>(given.dbeta);
    const float reached = given.rectifier.ceiling_reached(sizeof(T) == 2);
    const bool half = given.half_accumulator, joined = given.db && !half && r.rows > 0;
    const ColumnTiles tiles = joined ? joined_tiling(r, kWidth) : map_tiling(r, kWidth);
    ColumnTiles sums = sum_tiling(r, kWidth);
    const int64_t found = half ? 2 * r.C + 2 * strict_floats(r) : 2 * sums.slices * r.C,
                  partial = joined ? tiles.slices * r.C : 0;
    const Workspace workspace(found + partial + tiles.columns);
    const Ptr<float> first = workspace.get();
    GradientSums<T> together{};
    if (joined) together = {first + found, workspace.integers(found + partial, tiles.columns), pointer<T>(given.db)};
    int64_t count = sums.slices;
    if (half) {
        const int64_t rows = r.rows, C = r.C;
        const Ptr<float> groups = first + 2 * C;
        const Ptr<const float> group_sums = groups;
        const auto halves = pointer<const __half>(given.x), masks = pointer<const __half>(given.y),
                   gradients = pointer<const __half>(given.dy);
        const auto masked = pointer<__half>(given.dr);
        if (rows > 0)
            FP16_LAUNCH((batch_norm_strict_gradients_kernel<S, kMask>), strict_grid(r), kBlock, halves, gs, bs, ms, ds,
                        masks, gradients, masked, groups, rows, C, reached);
        FP16_LAUNCH((strict_columns_kernel<false>), grid_for(2 * C * kWarpSize), kBlock, group_sums, first, int64_t{2},
                    rows, C, 1.0f, false, Ptr<const float>(), 0);
        count = 1;
        sums.slices = 0;
    }
    const Ptr<float> second = first + count * r.C;
    const int64_t most = std::max(places(sums), places(tiles));
    with_flag(static_cast<bool>(given.pending_grad), [&](auto pending_grad) {
        with_flag(joined, [&](auto summed) {
            constexpr bool kAddsPending = decltype(pending_grad)::value, kSums = decltype(summed)::value;
            FP16_LAUNCH_COOPERATIVE((batch_norm_backward_kernel<T, S, kWidth, kMask, kAddsPending, kSums>), most,
                                    kColumnBlock, xs, gs, bs, ms, ds, ys, dys, drs, ws, dxs, dgs, dbs, first, second,
                                    count, reached, together, sums, tiles);
        });
    });
    if (given.db && !joined) reduce("sum", given.dx, given.db, 1, r.rows, r.C, half);
}

void backward(const Gradients& given) {
    const Rows r(given.x);
    if (r.C == 0) return;
    const bool wide = by_vectors(r.C, {&given.x, &given.y, &given.dy, &given.pending_grad, &given.dx, &given.dr,
                                       &given.gamma, &given.beta, &given.mean, &given.inv_std}) &&
                      (!given.djoined || by_vectors(given.dx.dim(-1), {&given.djoined}));
    with_norm_types(given.x, given.gamma, [&](auto type, auto statistics_type) {
        with_mask(given, [&](auto mask) {
            with_width<decltype(type)>(wide, [&](auto width) {
                backward<decltype(type), decltype(statistics_type), decltype(width)::value, decltype(mask)::value>(
                    r, given);
            });
        });
    });
}

}  // namespace

void batch_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& mean,
                         const ArrayView& inv_std, const ArrayView& y, const ArrayView& dy,
                         const ArrayView& pending_grad, const ArrayView& dx, const ArrayView& dgamma,
                         const ArrayView& dbeta, const ArrayView& dr, const ArrayView& db,
                         const std::string& activation, bool half_accumulator) {
    backward({x,
              gamma,
              beta,
              mean,
              inv_std,
              y,
              dy,
              pending_grad,
              dx,
              {},
              dgamma,
              dbeta,
              dr,
              db,
              Rectifier(activation),
              half_accumulator});
}

void batch_norm_of_cat_backward(const ArrayView& s, const ArrayView& gamma, const ArrayView& beta,
                                const ArrayView& mean, const ArrayView& inv_std, const ArrayView& dy,
                                const ArrayView& pending_grad, const ArrayView& dx, const ArrayView& djoined,
                                const ArrayView& dgamma, const ArrayView& dbeta, const std::string& activation) {
    backward({s,
              gamma,
              beta,
              mean,
              inv_std,
              {},
              dy,
              pending_grad,
              dx,
              djoined,
              dgamma,
              dbeta,
              {},
              {},
              Rectifier(activation),
              false});
}

}  // namespace fp16engine::gpu
