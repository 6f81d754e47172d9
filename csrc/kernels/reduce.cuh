// Sums and maxima of x (outer, terms, inner) over `terms`, and the gradient of the maximum.
//   y[o, c] = fl(sum_t x[o, t, c] / divisor), or the largest x[o, t, c], NaN if there is one
//   dx[o, t, c] = fl(dy[o, c] / n) at the n indices where x[o, t, c] is the maximum y[o, c], else 0
// Accumulators are float: a thread takes every so-many-th row of its slice, then the warp's rows are added in pairs and
// the warps in their order. A slice depends on the shape alone, so the same input gives the same bits on every device.
// Bytes per element of x: sizeof(T) read once; the gradient reads twice and writes once. Slices leave 4 bytes for each
// of their columns, a sixteenth of what was read at the most and the less the more there is to reduce.
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

struct Plus {
    static constexpr float kIdentity = 0.0f;
    static __device__ __forceinline__ float of(float a, float b) { return __fadd_rn(a, b); }
};

struct Larger {
    static constexpr float kIdentity = -__builtin_huge_valf();
    static __device__ __forceinline__ float of(float a, float b) { return a != a || b <= a ? a : b; }
};

// How a block of threads lies over x: `lanes` columns side by side (of one vector each), `rows` terms and, where these
// are few, several outer indices; all powers of two. A row is one vector of every lane. Where inner is 1, the terms of
// an outer index are read as rows of one lane, a vector of terms each, whose elements are combined in the end (kFold).
struct Tiling {
    int64_t outer, terms, inner;  // terms: rows of an outer index; inner: elements of a row
    int64_t slice;                // rows of one block
    int64_t tail;                 // terms left over behind the last row, of the only outer index
    unsigned slices, tiles;       // slices of the rows, tiles of the columns
    int lane_bits, row_bits;      // log2 of lanes and rows

    __host__ __device__ __forceinline__ int lanes() const { return 1 << lane_bits; }
    __host__ __device__ __forceinline__ int rows() const { return 1 << row_bits; }
    __host__ __device__ __forceinline__ int outers() const { return kBlock >> (lane_bits + row_bits); }
};

// The part of x that one thread reads: rows first, first + rows, ... below last, columns c, c + 1, ... of one vector.
struct ThreadPart {
    int lane, row, layer;
    int64_t base, slice, tile;  // first outer index, slice and first column of the block
    int64_t o, c, first, last;

    __device__ __forceinline__ ThreadPart(const Tiling& t, int width) {
        const int i = static_cast<int>(threadIdx.x);
        lane = i & (t.lanes() - 1);
        row = i >> t.lane_bits & (t.rows() - 1);
        layer = i >> (t.lane_bits + t.row_bits);
        const unsigned block = blockIdx.x, part = block / t.tiles, group = part / t.slices;
        tile = static_cast<int64_t>(block - part * t.tiles) * t.lanes() * width;
        slice = part - group * t.slices;
        base = static_cast<int64_t>(group) * t.outers();
        o = base + layer;
        c = tile + lane * width;
        first = slice * t.slice + row;
        last = (slice + 1) * t.slice < t.terms ? (slice + 1) * t.slice : t.terms;
    }

    __device__ __forceinline__ bool inside(const Tiling& t) const { return o < t.outer && c < t.inner; }
    __device__ __forceinline__ bool takes_tail(const Tiling& t) const {
        return t.tail && row == 0 && slice + 1 == t.slices;
    }
};

// Combines the totals of a block's rows; store(o, slice, c, total) is called once for each of its columns.
template <class Op, int kWidth, bool kFold, class Store>
__device__ __forceinline__ void combine_rows(float (&total)[kWidth], Shared<float, kBlock*(kFold ? 1 : kWidth)>& part,
                                             const Tiling& t, const ThreadPart& p, const Store& store) {
    constexpr int kOut = kFold ? 1 : kWidth;
    if constexpr (kFold) {
        FP16_UNROLL
        for (int step = kWidth / 2; step; step /= 2) {
            FP16_UNROLL
            for (int k = 0; k < step; k++) total[k] = Op::of(total[k], total[k + step]);
        }
    }
    const int span = t.lanes() * t.rows();
    for (int bits = t.lanes(); bits < kWarpSize && bits < span; bits *= 2) {
        FP16_UNROLL
        for (int k = 0; k < kOut; k++) total[k] = Op::of(total[k], __shfl_xor_sync(kFullWarp, total[k], bits));
    }
    const int warp_rows = t.lanes() >= kWarpSize ? 1 : (span < kWarpSize ? span : kWarpSize) >> t.lane_bits;
    const int left = t.rows() / warp_rows, columns = t.lanes() * kOut;
    if (left == 1) {
        if (p.row == 0 && p.inside(t)) {
            FP16_UNROLL
            for (int k = 0; k < kOut; k++) store(p.o, p.slice, p.c + k, total[k]);
        }
        return;
    }
    if (p.row % warp_rows == 0) {
        FP16_UNROLL
        for (int k = 0; k < kOut; k++)
            part[(p.layer * left + p.row / warp_rows) * columns + p.lane * kOut + k] = total[k];
    }
    __syncthreads();
    const int64_t inner = kFold ? 1 : t.inner;
    for (int i = static_cast<int>(threadIdx.x); i < t.outers() * columns; i += kBlock) {
        const int layer = i / columns, column = i % columns;
        float sum = part[layer * left * columns + column];
        for (int r = 1; r < left; r++) sum = Op::of(sum, part[(layer * left + r) * columns + column]);
        if (p.base + layer < t.outer && p.tile + column < inner) store(p.base + layer, p.slice, p.tile + column, sum);
    }
}

// Where totals go: to y (outer, inner) divided by a number, or, one slice of several, to partial (outer, slices,
// inner).
template <class T>
struct Quotient {
    Ptr<T> y;
    Ptr<float> partial;
    float divisor;
    int64_t slices, inner;
    __device__ __forceinline__ void operator()(int64_t o, int64_t slice, int64_t c, float total) const {
        if (partial)
            partial[(o * slices + slice) * inner + c] = total;
        else
            put(y[o * inner + c], __fdiv_rn(total, divisor));
    }
};

// The total counts maxima: each gets its share of dy (outer, inner).
template <class T>
struct Share {
    Ptr<const T> dy;
    Ptr<float> share, partial;
    int64_t slices, inner;
    __device__ __forceinline__ void operator()(int64_t o, int64_t slice, int64_t c, float total) const {
        if (partial)
            partial[(o * slices + slice) * inner + c] = total;
        else
            share[o * inner + c] = __fdiv_rn(as_float(dy[o * inner + c]), total);
    }
};

// NaN holds NaN.
__device__ __forceinline__ bool holds(float x, float y) { return x == y || (x != x && y != y); }

// What belongs to each column of a thread; folded, all its elements are terms of one output.
template <class T, int kWidth, bool kFold>
__device__ __forceinline__ void load_columns(Ptr<const T> y, const Tiling& t, const ThreadPart& p,
                                             float (&value)[kWidth]) {
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) value[k] = as_float(kFold ? y[p.o] : y[p.o * t.inner + p.c + k]);
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// x (outer, terms, inner) as the tiling says
template <class Op, class T, int kWidth, bool kFold, class Store>
__global__ void __launch_bounds__(kBlock) reduce_kernel(Ptr<const T> x, Tiling t, Store store) {
    __shared__ Shared<float, kBlock*(kFold ? 1 : kWidth)> part;
    const ThreadPart p(t, kWidth);
    float total[kWidth];
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) total[k] = Op::kIdentity;
    if (p.inside(t)) {
        const Ptr<const T> column = x + (p.o * t.terms * t.inner + p.c);
        for_pieces<4>(
            p.first, p.last, t.rows(), [&](int64_t r) { return load_vector<T, kWidth>(column + r * t.inner); },
            [&](int64_t, const Vec<T, kWidth>& v) {
                FP16_UNROLL
                for (int k = 0; k < kWidth; k++) total[k] = Op::of(total[k], as_float(v.values[k]));
            });
        if (p.takes_tail(t))
            for (int64_t k = 0; k < t.tail; k++) total[0] = Op::of(total[0], as_float(x[t.terms * t.inner + k]));
    }
    combine_rows<Op, kWidth, kFold>(total, part, t, p, store);
}

// x (outer, terms, inner), y (outer, inner)
template <class T, int kWidth, bool kFold>
__global__ void __launch_bounds__(kBlock)
    count_maxima_kernel(Ptr<const T> x, Ptr<const T> y, Tiling t, Share<T> store) {
    __shared__ Shared<float, kBlock*(kFold ? 1 : kWidth)> part;
    const ThreadPart p(t, kWidth);
    float total[kWidth] = {};
    if (p.inside(t)) {
        float maximum[kWidth];
        load_columns<T, kWidth, kFold>(y, t, p, maximum);
        const Ptr<const T> column = x + (p.o * t.terms * t.inner + p.c);
        for_pieces<4>(
            p.first, p.last, t.rows(), [&](int64_t r) { return load_vector<T, kWidth>(column + r * t.inner); },
            [&](int64_t, const Vec<T, kWidth>& v) {
                FP16_UNROLL
                for (int k = 0; k < kWidth; k++) total[k] += holds(as_float(v.values[k]), maximum[k]) ? 1.0f : 0.0f;
            });
        if (p.takes_tail(t))
            for (int64_t k = 0; k < t.tail; k++)
                total[0] += holds(as_float(x[t.terms * t.inner + k]), maximum[0]) ? 1.0f : 0.0f;
    }
    combine_rows<Plus, kWidth, kFold>(total, part, t, p, store);
}

// x dx (outer, terms, inner), y share (outer, inner)
template <class T, int kWidth, bool kFold>
__global__ void __launch_bounds__(kBlock)
    share_maxima_kernel(Ptr<const T> x, Ptr<const T> y, Ptr<const float> share, Ptr<T> dx, Tiling t) {
    const ThreadPart p(t, kWidth);
    if (!p.inside(t)) return;
    float maximum[kWidth], value[kWidth];
    load_columns<T, kWidth, kFold>(y, t, p, maximum);
    load_columns<float, kWidth, kFold>(share, t, p, value);
    const int64_t at = p.o * t.terms * t.inner + p.c;
    for_pieces<4>(
        p.first, p.last, t.rows(), [&](int64_t r) { return load_vector<T, kWidth>(x + (at + r * t.inner)); },
        [&](int64_t r, const Vec<T, kWidth>& v) {
            Vec<T, kWidth> out;
            FP16_UNROLL
            for (int k = 0; k < kWidth; k++)
                put(out.values[k], holds(as_float(v.values[k]), maximum[k]) ? value[k] : 0.0f);
            store_vector(dx + (at + r * t.inner), out);
        });
    if (p.takes_tail(t))
        for (int64_t i = t.terms * t.inner; i < t.terms * t.inner + t.tail; i++)
            put(dx[i], holds(as_float(x[i]), maximum[0]) ? value[0] : 0.0f);
}

}  // namespace fp16engine::gpu
