// What every kernel may use: types, vector access, warp and block reductions of fixed order. Compiled by nvcc for the
// GPU and by a plain C++ compiler for the simulator (csrc/simt). Registers are float; T is the storage type; FMA only
// where it is written.
#pragma once

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#define FP16_UNROLL _Pragma("unroll")
// A large argument of a kernel, which every thread reads where it is: in constant memory here, in the launch there.
#define FP16_TABLE(...) const __grid_constant__ __VA_ARGS__

namespace fp16engine::gpu {

template <class T>
using Ptr = T*;

template <class T>
__device__ __forceinline__ T* vector_pointer(T* p, int64_t) {
    return p;
}

template <int kBytes>
struct Word;
template <>
struct Word<16> {
    using Type = uint4;
};
template <>
struct Word<8> {
    using Type = uint2;
};
template <>
struct Word<4> {
    using Type = unsigned;
};
template <>
struct Word<2> {
    using Type = unsigned short;
};
template <>
struct Word<1> {
    using Type = unsigned char;
};

// One load or store of so many bytes; both ends are aligned to them.
template <int kBytes>
__device__ __forceinline__ void move_bytes(void* to, const void* from) {
    using Type = typename Word<kBytes>::Type;
    *static_cast<Type*>(to) = *static_cast<const Type*>(from);
}

template <class T, int N>
struct Shared {
    alignas(16) T values[N];
    __device__ __forceinline__ T& operator[](int i) { return values[i]; }
    __device__ __forceinline__ void read(int i, int count, T* to) {
        *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(values + i);
    }
};

}  // namespace fp16engine::gpu
#else
#include "simt/cuda.h"
#endif

namespace fp16engine::gpu {

// ---- device helpers
// --------------------------------------------------------------------------------------------------

constexpr unsigned kFullWarp = 0xffffffffu;
constexpr int kWarpSize = 32;
constexpr int kBlock = 256;  // threads of a block unless a kernel says otherwise

__device__ __forceinline__ float as_float(float v) { return v; }
__device__ __forceinline__ float as_float(__half v) { return __half2float(v); }
__device__ __forceinline__ void put(float& to, float v) { to = v; }
__device__ __forceinline__ void put(__half& to, float v) { to = __float2half_rn(v); }

template <class T>
__device__ __forceinline__ float rounded(float v) {
    T stored;
    put(stored, v);
    return as_float(stored);
}

// What one instruction moves, sixteen bytes unless fewer elements are named: 8 halves or 4 floats.
template <class T, int kCount = 16 / static_cast<int>(sizeof(T))>
struct Vec {
    static constexpr int N = kCount;
    alignas(sizeof(T) * kCount) T values[kCount];
};

template <class T, int kCount = 16 / static_cast<int>(sizeof(T))>
__device__ __forceinline__ Vec<T, kCount> load_vector(Ptr<const T> p) {
    Vec<T, kCount> v;
    move_bytes<sizeof v>(&v, vector_pointer(p, kCount));
    return v;
}

template <class T, int kCount>
__device__ __forceinline__ void store_vector(Ptr<T> p, const Vec<T, kCount>& v) {
    move_bytes<sizeof v>(vector_pointer(p, kCount), &v);
}

// Sixteen bytes of shared memory from element i, a multiple of Vec<T>::N.
template <class T, int N>
__device__ __forceinline__ Vec<T> load_shared(Shared<T, N>& shared, int i) {
    Vec<T> v;
    shared.read(i, Vec<T>::N, v.values);
    return v;
}

// The sum over the warp, the same in every lane: pairs 16 apart, then 8, 4, 2, 1.
__device__ __forceinline__ float warp_sum(float v) {
    for (int bits = kWarpSize / 2; bits; bits /= 2) v = __fadd_rn(v, __shfl_xor_sync(kFullWarp, v, bits));
    return v;
}

__device__ __forceinline__ int warp_count(int n) {
    for (int bits = kWarpSize / 2; bits; bits /= 2) n += __shfl_xor_sync(kFullWarp, n, bits);
    return n;
}

__device__ __forceinline__ float warp_max(float v) {
    for (int bits = kWarpSize / 2; bits; bits /= 2) v = fmaxf(v, __shfl_xor_sync(kFullWarp, v, bits));
    return v;
}

// The sum over a block of kBlock threads, the same in every thread: warps in order of their number.
// `part` may be used again after the next __syncthreads.
__device__ __forceinline__ float block_sum(float v, Shared<float, kBlock / kWarpSize>& part) {
    v = warp_sum(v);
    __syncthreads();  // the previous use of `part` is over
    if (threadIdx.x % kWarpSize == 0) part[threadIdx.x / kWarpSize] = v;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < kBlock / kWarpSize; warp++) total = __fadd_rn(total, part[warp]);
    return total;
}

// Work is spread over the grid in steps of the grid's size.
__device__ __forceinline__ int64_t grid_thread() { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ __forceinline__ int64_t grid_threads() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

// use(i, load(i)) for i = first, first + step, ... below count; kAhead loads are on their way before the first is used.
template <int kAhead, class Load, class Use>
__device__ __forceinline__ void for_pieces(int64_t first, int64_t count, int64_t step, Load load, Use use) {
    for (int64_t i = first; i < count; i += kAhead * step) {
        decltype(load(i)) piece[kAhead];
        FP16_UNROLL
        for (int k = 0; k < kAhead; k++)
            if (i + k * step < count) piece[k] = load(i + k * step);
        FP16_UNROLL
        for (int k = 0; k < kAhead; k++)
            if (i + k * step < count) use(i + k * step, piece[k]);
    }
}

}  // namespace fp16engine::gpu
