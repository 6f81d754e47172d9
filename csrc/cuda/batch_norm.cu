#include "cuda/batch_norm.h"

#include <algorithm>

#include "common/rectifier.h"
#include "cuda/cooperative.h"
#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

// mean, variance and scale (C,) with binary16 accumulators; `groups` has strict_floats.
void strict_moments(const ArrayView& x, const Rows& r, Ptr<float> groups, Ptr<float> mean, Ptr<float> variance,
                    Ptr<float> scale, Ptr<int64_t> updates) {
    const auto xs = pointer<const __half>(x);
    const int64_t rows = r.rows, C = r.C;
    const auto terms = static_cast<float>(rows);
    const Ptr<const float> no_mean{}, known_mean = mean, sums = groups, scales = scale;
    const unsigned blocks = grid_for(C * kWarpSize);
    FP16_LAUNCH((batch_norm_strict_largest_kernel<__half>), strict_grid(r), kBlock, xs, groups, updates, rows, C);
    FP16_LAUNCH(batch_norm_strict_scale_kernel, grid_for(C), kBlock, sums, scale, ceil_divide(rows, kStrictRows), C);
    FP16_LAUNCH((batch_norm_strict_moments_kernel<__half>), strict_grid(r), kBlock, xs, scales, no_mean, groups, rows,
                C);
    FP16_LAUNCH((strict_columns_kernel<true>), blocks, kBlock, sums, mean, int64_t{1}, rows, C, terms, true, scales, 1);
    FP16_LAUNCH((batch_norm_strict_moments_kernel<__half>), strict_grid(r), kBlock, xs, scales, known_mean, groups,
                rows, C);
    FP16_LAUNCH((strict_columns_kernel<true>), blocks, kBlock, sums, variance, int64_t{1}, rows, C, terms, false,
                scales, 2);
}

struct Forward {
    const ArrayView &x, &joined, &addend, &gamma, &beta, &running_mean, &running_var, &updates, &rest, &residual, &sum,
        &y, &mean, &inv_std;
    double momentum;
    float eps;
    Rectifier rectifier;
    bool half_accumulator;
};

// Calls body(std::integral_constant<Source, source>, std::bool_constant<residual>).
template <class Body>
void with_source(const Forward& given, Body body) {
    if (given.joined) return body(std::integral_constant<Source, Source::cat>{}, std::false_type{});
    with_flag(static_cast<bool>(given.residual), [&](auto residual) {
        if (given.addend)
            body(std::integral_constant<Source, Source::sum>{}, residual);
        else
            body(std::integral_constant<Source, Source::stored>{}, residual);
    });
}

template <class T, class S, int kWidth>
void forward(const Rows& r, const Forward& given) {
    const SideBySide<const T> xs{pointer<const T>(given.x), pointer<const T>(given.joined), given.x.dim(-1), r.C};
    const auto as = pointer<const T>(given.addend), rs = pointer<const T>(given.residual);
    const auto ys = pointer<T>(given.y), ss = pointer<T>(given.sum);
    const auto gs = pointer<const S>(given.gamma), bs = pointer<const S>(given.beta);
    const auto ms = pointer<S>(given.mean), ds = pointer<S>(given.inv_std);
    const auto count = pointer<int64_t>(given.updates);
    const RunningStatistics<S> running{pointer<S>(given.running_mean), pointer<S>(given.running_var),
                                       pointer<S>(given.rest), count, given.momentum};
    const ColumnTiles tiles = map_tiling(r, kWidth);
    ColumnTiles sums = sum_tiling(r, kWidth);
    const Workspace workspace(given.half_accumulator ? 3 * r.C + strict_floats(r) : 2 * sums.slices * r.C);
    const Ptr<float> first = workspace.get();
    BatchMoments moments{first, first + r.C, 1, 1, 1};  // one slice of weight one: they are what they are
    if (given.half_accumulator) {
        strict_moments(given.x, r, first + 3 * r.C, first, first + r.C, first + 2 * r.C, count);
        sums.slices = 0;
    } else {
        moments = {first, first + sums.slices * r.C, sums.slices, sums.slice, r.rows};
    }
    const Ptr<float> second = first + moments.count * r.C;
    const int64_t most = std::max(places(sums), places(tiles));
    const float eps = given.eps, floor = given.rectifier.floor, ceiling = given.rectifier.ceiling;
    with_source(given, [&](auto source, auto added) {
        constexpr Source kSource = decltype(source)::value;
        constexpr bool kResidual = decltype(added)::value;
        FP16_LAUNCH_COOPERATIVE((batch_norm_forward_kernel<T, S, kWidth, kSource, kResidual>), most, kColumnBlock, xs,
                                as, ss, gs, bs, running, rs, ys, ms, ds, first, second, moments, sums, tiles, eps,
                                floor, ceiling);
    });
}

void forward(const Forward& given) {
    const Rows r(given.y);
    const bool wide =
        by_vectors(r.C, {&given.x, &given.addend, &given.sum, &given.residual, &given.y, &given.gamma, &given.beta}) &&
        (!given.joined || by_vectors(given.x.dim(-1), {&given.joined}));
    with_norm_types(given.x, given.gamma, [&](auto type, auto statistics_type) {
        with_width<decltype(type)>(wide, [&](auto width) {
            forward<decltype(type), decltype(statistics_type), decltype(width)::value>(r, given);
        });
    });
}

}  // namespace

void batch_norm_forward(const ArrayView& x, const ArrayView& addend, const ArrayView& gamma, const ArrayView& beta,
                        const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& updates,
                        const ArrayView& rest, const ArrayView& residual, const ArrayView& sum, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double momentum, double eps,
                        const std::string& activation, bool half_accumulator) {
    if (addend && half_accumulator) {  // the documented order starts from what is stored
        binary("add", x, addend, sum);
        return batch_norm_forward(sum, {}, gamma, beta, running_mean, running_var, updates, rest, residual, {}, y, mean,
                                  inv_std, momentum, eps, activation, half_accumulator);
    }
    forward({x,
             {},
             addend,
             gamma,
             beta,
             running_mean,
             running_var,
             updates,
             rest,
             residual,
             sum,
             y,
             mean,
             inv_std,
             momentum,
             static_cast<float>(eps),
             Rectifier(activation),
             half_accumulator});
}

void batch_norm_of_cat_forward(const ArrayView& x, const ArrayView& joined, const ArrayView& gamma,
                               const ArrayView& beta, const ArrayView& running_mean, const ArrayView& running_var,
                               const ArrayView& updates, const ArrayView& rest, const ArrayView& s, const ArrayView& y,
                               const ArrayView& mean, const ArrayView& inv_std, double momentum, double eps,
                               const std::string& activation) {
    forward({x,
             joined,
             {},
             gamma,
             beta,
             running_mean,
             running_var,
             updates,
             rest,
             {},
             s,
             y,
             mean,
             inv_std,
             momentum,
             static_cast<float>(eps),
             Rectifier(activation),
             false});
}

void batch_norm_inference(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta,
                          const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& residual,
                          const ArrayView& y, double eps, const std::string& activation, bool deviation) {
    const Rows r(x);
    if (x.size() == 0) return;
    const Rectifier rectifier(activation);
    const auto epsilon = static_cast<float>(eps);
    const float floor = rectifier.floor, ceiling = rectifier.ceiling;
    with_norm_types(x, gamma, [&](auto type, auto statistics_type) {
        with_width<decltype(type)>(
            by_vectors(r.C, {&x, &residual, &y, &gamma, &beta, &running_mean, &running_var}), [&](auto width) {
                using T = decltype(type);
                using S = decltype(statistics_type);
                constexpr int kWidth = decltype(width)::value;
                const auto xs = pointer<const T>(x), rs = pointer<const T>(residual);
                const auto ys = pointer<T>(y);
                const auto gs = pointer<const S>(gamma), bs = pointer<const S>(beta);
                const auto ms = pointer<const S>(running_mean), vs = pointer<const S>(running_var);
                const ColumnTiles tiles = map_tiling(r, kWidth);
                with_flag(static_cast<bool>(residual), [&](auto added) {
                    constexpr bool kResidual = decltype(added)::value;
                    FP16_LAUNCH((batch_norm_inference_kernel<T, S, kWidth, kResidual>), grid_of(places(tiles)),
                                kColumnBlock, xs, gs, bs, ms, vs, rs, ys, tiles, deviation, epsilon, floor, ceiling);
                });
            });
    });
}

}  // namespace fp16engine::gpu
