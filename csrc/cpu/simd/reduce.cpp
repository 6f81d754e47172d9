// Sums and maxima of a slice, along its rows or down its columns, and the gradient of the maximum. Every element is
// read once. Columns are walked row by row, four rows at a time, so that memory is read as it lies; the totals stay in
// the first-level cache.
#include "cpu/simd/columns.h"
#include "cpu/simd/math.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

struct Plus {
    static constexpr float kIdentity = 0;
    template <class V>
    static FP16_INLINE V of(V a, V b) {
        return a + b;
    }
};

// NaN wins; of two equal values, the older.
struct Larger {
    static constexpr float kIdentity = -kInfinity;
    static FP16_INLINE f32x16 of(f32x16 a, f32x16 b) { return select((b <= a) | (a != a), a, b); }
    template <class V>
    static FP16_INLINE V of(V a, V b) {
        return a == a ? (b <= a ? a : b) : a;
    }
};

template <class Op, class T>
FP16_INLINE float row_total(const T* x, int64_t n) {
    const f32x16 identity = Op::kIdentity;
    f32x16 acc[4] = {identity, identity, identity, identity};
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes)
        for (int k = 0; k < 4; k++) acc[k] = Op::of(acc[k], load(x + i + k * kLanes));
    for (; i + kLanes <= n; i += kLanes) acc[0] = Op::of(acc[0], load(x + i));
    if (i < n) {
        float tail[kLanes];
        store(tail, identity);
        for (int k = 0; i + k < n; k++) tail[k] = to_float(x[i + k]);
        acc[1] = Op::of(acc[1], load(tail));
    }
    return across(Op::of(Op::of(acc[0], acc[1]), Op::of(acc[2], acc[3])), [](auto a, auto b) { return Op::of(a, b); });
}

template <class T>
FP16_KERNEL void row_totals(cpu::Reduction op, const T* x, int64_t rows, int64_t n, float* totals) {
    for (int64_t r = 0; r < rows; r++)
        totals[r] = op == cpu::Reduction::max ? row_total<Larger>(x + r * n, n) : row_total<Plus>(x + r * n, n);
}

template <class Op, class T>
void wide_columns(const T* x, int64_t rows, int64_t stride, int64_t n, float* totals) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
        const T* const row = x + r * stride;
        for_column_blocks(n, [&](int64_t c, auto lanes) {
            const f32x16 first = Op::of(lanes.get(row + c), lanes.get(row + stride + c));
            const f32x16 second = Op::of(lanes.get(row + 2 * stride + c), lanes.get(row + 3 * stride + c));
            lanes.put(totals + c, Op::of(lanes.get(totals + c), Op::of(first, second)));
        });
    }
    for (; r < rows; r++) {
        const T* const row = x + r * stride;
        for_column_blocks(n, [&](int64_t c, auto lanes) {
            lanes.put(totals + c, Op::of(lanes.get(totals + c), lanes.get(row + c)));
        });
    }
}

// Few columns: sixteen rows are taken as one, whose totals are folded at the end.
constexpr int64_t kNarrow = 128, kFold = 16;

template <class Op, class T>
void columns_of(const T* x, int64_t rows, int64_t stride, int64_t n, float* totals) {
    if (n > kNarrow || stride != n || rows < 4 * kFold) return wide_columns<Op>(x, rows, stride, n, totals);
    float wide[kNarrow * kFold];
    for (int64_t i = 0; i < n * kFold; i++) wide[i] = Op::kIdentity;
    const int64_t full = rows / kFold;
    wide_columns<Op>(x, full, n * kFold, n * kFold, wide);
    wide_columns<Op>(x + full * kFold * n, 1, 0, (rows - full * kFold) * n, wide);
    wide_columns<Op>(wide, kFold, n, n, totals);
}

template <class T>
FP16_KERNEL void column_totals(cpu::Reduction op, const T* x, int64_t rows, int64_t stride, int64_t n, float* totals) {
    if (op == cpu::Reduction::max)
        columns_of<Larger>(x, rows, stride, n, totals);
    else
        columns_of<Plus>(x, rows, stride, n, totals);
}

// Where x holds the maximum y; NaN holds NaN.
FP16_INLINE i32x16 holds(f32x16 x, f32x16 y) { return (x == y) | ((x != x) & (y != y)); }
FP16_INLINE f32x16 ones(i32x16 mask) { return select(mask, 1.0f, f32x16{}); }

template <class T>
FP16_KERNEL void count_maxima(const T* x, int64_t rows, int64_t stride, int64_t n, const T* y, float* counts) {
    for (int64_t r = 0; r < rows; r++)
        for_column_blocks(n, [&](int64_t c, auto lanes) {
            lanes.put(counts + c, lanes.get(counts + c) + ones(holds(lanes.get(x + r * stride + c), lanes.get(y + c))));
        });
}

template <class T>
FP16_KERNEL void share_maxima(const T* x, int64_t rows, int64_t stride, int64_t n, const T* y, const float* share,
                              T* dx) {
    for (int64_t r = 0; r < rows; r++)
        for_column_blocks(n, [&](int64_t c, auto lanes) {
            const i32x16 here = holds(lanes.get(x + r * stride + c), lanes.get(y + c));
            lanes.put(dx + r * stride + c, select(here, lanes.get(share + c), f32x16{}));
        });
}

template <class T>
FP16_KERNEL float count_row_maxima(const T* x, int64_t n, T y) {
    const f32x16 maximum = to_float(y);
    f32x16 count = {};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) count += ones(holds(load(x + i), maximum));
    float total = lane_sum(count);
    for (; i < n; i++) total += ones(holds(to_float(x[i]), maximum))[0];
    return total;
}

template <class T>
FP16_KERNEL void share_row_maxima(const T* x, int64_t n, T y, float share, T* dx) {
    const f32x16 maximum = to_float(y), value = share;
    for_column_blocks(n, [&](int64_t i, auto lanes) {
        lanes.put(dx + i, select(holds(lanes.get(x + i), maximum), value, f32x16{}));
    });
}

// --- binary16 accumulators: the sums of blocks of 32 terms, each step fl16(sum + term) ------------------------------

constexpr int64_t kBlockTerms = 32;

// Blocks [first, last) of rows of n terms, counted through all rows; sixteen blocks at a time, one per lane.
// A missing term counts as 0: it changes no sum, for a sum that starts from +0 is never -0.
FP16_KERNEL void strict_row_blocks(const half* x, int64_t n, int64_t first, int64_t last, float* sums) {
    const int64_t per_row = (n + kBlockTerms - 1) / kBlockTerms;
    for (int64_t b = first; b < last; b += kLanes) {
        half terms[kBlockTerms][kLanes] = {};
        const int lanes = static_cast<int>(last - b < kLanes ? last - b : kLanes);
        for (int lane = 0; lane < lanes; lane++) {
            const int64_t begin = (b + lane) % per_row * kBlockTerms;
            const int64_t count = n - begin < kBlockTerms ? n - begin : kBlockTerms;
            const half* const block = x + (b + lane) / per_row * n + begin;
            for (int64_t t = 0; t < count; t++) terms[t][lane] = block[t];
        }
        f32x16 sum = {};
        for (const half(&term)[kLanes] : terms) sum = round_half(sum + load(term));
        store(sums + (b - first), sum, lanes);
    }
}

template <int kChains, class Lanes>
FP16_INLINE void column_blocks(const half* x, int64_t terms, int64_t stride, Lanes lanes, float* sums,
                               int64_t sums_stride) {
    f32x16 sum[kChains] = {};
    for (int64_t t = 0; t < terms; t++)
        for (int k = 0; k < kChains; k++) sum[k] = round_half(sum[k] + lanes.get(x + (k * kBlockTerms + t) * stride));
    for (int k = 0; k < kChains; k++) lanes.put(sums + k * sums_stride, sum[k]);
}

// Blocks down the columns; four blocks at a time hide the latency of the rounding.
FP16_KERNEL void strict_column_blocks(const half* x, int64_t rows, int64_t stride, int64_t n, float* sums,
                                      int64_t sums_stride) {
    for_column_blocks(n, [&](int64_t c, auto lanes) {
        int64_t r = 0;
        for (; r + 4 * kBlockTerms <= rows; r += 4 * kBlockTerms)
            column_blocks<4>(x + r * stride + c, kBlockTerms, stride, lanes, sums + r / kBlockTerms * sums_stride + c,
                             sums_stride);
        for (; r < rows; r += kBlockTerms)
            column_blocks<1>(x + r * stride + c, rows - r < kBlockTerms ? rows - r : kBlockTerms, stride, lanes,
                             sums + r / kBlockTerms * sums_stride + c, sums_stride);
    });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<ReduceKernels> reduce_kernels = {
    {row_totals<half>, column_totals<half>, count_maxima<half>, share_maxima<half>, count_row_maxima<half>,
     share_row_maxima<half>},
    {row_totals<float>, column_totals<float>, count_maxima<float>, share_maxima<float>, count_row_maxima<float>,
     share_row_maxima<float>},
    {row_totals<bfloat16>, column_totals<bfloat16>, count_maxima<bfloat16>, share_maxima<bfloat16>,
     count_row_maxima<bfloat16>, share_row_maxima<bfloat16>}};
const StrictKernels strict_kernels = {strict_row_blocks, strict_column_blocks};

}  // namespace fp16engine::cpu::FP16_ISA
