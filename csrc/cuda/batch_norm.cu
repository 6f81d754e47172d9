#include "kernels/batch_norm.cuh"

#include <algorithm>
#include <limits>

#include "cuda/launch.h"
#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

constexpr int64_t kSumBlocks = 256;  // blocks that sum, over all tiles of columns
constexpr int64_t kMaxSlices = 128;  // partial sums of a column, which every later block reads again

struct Rows {
    int64_t rows, C;
    explicit Rows(const ArrayView& x) : rows(x.dim(-1) ? x.size() / x.dim(-1) : 0), C(x.dim(-1)) {}
};

struct Tiling {
    ColumnTiles tiles;
    int64_t columns, slices;  // the grid
    Dim3 grid() const { return Dim3(static_cast<unsigned>(columns), static_cast<unsigned>(slices)); }
};

// Tiles of columns of even size, and about `blocks` blocks in all; a thread of a slice gets `least` rows.
Tiling tiling(const Rows& r, int width, int64_t blocks, int64_t most_slices, int64_t least) {
    const int64_t groups = ceil_divide(r.C, width), columns = ceil_divide(groups, kTileColumns / width),
                  lanes = ceil_divide(groups, columns);
    const int64_t target = std::min(most_slices, std::max<int64_t>(1, blocks / columns));
    const int64_t slice = std::max(ceil_divide(r.rows, target), least * (kColumnBlock / lanes));
    return {{r.rows, r.C, slice, static_cast<int>(lanes)}, columns, ceil_divide(r.rows, slice)};
}

Tiling sum_tiling(const Rows& r, int width) { return tiling(r, width, kSumBlocks, kMaxSlices, kMomentRows); }

Tiling map_tiling(const Rows& r, int width) {
    constexpr int64_t kMaxBlocks = 65535;  // of a grid's y
    Tiling t = tiling(r, width, 2 * multiprocessors(), kMaxBlocks, kBatch);
    t.slices = std::max<int64_t>(t.slices, 1);  // one block writes the statistics even if there are no rows
    return t;
}

// As map_tiling, but with the same slices on every device: their sums are joined.
Tiling joined_tiling(const Rows& r, int width) {
    Tiling t = tiling(r, width, kSumBlocks, kSumBlocks, kBatch);
    t.slices = std::max<int64_t>(t.slices, 1);
    return t;
}

float relu_floor(bool relu) { return relu ? 0.0f : -std::numeric_limits<float>::infinity(); }

unsigned strict_grid(const Rows& r) { return grid_of(strict_column_blocks(r.rows, r.C)); }

int64_t strict_floats(const Rows& r) { return ceil_divide(r.rows, kStrictRows) * r.C; }

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

}  // namespace

void batch_norm_forward(const ArrayView& x, const ArrayView& addend, const ArrayView& gamma, const ArrayView& beta,
                        const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& updates,
                        const ArrayView& rest, const ArrayView& residual, const ArrayView& sum, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double momentum, double eps, bool relu,
                        bool half_accumulator) {
    if (addend && half_accumulator) {  // the documented order starts from what is stored
        binary("add", x, addend, sum);
        return batch_norm_forward(sum, {}, gamma, beta, running_mean, running_var, updates, rest, residual, {}, y, mean,
                                  inv_std, momentum, eps, relu, half_accumulator);
    }
    const Rows r(x);
    const auto epsilon = static_cast<float>(eps), floor = relu_floor(relu);
    with_storage("x", x.dtype, [&](auto type) {
        with_storage("gamma", gamma.dtype, [&](auto statistics_type) {
            const bool wide = by_vectors(r.C, {&x, &addend, &sum, &residual, &y, &gamma, &beta});
            with_width<decltype(type)>(wide, [&](auto width) {
                using T = decltype(type);
                using S = decltype(statistics_type);
                constexpr int kWidth = decltype(width)::value;
                const auto xs = pointer<const T>(x), as = pointer<const T>(addend), rs = pointer<const T>(residual);
                const auto ys = pointer<T>(y), ss = pointer<T>(sum);
                const auto gs = pointer<const S>(gamma), bs = pointer<const S>(beta);
                const auto ms = pointer<S>(mean), ds = pointer<S>(inv_std);
                const auto count = pointer<int64_t>(updates);
                const RunningStatistics<S> running{pointer<S>(running_mean), pointer<S>(running_var), pointer<S>(rest),
                                                   count, momentum};
                const Tiling sums = sum_tiling(r, kWidth), map = map_tiling(r, kWidth);
                const Workspace workspace(half_accumulator ? 3 * r.C + strict_floats(r) : 2 * sums.slices * r.C);
                const Ptr<float> first = workspace.get();
                BatchMoments moments{first, first + r.C, 1, 1, 1};  // one slice of weight one: they are what they are
                if (half_accumulator) {
                    strict_moments(x, r, first + 3 * r.C, first, first + r.C, first + 2 * r.C, count);
                } else {
                    const Ptr<float> second = first + sums.slices * r.C;
                    const ColumnTiles tiles = sums.tiles;
                    moments = {first, second, sums.slices, tiles.slice, r.rows};
                    with_flag(static_cast<bool>(addend), [&](auto summed) {
                        constexpr bool kSummed = decltype(summed)::value;
                        FP16_LAUNCH((batch_norm_moments_kernel<T, kWidth, kSummed>), sums.grid(), kColumnBlock, xs, as,
                                    ss, first, second, count, tiles);
                    });
                }
                const ColumnTiles tiles = map.tiles;
                const Ptr<const T> normalised = addend ? Ptr<const T>(ss) : xs;
                with_flag(static_cast<bool>(residual), [&](auto added) {
                    constexpr bool kResidual = decltype(added)::value;
                    FP16_LAUNCH((batch_norm_forward_kernel<T, S, kWidth, kResidual>), map.grid(), kColumnBlock,
                                normalised, gs, bs, running, rs, ys, ms, ds, moments, tiles, epsilon, floor);
                });
            });
        });
    });
}

void batch_norm_inference(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta,
                          const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& residual,
                          const ArrayView& y, double eps, bool relu, bool deviation) {
    const Rows r(x);
    if (x.size() == 0) return;
    const auto epsilon = static_cast<float>(eps), floor = relu_floor(relu);
    with_storage("x", x.dtype, [&](auto type) {
        with_storage("gamma", gamma.dtype, [&](auto statistics_type) {
            with_width<decltype(type)>(
                by_vectors(r.C, {&x, &residual, &y, &gamma, &beta, &running_mean, &running_var}), [&](auto width) {
                    using T = decltype(type);
                    using S = decltype(statistics_type);
                    constexpr int kWidth = decltype(width)::value;
                    const auto xs = pointer<const T>(x), rs = pointer<const T>(residual);
                    const auto ys = pointer<T>(y);
                    const auto gs = pointer<const S>(gamma), bs = pointer<const S>(beta);
                    const auto ms = pointer<const S>(running_mean), vs = pointer<const S>(running_var);
                    const Tiling map = map_tiling(r, kWidth);
                    const ColumnTiles tiles = map.tiles;
                    with_flag(static_cast<bool>(residual), [&](auto added) {
                        constexpr bool kResidual = decltype(added)::value;
                        FP16_LAUNCH((batch_norm_inference_kernel<T, S, kWidth, kResidual>), map.grid(), kColumnBlock,
                                    xs, gs, bs, ms, vs, rs, ys, tiles, deviation, epsilon, floor);
                    });
                });
        });
    });
}

namespace {

struct Gradients {
    const ArrayView &x, &gamma, &beta, &mean, &inv_std, &y, &dy, &pending_grad, &dx, &dgamma, &dbeta, &dr, &db;
    bool half_accumulator;
};

// Calls body(std::integral_constant<Mask, mask>).
template <class Body>
void with_mask(bool stored, bool relu, Body body) {
    if (stored)
        body(std::integral_constant<Mask, Mask::stored>{});
    else if (relu)
        body(std::integral_constant<Mask, Mask::recomputed>{});
    else
        body(std::integral_constant<Mask, Mask::none>{});
}

template <class T, class S, int kWidth, Mask kMask>
void backward(const Rows& r, const Gradients& given) {
    const auto xs = pointer<const T>(given.x), ys = pointer<const T>(given.y), dys = pointer<const T>(given.dy),
               ws = pointer<const T>(given.pending_grad);
    const auto dxs = pointer<T>(given.dx), drs = pointer<T>(given.dr);
    const auto gs = pointer<const S>(given.gamma), bs = pointer<const S>(given.beta), ms = pointer<const S>(given.mean),
               ds = pointer<const S>(given.inv_std);
    const auto dgs = pointer<S>(given.dgamma), dbs = pointer<S>(given.dbeta);
    const bool half = given.half_accumulator, joined = given.db && !half && r.rows > 0;
    const Tiling sums = sum_tiling(r, kWidth), map = joined ? joined_tiling(r, kWidth) : map_tiling(r, kWidth);
    const int64_t found = half ? 2 * r.C + 2 * strict_floats(r) : 2 * sums.slices * r.C,
                  partial = joined ? map.slices * r.C : 0;
    const Workspace workspace(found + partial + map.columns);
    const Ptr<float> first = workspace.get();
    GradientSums<T> together{};
    if (joined) together = {first + found, workspace.integers(found + partial, map.columns), pointer<T>(given.db)};
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
                        masks, gradients, masked, groups, rows, C);
        FP16_LAUNCH((strict_columns_kernel<false>), grid_for(2 * C * kWarpSize), kBlock, group_sums, first, int64_t{2},
                    rows, C, 1.0f, false, Ptr<const float>(), 0);
        count = 1;
    } else if (count > 0) {
        const Ptr<float> second = first + count * r.C;
        const Ptr<int> arrived = together.arrived;
        const ColumnTiles tiles = sums.tiles;
        FP16_LAUNCH((batch_norm_gradient_sums_kernel<T, S, kWidth, kMask>), sums.grid(), kColumnBlock, xs, gs, bs, ms,
                    ds, ys, dys, drs, first, second, arrived, tiles);
    }
    const Ptr<const float> shifts = first, slopes = first + count * r.C;
    const Ptr<const T> masked = kMask == Mask::stored ? Ptr<const T>(drs) : dys;
    const ColumnTiles tiles = map.tiles;
    with_flag(static_cast<bool>(given.pending_grad), [&](auto pending_grad) {
        with_flag(joined, [&](auto summed) {
            constexpr bool kRelu = kMask == Mask::recomputed, kAddsPending = decltype(pending_grad)::value,
                           kSums = decltype(summed)::value;
            FP16_LAUNCH((batch_norm_backward_kernel<T, S, kWidth, kRelu, kAddsPending, kSums>), map.grid(),
                        kColumnBlock, xs, gs, bs, ms, ds, masked, ws, dxs, dgs, dbs, shifts, slopes, count, together,
                        tiles);
        });
    });
    if (given.db && !joined) reduce("sum", given.dx, given.db, 1, r.rows, r.C, half);
}

}  // namespace

void batch_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& mean,
                         const ArrayView& inv_std, const ArrayView& y, const ArrayView& dy,
                         const ArrayView& pending_grad, const ArrayView& dx, const ArrayView& dgamma,
                         const ArrayView& dbeta, const ArrayView& dr, const ArrayView& db, bool relu,
                         bool half_accumulator) {
    const Rows r(x);
    if (r.C == 0) return;
    const bool wide = by_vectors(r.C, {&x, &y, &dy, &pending_grad, &dx, &dr, &gamma, &beta, &mean, &inv_std});
    const Gradients given{x,      gamma, beta, mean, inv_std,         y, dy, pending_grad, dx,
                          dgamma, dbeta, dr,   db,   half_accumulator};
    with_storage("x", x.dtype, [&](auto type) {
        with_storage("gamma", gamma.dtype, [&](auto statistics_type) {
            with_mask(static_cast<bool>(y), relu, [&](auto mask) {
                with_width<decltype(type)>(wide, [&](auto width) {
                    backward<decltype(type), decltype(statistics_type), decltype(width)::value, decltype(mask)::value>(
                        r, given);
                });
            });
        });
    });
}

}  // namespace fp16engine::gpu
