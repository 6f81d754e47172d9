// A dot product in one thread's registers, with the partial sums of either accumulator. Binary16, in the documented
// order: blocks of 32 terms, sum = fl16(sum + a * b) with the product exact, block sums merged as a binary counter
// (strict_sum.cuh).
#pragma once
#include "kernels/strict_sum.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

// What an operand is held in: the binary16 accumulator multiplies halves.
template <bool kHalf>
struct OperandType {
    using Type = float;
};
template <>
struct OperandType<true> {
    using Type = __half;
};
template <bool kHalf>
using Operand = typename OperandType<kHalf>::Type;

__device__ __forceinline__ __half zero_half() { return __float2half_rn(0.0f); }

// kLevels: at most 2^kLevels - 1 blocks of 32 terms.
template <bool kHalf, int kLevels>
struct DotSum {
    float sum = 0.0f;

    __device__ __forceinline__ void multiply_add(float a, float b) { sum = __fmaf_rn(a, b, sum); }
    __device__ __forceinline__ void end_block() {}
    __device__ __forceinline__ float total() const { return sum; }
};

template <int kLevels>
struct DotSum<true, kLevels> {
    __half block = zero_half(), levels[kLevels] = {};
    int blocks = 0;

    __device__ __forceinline__ void multiply_add(__half a, __half b) { block = __hfma(a, b, block); }

    // After every 32 terms, and after the last ones if they are fewer.
    __device__ __forceinline__ void end_block() {
        bool carried = true;
        for (int level = 0; level < kLevels; level++) {  // no early exit: unrolled, the levels stay in registers
            if (!carried) continue;
            carried = blocks >> level & 1;
            if (carried)
                block = __hadd_rn(levels[level], block);
            else
                levels[level] = block;
        }
        blocks++;
        block = zero_half();
    }

    __device__ __forceinline__ float total() const {
        __half newer = zero_half();
        bool first = true;
        for (int level = 0; level < kLevels; level++) {
            if (!(blocks >> level & 1)) continue;
            newer = first ? levels[level] : __hadd_rn(levels[level], newer);
            first = false;
        }
        return __half2float(newer);
    }
};

}  // namespace fp16engine::gpu
