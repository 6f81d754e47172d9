// Sums of x (outer, terms, inner) over `terms` in binary16 accumulators, in the order of strict_sum.cuh, bit for bit.
// The binary counter merges aligned pairs of aligned pairs, so a group of 2^k block sums is merged by threads in
// parallel, whatever comes before and behind it. An incomplete last group leaves the sums of the set bits of its size;
// they are folded from the newest to the oldest into the group's `rest`, and a later kernel continues to fold from
// there. A mean halves at every merge, fl16((older + newer) / 2). Bytes per term: 2 read; per group of at least 512
// terms 4 written and read again.
#pragma once
#include "kernels/strict_sum.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kStrictSums = 2048;  // sums that a block of threads merges at once

// One kernel's merging: `count` sums per output, all of one level, in groups of `group`. A block of threads takes one
// group of `columns` columns and, where groups are small, of several outer indices: (outers, group, columns), all
// powers of two.
struct StrictMerge {
    int64_t outer, count, inner;
    int64_t groups, tiles;  // groups per output, also the incomplete one; tiles of the columns
    int group, columns, outers;
    float half;         // 1, or 1/2 for a mean
    bool last;          // one group is left: its result is the sum
    bool has_rest;      // earlier kernels left a rest
    float rest_weight;  // of that rest at this kernel's lowest level
    float factor;       // makes the result the sum
    float divisor;
};

struct StrictPlace {
    int64_t group, base, tile;
    int size;  // sums of this group

    __device__ __forceinline__ explicit StrictPlace(const StrictMerge& m) {
        const int64_t block = blockIdx.x, part = block / m.tiles;
        tile = block % m.tiles * m.columns;
        group = part % m.groups;
        base = part / m.groups * m.outers;
        const int64_t left = m.count - group * m.group;
        size = static_cast<int>(left < m.group ? left : m.group);
    }
};

// Merges what lies in `sums` and stores it: the sum of a complete group, the rest of an incomplete one, or the end
// result. sums_out (outer, complete groups, inner), rest (outer, inner), y (outer, inner)
__device__ __forceinline__ void merge_group(Shared<float, kStrictSums>& sums, const StrictMerge& m,
                                            const StrictPlace& p, Ptr<float> sums_out, Ptr<float> rest, Ptr<__half> y) {
    const int thread = static_cast<int>(threadIdx.x);
    // The sum of the pair takes the place of its older half.
    for (int step = 1; 2 * step <= p.size; step *= 2) {
        __syncthreads();
        const int pairs = p.size / (2 * step), work = pairs * m.columns;
        for (int i = thread; i < m.outers * work; i += kBlock) {
            const int older = (i / work * m.group + i % work / m.columns * 2 * step) * m.columns + i % m.columns;
            sums[older] = fl16(__fmul_rn(__fadd_rn(sums[older], sums[older + step * m.columns]), m.half));
        }
    }
    __syncthreads();
    const bool complete = p.size == m.group && !m.last;
    for (int i = thread; i < m.outers * m.columns; i += kBlock) {
        const int64_t o = p.base + i / m.columns, c = p.tile + i % m.columns;
        if (o >= m.outer || c >= m.inner) continue;
        const int first = i / m.columns * m.group * m.columns + i % m.columns;
        if (complete) {
            sums_out[(o * (m.count / m.group) + p.group) * m.inner + c] = sums[first];
            continue;
        }
        bool any = m.has_rest;
        float result = any ? static_cast<float>(rest[o * m.inner + c]) : 0.0f, weight = m.rest_weight;
        for (int bit = 1; bit <= p.size; bit *= 2, weight = __fmul_rn(weight, m.half)) {
            if (!(p.size & bit)) continue;
            const float older = sums[first + p.size / (2 * bit) * 2 * bit * m.columns];
            result = any ? fl16(__fadd_rn(older, __fmul_rn(result, weight))) : older;
            any = true;
            weight = 1.0f;
        }
        if (m.last)
            put(y[o * m.inner + c], __fdiv_rn(__fmul_rn(result, m.factor), m.divisor));
        else
            rest[o * m.inner + c] = result;
    }
}

// The sum of n <= 32 consecutive terms.
__device__ __forceinline__ float strict_sum(Ptr<const __half> x, int n, bool vectors) {
    __half sum = __float2half_rn(0.0f);
    const int whole = vectors ? n / Vec<__half>::N : 0;
    for_pieces<4>(
        0, whole, 1, [&](int64_t i) { return load_vector<__half>(x + i * Vec<__half>::N); },
        [&](int64_t, const Vec<__half>& v) {
            FP16_UNROLL
            for (int k = 0; k < Vec<__half>::N; k++) sum = __hadd_rn(sum, v.values[k]);
        });
    for (int i = whole * Vec<__half>::N; i < n; i++) sum = __hadd_rn(sum, x[i]);
    return __half2float(sum);
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// x (outer, terms): a thread sums one block; the merge's count is that of the blocks of one outer index
__global__ void __launch_bounds__(kBlock)
    strict_reduce_rows_kernel(Ptr<const __half> x, int64_t terms, bool vectors, StrictMerge m, Ptr<float> sums_out,
                              Ptr<float> rest, Ptr<__half> y) {
    __shared__ Shared<float, kStrictSums> sums;
    const StrictPlace p(m);
    const int i = static_cast<int>(threadIdx.x), member = i % m.group;
    const int64_t o = p.base + i / m.group, block = p.group * m.group + member;
    if (o < m.outer && member < p.size) {
        const int64_t first = block * kStrictBlock, left = terms - first;
        sums[i] =
            strict_sum(x + (o * terms + first), static_cast<int>(left < kStrictBlock ? left : kStrictBlock), vectors);
    } else {
        sums[i] = 0.0f;
    }
    merge_group(sums, m, p, sums_out, rest, y);
}

// x (outer, terms, inner): a thread sums one block of the columns of one vector
template <int kWidth>
__global__ void __launch_bounds__(kBlock)
    strict_reduce_columns_kernel(Ptr<const __half> x, int64_t terms, StrictMerge m, Ptr<float> sums_out,
                                 Ptr<float> rest, Ptr<__half> y) {
    __shared__ Shared<float, kStrictSums> sums;
    const StrictPlace p(m);
    const int lanes = m.columns / kWidth, i = static_cast<int>(threadIdx.x), member = i / lanes % m.group;
    const int64_t o = p.base + i / (lanes * m.group), c = p.tile + i % lanes * kWidth,
                  first = (p.group * m.group + member) * kStrictBlock;
    __half sum[kWidth];
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) sum[k] = __float2half_rn(0.0f);
    if (o < m.outer && c < m.inner) {
        const Ptr<const __half> column = x + (o * terms * m.inner + c);
        for_pieces<8>(
            first, first + kStrictBlock < terms ? first + kStrictBlock : terms, 1,
            [&](int64_t r) { return load_vector<__half, kWidth>(column + r * m.inner); },
            [&](int64_t, const Vec<__half, kWidth>& v) {
                FP16_UNROLL
                for (int k = 0; k < kWidth; k++) sum[k] = __hadd_rn(sum[k], v.values[k]);
            });
    }
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) sums[i * kWidth + k] = __half2float(sum[k]);
    merge_group(sums, m, p, sums_out, rest, y);
}

// sums_in (outer, count, inner)
__global__ void __launch_bounds__(kBlock)
    strict_reduce_merge_kernel(Ptr<const float> sums_in, StrictMerge m, Ptr<float> sums_out, Ptr<float> rest,
                               Ptr<__half> y) {
    __shared__ Shared<float, kStrictSums> sums;
    const StrictPlace p(m);
    for_pieces<8>(
        threadIdx.x, kStrictSums, kBlock,
        [&](int64_t i) {
            const int64_t c = p.tile + i % m.columns, member = i / m.columns % m.group,
                          o = p.base + i / m.columns / m.group;
            const bool inside = o < m.outer && member < p.size && c < m.inner;
            return inside ? static_cast<float>(sums_in[(o * m.count + p.group * m.group + member) * m.inner + c])
                          : 0.0f;
        },
        [&](int64_t i, float v) { sums[static_cast<int>(i)] = v; });
    merge_group(sums, m, p, sums_out, rest, y);
}

}  // namespace fp16engine::gpu
