#include "kernels/reduce.cuh"

#include <algorithm>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/ops.h"
#include "kernels/strict_reduce.cuh"

namespace fp16engine::gpu {
namespace {

// ---- launch geometry ------------------------------------------------------------------------------------------------

// Constants, not the number of multiprocessors, so that sums have the same bits on every device.
constexpr int64_t kBlocks = 1024;  // about as many as an H200 holds at once: slices are made until there are so many
constexpr int64_t kSteps = 4;      // rows of a thread in the shortest slice: all of them are on their way at once
constexpr int kLanes = 32;         // vectors side by side: 512 bytes
constexpr int kMergeLanes = 8;     // when slices are merged, their number is what hides latency

int bits_for(int64_t n) {
    int bits = 0;
    while ((int64_t{1} << bits) < n) bits++;
    return bits;
}

struct Plan {
    Tiling tiling{};
    bool vectors = false, fold = false;

    unsigned grid() const {
        const int64_t blocks = ceil_divide(tiling.outer, tiling.outers()) * tiling.slices * tiling.tiles;
        expect(blocks < int64_t{1} << 31, "x must need fewer than 2^31 blocks, got " + std::to_string(blocks));
        return static_cast<unsigned>(blocks);
    }
};

// width: elements of a vector; merging: the terms are slices, of which there is to be one only
Plan make_plan(int64_t outer, int64_t terms, int64_t inner, int width, bool is_aligned, bool merging) {
    Plan plan;
    plan.fold = is_aligned && inner == 1 && terms >= width && (terms % width == 0 || outer == 1);
    plan.vectors = plan.fold || (is_aligned && inner > 1 && inner % width == 0);
    Tiling& t = plan.tiling;
    t.outer = outer;
    t.terms = plan.fold ? terms / width : terms;
    t.tail = plan.fold ? terms % width : 0;
    t.inner = plan.fold ? width : inner;
    const int64_t columns = t.inner / (plan.vectors ? width : 1);
    const int block_bits = bits_for(kBlock), term_bits = std::min(block_bits, bits_for(t.terms));
    t.lane_bits =
        std::min(bits_for(columns), std::max(bits_for(merging ? kMergeLanes : kLanes), block_bits - term_bits));
    t.row_bits = std::min(block_bits - t.lane_bits, term_bits);
    t.tiles = static_cast<unsigned>(ceil_divide(columns, t.lanes()));
    const int64_t step = kSteps * t.rows(), others = ceil_divide(outer, t.outers()) * t.tiles;
    const int64_t slices = merging ? 1 : std::max<int64_t>(1, std::min(ceil_divide(t.terms, step), kBlocks / others));
    t.slice = std::max<int64_t>(1, ceil_divide(t.terms, slices * step)) * step;
    t.slices = static_cast<unsigned>(std::max<int64_t>(1, ceil_divide(t.terms, t.slice)));
    return plan;
}

// body(std::integral_constant<int, width>, std::bool_constant<fold>)
template <class T, class Body>
void with_width(const Plan& plan, Body body) {
    if (plan.fold)
        body(std::integral_constant<int, Vec<T>::N>(), std::true_type());
    else if (plan.vectors)
        body(std::integral_constant<int, Vec<T>::N>(), std::false_type());
    else
        body(std::integral_constant<int, 1>(), std::false_type());
}

template <class Op, class T, class Store>
void launch_reduce(const Plan& plan, Ptr<const T> x, const Store& store) {
    with_width<T>(plan, [&](auto width, auto fold) {
        constexpr int kWidth = decltype(width)::value;
        constexpr bool kFold = decltype(fold)::value;
        const Tiling tiling = plan.tiling;
        FP16_LAUNCH((reduce_kernel<Op, T, kWidth, kFold, Store>), plan.grid(), kBlock, x, tiling, store);
    });
}

// Merges the totals of slices (outer, slices, inner); partial sums start on a vector's boundary.
template <class Op, class Store>
void merge_slices(Ptr<const float> partial, int64_t outer, int64_t slices, int64_t inner, const Store& store) {
    launch_reduce<Op, float>(make_plan(outer, slices, inner, Vec<float>::N, true, true), partial, store);
}

template <class Op, class T>
void reduce_float(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t terms, int64_t inner, float divisor) {
    const Plan plan = make_plan(outer, terms, inner, Vec<T>::N, aligned(x), false);
    const int64_t slices = plan.tiling.slices;
    Quotient<T> result = {pointer<T>(y), {}, divisor, slices, inner};
    if (slices == 1) return launch_reduce<Op, T>(plan, pointer<const T>(x), result);
    const Workspace workspace(outer * slices * inner);
    result.partial = workspace.get();
    launch_reduce<Op, T>(plan, pointer<const T>(x), result);
    result.partial = {};
    merge_slices<Op>(workspace.get(), outer, slices, inner, result);
}

// The first kernel sums blocks of 32 terms and merges groups of them, the next ones merge on until one sum is left.
void reduce_strict(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t terms, int64_t inner, bool mean) {
    const bool rows = inner == 1,
               vectors = aligned(x) && (rows ? terms % Vec<__half>::N == 0 || outer == 1 : inner % Vec<__half>::N == 0);
    const int width = !rows && vectors ? Vec<__half>::N : 1;
    const int64_t blocks = ceil_divide(terms, kStrictBlock);

    std::vector<StrictMerge> merges;
    int64_t count = blocks;
    for (int level = 0; merges.empty() || !merges.back().last;) {
        const bool first = merges.empty();
        const int capacity = first ? kBlock * width : kStrictSums;  // sums of a block of threads
        StrictMerge m{};
        m.outer = outer, m.count = count, m.inner = inner;
        // Many sums: columns enough for whole lines of memory; few: more columns and outer indices.
        const int64_t most = std::max<int64_t>(16 * width, capacity >> std::min(16, bits_for(count)));
        m.columns = 1 << std::min(bits_for(inner), bits_for(std::min<int64_t>(most, capacity)));
        m.columns = std::max(m.columns, width);
        m.group = 1 << std::min(bits_for(capacity / m.columns), bits_for(count));
        m.outers = capacity / m.columns / m.group;
        m.groups = ceil_divide(count, m.group);
        m.tiles = ceil_divide(inner, m.columns);
        m.half = mean ? 0.5f : 1.0f;
        m.last = m.groups == 1;
        // The rest, if any, has the level of the highest bit of the blocks that are in no complete group so far.
        const int64_t rest = blocks & ((int64_t{1} << level) - 1);
        m.has_rest = rest != 0;
        m.rest_weight = 1.0f;
        for (int bit = bits_for(rest + 1) - 1; bit < level; bit++) m.rest_weight *= m.half;
        m.factor = 1.0f;
        for (int bit = 0; mean && blocks >> (bit + 1); bit++) m.factor *= 2.0f;
        m.divisor = mean ? static_cast<float>(terms) : 1.0f;
        merges.push_back(m);
        count /= m.group;
        level += bits_for(m.group);
    }

    const int64_t rest_size = outer * inner;
    int64_t floats = rest_size;
    for (const StrictMerge& m : merges) floats += m.last ? 0 : outer * (m.count / m.group) * inner;
    const Workspace workspace(floats);
    const Ptr<float> rest = workspace.get();
    const auto xs = pointer<const __half>(x);
    const auto ys = pointer<__half>(y);
    Ptr<float> in, out = workspace.get() + rest_size;
    for (const StrictMerge& m : merges) {
        const unsigned launch_grid = grid_of(ceil_divide(outer, m.outers) * m.groups * m.tiles);
        if (&m != &merges.front())
            FP16_LAUNCH(strict_reduce_merge_kernel, launch_grid, kBlock, in, m, out, rest, ys);
        else if (rows)
            FP16_LAUNCH(strict_reduce_rows_kernel, launch_grid, kBlock, xs, terms, vectors, m, out, rest, ys);
        else if (width > 1)
            FP16_LAUNCH((strict_reduce_columns_kernel<Vec<__half>::N>), launch_grid, kBlock, xs, terms, m, out, rest,
                        ys);
        else
            FP16_LAUNCH((strict_reduce_columns_kernel<1>), launch_grid, kBlock, xs, terms, m, out, rest, ys);
        in = out;
        out = out + outer * (m.count / m.group) * inner;
    }
}

}  // namespace

void reduce(const std::string& op, const ArrayView& x, const ArrayView& y, int64_t outer, int64_t terms, int64_t inner,
            bool half_accumulator) {
    const bool mean = op == "mean", max = op == "max";
    expect(mean || max || op == "sum", "op must be sum, mean or max, got '" + op + "'");
    expect(!max || terms > 0 || y.size() == 0,
           "x must have at least one element to take the maximum of, got " + x.describe());
    if (y.size() == 0) return;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (max) return reduce_float<Larger, T>(x, y, outer, terms, inner, 1.0f);
        if (half_accumulator && terms > 0 && x.dtype == DType::float16)
            return reduce_strict(x, y, outer, terms, inner, mean);
        reduce_float<Plus, T>(x, y, outer, terms, inner, mean ? static_cast<float>(terms) : 1.0f);
    });
}

// Counts the elements equal to each maximum, then gives each its share of dy.
void max_backward(const ArrayView& x, const ArrayView& y, const ArrayView& dy, const ArrayView& dx, int64_t outer,
                  int64_t terms, int64_t inner) {
    if (x.size() == 0) return;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const Plan plan = make_plan(outer, terms, inner, Vec<T>::N, aligned(x) && aligned(dx), false);
        const int64_t slices = plan.tiling.slices, shares = ceil_divide(outer * inner, Vec<float>::N) * Vec<float>::N;
        const Workspace workspace(shares + (slices > 1 ? outer * slices * inner : 0));
        const Ptr<float> share = workspace.get(), partial = share + shares;
        Share<T> store = {pointer<const T>(dy), share, {}, slices, inner};
        if (slices > 1) store.partial = partial;
        const auto xs = pointer<const T>(x);
        const auto ys = pointer<const T>(y);
        const auto dxs = pointer<T>(dx);
        const Tiling tiling = plan.tiling;
        with_width<T>(plan, [&](auto width, auto fold) {
            constexpr int kWidth = decltype(width)::value;
            constexpr bool kFold = decltype(fold)::value;
            FP16_LAUNCH((count_maxima_kernel<T, kWidth, kFold>), plan.grid(), kBlock, xs, ys, tiling, store);
            if (slices > 1) {
                Share<T> merged = store;
                merged.partial = {};
                merge_slices<Plus>(partial, outer, slices, inner, merged);
            }
            FP16_LAUNCH((share_maxima_kernel<T, kWidth, kFold>), plan.grid(), kBlock, xs, ys, share, dxs, tiling);
        });
    });
}

}  // namespace fp16engine::gpu
