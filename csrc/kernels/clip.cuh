// The norm of many tensors together, and their scaling down to a largest norm.
//   norm = scale * root,  root = sqrt(sum of (x / scale)^2),  scale = 2^e,  2^e <= max |x| < 2^(e+1)
//   x = fl((x / scale) * (max_norm / root)) where norm > max_norm
// Every quotient is below 2 and exact but for the smallest ones, so neither 300^2 in binary16 nor (1e30)^2 in binary32
// overflows, and the norm is finite as scale and root even where their product is beyond binary32. An infinity or a NaN
// makes root NaN, and what is scaled with it.
// Sums are float: 32 elements a thread, then a fixed tree; the slices of a tensor list do not depend on the device.
// Bytes per element: two reads for the norm; a read and a write for the scaling, none where nothing is to be done.
#pragma once
#include "kernels/chunk.cuh"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

template <class T>
struct NormTensor {
    Ptr<T> x;
    int64_t size;
    bool vectors;
};

constexpr int kNormGroups = 4;  // groups of eight of a thread, all loaded before the first is used
constexpr int64_t kNormSlice = kBlock * kEight * kNormGroups;

__device__ __forceinline__ float nan_max(float a, float b) { return a != a || a > b ? a : b; }

// The largest value over the block, NaN if there is one.
__device__ __forceinline__ float block_max(float v, Shared<float, kBlock / kWarpSize>& part) {
    for (int bits = kWarpSize / 2; bits; bits /= 2) v = nan_max(v, __shfl_xor_sync(kFullWarp, v, bits));
    __syncthreads();  // the previous use of `part` is over
    if (threadIdx.x % kWarpSize == 0) part[threadIdx.x / kWarpSize] = v;
    __syncthreads();
    float largest = part[0];
    for (int warp = 1; warp < kBlock / kWarpSize; warp++) largest = nan_max(largest, part[warp]);
    return largest;
}

// The power of two at or below v, at least the smallest whose reciprocal is finite; v itself where it is no finite
// number.
__device__ __forceinline__ float norm_scale(float v) {
    if (v == 0.0f) return 1.0f;
    const int bits = __float_as_int(v) & 0x7f800000;
    return bits == 0x7f800000 ? v : __int_as_float(bits < (2 << 23) ? 2 << 23 : bits);
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// partial (slices of the table,): of each slice the largest |x|, or, with a scale (1,), the sum of (x / scale)^2
template <class T, bool kSquares>
__global__ void __launch_bounds__(kBlock)
    norm_slice_kernel(FP16_TABLE(TensorTable<NormTensor<T>>) table, Ptr<const float> scale, Ptr<float> partial) {
    __shared__ Shared<float, kBlock / kWarpSize> part;
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const NormTensor<T>& tensor = table.entries[index];
    const int64_t start = (slice - table.first_slice[index]) * kNormSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    float values[kNormGroups][kEight];
    for (int group = 0; group < kNormGroups; group++) {
        const int64_t i = start + static_cast<int64_t>(group) * kBlock * kEight;
        load_chunk<T>(tensor.x, i, chunk_count(i, tensor.size), tensor.vectors, values[group]);
    }
    float result = 0.0f;
    if constexpr (kSquares) {
        const float factor = __fdiv_rn(1.0f, scale[0]);  // exact for a power of two
        for (int group = 0; group < kNormGroups; group++) {
            for (int j = 0; j < kEight; j++) {
                const float v = __fmul_rn(values[group][j], factor);
                result = __fmaf_rn(v, v, result);
            }
        }
        result = block_sum(result, part);
    } else {
        for (int group = 0; group < kNormGroups; group++)
            for (int j = 0; j < kEight; j++) result = nan_max(result, fabsf(values[group][j]));
        result = block_max(result, part);
    }
    if (threadIdx.x == 0) partial[slice] = result;
}

// partial (slices,), norm (2,): norm[0] = scale from the slices' largest values, or norm[1] = root from their sums; one
// block
template <bool kSquares>
__global__ void __launch_bounds__(kBlock)
    norm_finish_kernel(Ptr<const float> partial, int64_t slices, Ptr<float> norm) {
    __shared__ Shared<float, kBlock / kWarpSize> part;
    float result = 0.0f;
    for (int64_t i = threadIdx.x; i < slices; i += kBlock)
        result = kSquares ? __fadd_rn(result, partial[i]) : nan_max(result, partial[i]);
    result = kSquares ? block_sum(result, part) : block_max(result, part);
    if (threadIdx.x == 0) norm[kSquares ? 1 : 0] = kSquares ? __fsqrt_rn(result) : norm_scale(result);
}

// norm (2,): scale and root
template <class T>
__global__ void __launch_bounds__(kBlock)
    clip_kernel(FP16_TABLE(TensorTable<NormTensor<T>>) table, Ptr<const float> norm, float max_norm) {
    // An infinite quotient is no smaller than any root: nothing has to be scaled.
    if (norm[1] <= __fdiv_rn(max_norm, norm[0])) return;
    const float unit = __fdiv_rn(1.0f, norm[0]), factor = __fdiv_rn(max_norm, norm[1]);
    const int slice = static_cast<int>(blockIdx.x), index = table.find(slice);
    const NormTensor<T>& tensor = table.entries[index];
    const int64_t start = (slice - table.first_slice[index]) * kNormSlice + static_cast<int64_t>(threadIdx.x) * kEight;
    for (int group = 0; group < kNormGroups; group++) {
        const int64_t i = start + static_cast<int64_t>(group) * kBlock * kEight;
        const int count = chunk_count(i, tensor.size);
        float v[kEight];
        load_chunk<T>(tensor.x, i, count, tensor.vectors, v);
        for (int j = 0; j < kEight; j++) v[j] = __fmul_rn(__fmul_rn(v[j], unit), factor);
        store_chunk<T>(tensor.x, i, count, tensor.vectors, v);
    }
}

}  // namespace fp16engine::gpu
