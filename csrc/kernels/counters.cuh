// How much of a tensor is near the ends of binary16's range. Of every array: zeros; subnormals, 0 < |x| < 2^-14; values
// within a factor of two of the largest, 32752 <= |x| < inf; infinities; NaN. A float32 array is judged by the same
// bounds: it is what binary16 would see. Counts are integers, added by integer atomics: the same in every run. x is
// read once, nothing else moves.
#pragma once
#include "kernels/chunk.cuh"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kRangeCounters = 5;
constexpr int kCounterGroups = 4;  // groups of eight of a thread
constexpr int64_t kCounterSlice = kBlock * kEight * kCounterGroups;

template <class T>
struct CountedTensor {
    Ptr<const T> x;
    int64_t size;
    int row;  // of the counts
    bool vectors;
};

__device__ __forceinline__ int warp_count(int n) {
    for (int bits = kWarpSize / 2; bits; bits /= 2) n += __shfl_xor_sync(kFullWarp, n, bits);
    return n;
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// counts (arrays, kRangeCounters): added to
template <class T>
__global__ void __launch_bounds__(kBlock)
    range_counters_kernel(const __grid_constant__ TensorTable<CountedTensor<T>> table, Ptr<unsigned long long> counts) {
    constexpr int kWarps = kBlock / kWarpSize;
    __shared__ Shared<int, kRangeCounters * kWarps> part;
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const CountedTensor<T>& tensor = table.entries[index];
    const int64_t start =
        (slice - table.first_slice[index]) * kCounterSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    int found[kRangeCounters] = {};
    for (int group = 0; group < kCounterGroups; group++) {
        const int64_t i = start + static_cast<int64_t>(group) * kBlock * kEight;
        const int count = chunk_count(i, tensor.size);
        float v[kEight];
        load_chunk<T>(tensor.x, i, count, tensor.vectors, v);
        for (int j = 0; j < kEight; j++) {
            const int magnitude = __float_as_int(v[j]) & 0x7fffffff;  // ordered like the values
            found[0] += j < count && magnitude == 0;
            found[1] += magnitude > 0 && magnitude < 0x38800000;            // 2^-14
            found[2] += magnitude >= 0x46ffe000 && magnitude < 0x7f800000;  // 32752
            found[3] += magnitude == 0x7f800000;
            found[4] += magnitude > 0x7f800000;
        }
    }
    const int warp = static_cast<int>(threadIdx.x / kWarpSize), lane = static_cast<int>(threadIdx.x % kWarpSize);
    for (int c = 0; c < kRangeCounters; c++) {
        const int n = warp_count(found[c]);
        if (lane == 0) part[c * kWarps + warp] = n;
    }
    __syncthreads();
    const int c = static_cast<int>(threadIdx.x);
    if (c >= kRangeCounters) return;
    int total = 0;
    for (int w = 0; w < kWarps; w++) total += part[c * kWarps + w];
    if (total)
        atomicAdd(&counts[static_cast<int64_t>(tensor.row) * kRangeCounters + c],
                  static_cast<unsigned long long>(total));
}

}  // namespace fp16engine::gpu
