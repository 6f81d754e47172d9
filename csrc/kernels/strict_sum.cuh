// Sums with binary16 partial sums in the documented order: blocks of 32 terms one after the other, acc = fl16(acc +
// term); block sums merge as a binary counter, fl16(older + newer); the counter's leftovers are folded from the newest
// to the oldest. kHalved, for averages: a merge is fl16((older + newer) / 2), so it overflows only where the average
// does (cpu/strict_sum.h).
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -----------------------------------------------------------------------------------------------

constexpr int kStrictBlock = 32;                          // terms summed one after the other
constexpr int kStrictGroup = kWarpSize;                   // block sums that a warp merges at once, one per lane
constexpr int kStrictLevels = 5;                          // 2^5 of them
constexpr int kStrictRows = kStrictBlock * kStrictGroup;  // terms of a group

__device__ __forceinline__ float fl16(float v) { return rounded<__half>(v); }

// term(i) for i in [begin, end), at most 32 of them
template <class Term>
__device__ __forceinline__ float strict_block(int64_t begin, int64_t end, Term term) {
    float sum = 0.0f;
    for (int64_t i = begin; i < end; i++) sum = fl16(__fadd_rn(sum, term(i)));
    return sum;
}

// A partial sum that waits to be folded; of level n it is kept times 2^-n when halved.
template <bool kHalved>
struct StrictFold {
    float value = 0.0f;
    int level = -1;  // nothing yet

    __device__ __forceinline__ void take(float older, int older_level) {
        const float weight = kHalved && level >= 0 ? 1.0f / static_cast<float>(1ull << (older_level - level)) : 1.0f;
        value = level < 0 ? older : fl16(__fadd_rn(older, __fmul_rn(value, weight)));
        level = older_level;
    }
    __device__ __forceinline__ float sum() const {
        return kHalved && level > 0 ? __fmul_rn(value, static_cast<float>(1ull << level)) : value;
    }
};

template <bool kHalved>
__device__ __forceinline__ float strict_merge(float a, float b) {
    const float sum = __fadd_rn(a, b);
    return fl16(kHalved ? __fmul_rn(sum, 0.5f) : sum);
}

// Merges load(0), ..., load(count - 1), sums of `base` levels each, onto `fold`, which is newer. A whole warp calls it,
// and load(i) is called by one lane; every lane has the result.
template <bool kHalved, class Load>
__device__ __forceinline__ StrictFold<kHalved> strict_fold(int64_t count, Load load, int base = 0,
                                                           StrictFold<kHalved> fold = {}) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize);
    const int64_t groups = count / kStrictGroup;
    const int rest = static_cast<int>(count % kStrictGroup);
    float levels = 0.0f;  // in lane n the counter's sum of level base + 5 + n
    for (int64_t group = 0; group < groups; group++) {
        float v = load(group * kStrictGroup + lane);
        for (int bits = 1; bits < kStrictGroup; bits *= 2)
            v = strict_merge<kHalved>(v, __shfl_xor_sync(kFullWarp, v, bits));
        int level = 0;
        for (; group >> level & 1; level++) v = strict_merge<kHalved>(__shfl_sync(kFullWarp, levels, level), v);
        if (lane == level) levels = v;
    }
    if (rest) {
        float v = lane < rest ? load(groups * kStrictGroup + lane) : 0.0f;
        for (int level = 0; level < kStrictLevels; level++) {
            if (rest >> level & 1) fold.take(__shfl_sync(kFullWarp, v, ((rest >> level) - 1) << level), base + level);
            v = strict_merge<kHalved>(v, __shfl_xor_sync(kFullWarp, v, 1 << level));
        }
    }
    for (int level = 0; groups >> level; level++)
        if (groups >> level & 1) fold.take(__shfl_sync(kFullWarp, levels, level), base + kStrictLevels + level);
    return fold;
}

// The sum of term(0), ..., term(count - 1) by a warp, a block of 32 terms per lane; the same in every lane.
template <bool kHalved, class Term>
__device__ __forceinline__ float strict_warp_sum(int64_t count, Term term) {
    const auto block = [&](int64_t i) {
        const int64_t begin = i * kStrictBlock, end = begin + kStrictBlock;
        return strict_block(begin, end < count ? end : count, term);
    };
    return strict_fold<kHalved>((count + kStrictBlock - 1) / kStrictBlock, block).sum();
}

}  // namespace fp16engine::gpu
