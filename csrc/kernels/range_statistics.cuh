// Where the values of a tensor lie on binary16's number line. Of every array x, judged as h = fl16(x) (x itself where
// it is stored so; what it would become, where it is float32), kRangeColumns counts:
//   0 zeros, x = 0                  3 infinities in x
//   1 subnormals, 0 < |h| < 2^-14   4 NaN
//   2 near the largest, 32752 <= |h| < inf
//   5 underflow, x != 0 but h = 0   6 + e + 24: 2^e <= |h| < 2^(e + 1), e = -24 ... 15   46 overflow, h infinite, x not
// Columns 0, 3, 4 and 5 to 46 count every element once. Counts are integers: the same in every run, in whatever order
// they are added. x is read once; a block adds up in shared memory, one row per warp, and touches the result once per
// column that it met.
// In a captured step: only where the control block says so, into the row of the step.
#pragma once
#include "common/limits.h"
#include "common/step_control.h"
#include "kernels/chunk.cuh"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kRangeLowest = -24;  // the exponent of the first column of exponents
constexpr int kRangeUnder = 5, kRangeFirst = 6, kRangeOver = 46, kRangeSubnormals = 10;
constexpr int kRangeGroups = 4;  // groups of eight of a thread
constexpr int64_t kRangeSlice = kBlock * kEight * kRangeGroups;

template <class T>
struct RangedTensor {
    Ptr<const T> x;
    int64_t size;
    int row;  // of the counts
    bool vectors;
};

// The column that counts x itself.
__device__ __forceinline__ int range_column(float x) {
    const int given = __float_as_int(x) & 0x7fffffff;  // ordered like the values
    if (given > 0x7f800000) return 4;
    if (given == 0x7f800000) return 3;
    if (given == 0) return 0;
    const int stored = __float_as_int(rounded<__half>(x)) & 0x7fffffff;
    if (stored == 0) return kRangeUnder;
    if (stored == 0x7f800000) return kRangeOver;
    return kRangeFirst - kRangeLowest + ((stored >> 23) - 127);
}

__device__ __forceinline__ bool near_largest(float x) {
    const int stored = __float_as_int(rounded<__half>(x)) & 0x7fffffff;
    return stored >= 0x46ffe000 && stored < 0x7f800000;  // 32752
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// counts (arrays, kRangeColumns), or (steps, kRangeColumns) in a captured step: added to
template <class T>
__global__ void __launch_bounds__(kBlock)
    range_statistics_kernel(FP16_TABLE(TensorTable<RangedTensor<T>>) table, Ptr<unsigned long long> counts,
                            Ptr<const StepControl> control) {
    if (control && !control[0].measuring) return;
    constexpr int kWarps = kBlock / kWarpSize;
    __shared__ Shared<int, kWarps * kRangeColumns> part;
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const RangedTensor<T>& tensor = table.entries[index];
    const int warp = static_cast<int>(threadIdx.x / kWarpSize), lane = static_cast<int>(threadIdx.x % kWarpSize);
    for (int c = lane; c < kRangeColumns; c += kWarpSize) part[warp * kRangeColumns + c] = 0;
    __syncwarp();
    const int64_t start = (slice - table.first_slice[index]) * kRangeSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    int near = 0;  // of the whole warp
    for (int group = 0; group < kRangeGroups; group++) {
        const int64_t i = start + static_cast<int64_t>(group) * kBlock * kEight;
        const int count = chunk_count(i, tensor.size);
        if (!__ballot_sync(kFullWarp, count > 0)) break;  // the warp is past the end
        float v[kEight];
        load_chunk<T>(tensor.x, i, count, tensor.vectors, v);
        for (int j = 0; j < kEight; j++) {
            const bool there = j < count;
            near += __popc(__ballot_sync(kFullWarp, there && near_largest(v[j])));
            // Lanes with the same column add up first, and the lowest of them writes.
            const int column = there ? range_column(v[j]) : -1;
            const unsigned alike = __match_any_sync(kFullWarp, column);
            if (there && (alike & ((1u << lane) - 1u)) == 0) part[warp * kRangeColumns + column] += __popc(alike);
            __syncwarp();
        }
    }
    if (lane == 0) part[warp * kRangeColumns + 2] = near;
    __syncthreads();
    const int c = static_cast<int>(threadIdx.x);
    if (c >= kRangeColumns) return;
    int total = 0;
    const int first = c == 1 ? kRangeFirst : c, last = c == 1 ? kRangeFirst + kRangeSubnormals : c + 1;
    for (int w = 0; w < kWarps; w++)
        for (int column = first; column < last; column++) total += part[w * kRangeColumns + column];
    const int64_t row = control ? control[0].steps : tensor.row;
    if (total) atomicAdd(&counts[row * kRangeColumns + c], static_cast<unsigned long long>(total));
}

}  // namespace fp16engine::gpu
