// Reductions of x (outer, terms, inner) over `terms`. What is summed by one task is fixed by the shape; its total goes
// straight to the store, or, when one output is shared by several tasks, to a buffer of partial totals that are
// combined in their order.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kGrain = 1 << 15;  // elements per task, about
constexpr int64_t kTile = 2048;      // outputs per task: their float totals fill 8 KiB

int64_t pieces(int64_t n, int64_t size) { return (n + size - 1) / size; }

// Tasks of one reduction: groups of whole outer rows or columns tiles by slices of terms.
struct Plan {
    int64_t outer, terms, inner;
    int64_t group = 1;      // outer indices per task
    int64_t tile, tiles;    // inner indices per task
    int64_t slice, slices;  // terms per task

    Plan(int64_t outer, int64_t terms, int64_t inner, int64_t step = 1) : outer(outer), terms(terms), inner(inner) {
        tile = std::max<int64_t>(1, std::min(inner, kTile));
        tiles = pieces(inner, tile);
        slice = inner == 1 ? 2 * kGrain : round_up(std::max<int64_t>(64, kGrain / tile), step);
        slices = std::max<int64_t>(1, pieces(terms, slice));
        if (slices == 1) slice = terms;
        if (slices == 1 && tiles == 1)
            group = std::min(std::max<int64_t>(1, kGrain / std::max<int64_t>(1, terms * inner)), kTile / tile);
    }

    struct Part {
        int64_t o, s, c;               // first outer index, slice, first column
        int64_t outers, count, width;  // how many outer indices, terms, columns
    };

    template <class Body>
    void for_parts(Body body) const {
        parallel_for(pieces(outer, group) * slices * tiles, [&](int64_t task, int) {
            const int64_t tile_index = task % tiles, s = task / tiles % slices, o = task / tiles / slices * group;
            const int64_t c = tile_index * tile;
            body(Part{o, s, c, std::min(group, outer - o), std::min(slice, terms - s * slice),
                      std::min(tile, inner - c)});
        });
    }

    int64_t at(const Part& p) const { return (p.o * terms + p.s * slice) * inner + p.c; }  // offset in x
};

// Stores totals in y: as they are, or divided by the number of terms.
template <class T>
struct Result {
    Reduction op;
    float count;
    T* y;

    // factor: what the totals must be multiplied by to be the sums
    void store(float* totals, int64_t n, int64_t offset, float factor = 1.0f) const {
        if (op == Reduction::mean)
            for (int64_t i = 0; i < n; i++) totals[i] = totals[i] * factor / count;
        from_floats(totals, y + offset, n);
    }
};

float identity(Reduction op) { return op == Reduction::max ? -std::numeric_limits<float>::infinity() : 0.0f; }

// totals of one part; its outer indices one after the other
template <class T>
void totals_of(Reduction op, const Plan& plan, const Plan::Part& p, const T* x, float* totals) {
    const auto& reduce = kernels().reduce(T{});
    const T* const first = x + plan.at(p);
    if (plan.inner == 1) return reduce.row_totals(op, first, p.outers, p.count, totals);
    std::fill(totals, totals + p.outers * p.width, identity(op));
    for (int64_t i = 0; i < p.outers; i++)
        reduce.column_totals(op, first + i * plan.terms * plan.inner, p.count, plan.inner, p.width,
                             totals + i * p.width);
}

template <class T>
void reduce_float(Reduction op, const Plan& plan, const T* x, const Result<T>& result) {
    if (plan.slices == 1) {
        plan.for_parts([&](const Plan::Part& p) {
            float totals[kTile];
            totals_of(op, plan, p, x, totals);
            result.store(totals, p.outers * p.width, p.o * plan.inner + p.c);
        });
        return;
    }
    const Scratch scratch(plan.outer * plan.slices * plan.inner);
    float* const partial = scratch.get();
    plan.for_parts([&](const Plan::Part& p) {
        totals_of(op, plan, p, x, partial + (p.o * plan.slices + p.s) * plan.inner + p.c);
    });
    parallel_for(plan.outer * plan.tiles, [&](int64_t task, int) {
        const int64_t o = task / plan.tiles, c = task % plan.tiles * plan.tile, n = std::min(plan.tile, plan.inner - c);
        float totals[kTile];
        std::fill(totals, totals + n, identity(op));
        kernels().reduce(float{}).column_totals(op, partial + o * plan.slices * plan.inner + c, plan.slices, plan.inner,
                                                n, totals);
        result.store(totals, n, o * plan.inner + c);
    });
}

// Block sums first, all tasks alike; then each output's block sums are combined.
void reduce_strict(int64_t outer, int64_t terms, int64_t inner, const half* x, const Result<half>& result) {
    const Plan plan(outer, terms, inner, kStrictBlock);
    const int64_t blocks = pieces(terms, kStrictBlock), levels = strict_levels(terms);
    const Scratch scratch(outer * blocks * inner);
    float* const sums = scratch.get();
    if (inner == 1) {
        parallel_slices(outer * blocks, kGrain / kStrictBlock, [&](int64_t begin, int64_t end) {
            kernels().strict.row_blocks(x, terms, begin, end, sums + begin);
        });
    } else {
        plan.for_parts([&](const Plan::Part& p) {
            for (int64_t o = p.o; o < p.o + p.outers; o++)
                kernels().strict.column_blocks(
                    x + (o * terms + p.s * plan.slice) * inner + p.c, p.count, inner, p.width,
                    sums + (o * blocks + p.s * plan.slice / kStrictBlock) * inner + p.c, inner);
        });
    }
    parallel_slices(outer * plan.tiles, std::max<int64_t>(1, kTile / (blocks + 1)), [&](int64_t begin, int64_t end) {
        const Scratch rows((levels + 1) * plan.tile);
        for (int64_t task = begin; task < end; task++) {
            const int64_t o = task / plan.tiles, c = task % plan.tiles * plan.tile, n = std::min(plan.tile, inner - c);
            StrictSum sum(rows.get() + plan.tile, n, result.op == Reduction::mean);
            for (int64_t b = 0; b < blocks; b++) sum.add(sums + (o * blocks + b) * inner + c);
            const float factor = sum.finish(rows.get());
            result.store(rows.get(), n, o * inner + c, factor);
        }
    });
}

Reduction reduction_named(const std::string& op) {
    if (op == "sum") return Reduction::sum;
    if (op == "mean") return Reduction::mean;
    if (op == "max") return Reduction::max;
    fail("op must be sum, mean or max, got '" + op + "'");
}

}  // namespace

void reduce(const std::string& op, const ArrayView& x, const ArrayView& y, int64_t outer, int64_t terms, int64_t inner,
            bool half_accumulator) {
    const Reduction code = reduction_named(op);
    expect(code != Reduction::max || terms > 0 || y.size() == 0,
           "x must have at least one element to take the maximum of, got " + x.describe());
    if (y.size() == 0) return;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const Result<T> result = {code, static_cast<float>(terms), y.as<T>()};
        if constexpr (std::is_same_v<T, half>) {
            if (half_accumulator && code != Reduction::max)
                return reduce_strict(outer, terms, inner, x.as<T>(), result);
        }
        reduce_float(code, Plan(outer, terms, inner), x.as<T>(), result);
    });
}

// Counts the elements equal to each maximum, then gives each its share of dy.
void max_backward(const ArrayView& x, const ArrayView& y, const ArrayView& dy, const ArrayView& dx, int64_t outer,
                  int64_t terms, int64_t inner) {
    if (x.size() == 0) return;
    const Plan plan(outer, terms, inner);
    const Scratch scratch(outer * inner * (plan.slices + 1));
    float* const share = scratch.get();
    float* const counts = share + outer * inner;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const auto& reduce = kernels().reduce(type);
        const T* const xs = x.as<T>();
        const T* const ys = y.as<T>();
        const auto each_outer = [&](auto body) {
            plan.for_parts([&](const Plan::Part& p) {
                for (int64_t o = p.o; o < p.o + p.outers; o++) body(p, o, plan.at(p) + (o - p.o) * terms * inner);
            });
        };
        each_outer([&](const Plan::Part& p, int64_t o, int64_t at) {
            float* const count = counts + (o * plan.slices + p.s) * inner + p.c;
            if (inner == 1) {
                *count = reduce.count_row_maxima(xs + at, p.count, ys[o]);
            } else {
                std::fill(count, count + p.width, 0.0f);
                reduce.count_maxima(xs + at, p.count, inner, p.width, ys + o * inner + p.c, count);
            }
        });
        for (int64_t o = 0; o < outer; o++) {
            for (int64_t s = 1; s < plan.slices; s++)
                kernels().sums.accumulate(counts + (o * plan.slices + s) * inner, counts + o * plan.slices * inner,
                                          inner);
            to_floats(dy.as<T>() + o * inner, share + o * inner, inner);
            for (int64_t c = 0; c < inner; c++) share[o * inner + c] /= counts[o * plan.slices * inner + c];
        }
        each_outer([&](const Plan::Part& p, int64_t o, int64_t at) {
            if (inner == 1)
                reduce.share_row_maxima(xs + at, p.count, ys[o], share[o], dx.as<T>() + at);
            else
                reduce.share_maxima(xs + at, p.count, inner, p.width, ys + o * inner + p.c, share + o * inner + p.c,
                                    dx.as<T>() + at);
        });
    });
}

}  // namespace fp16engine::cpu
