// Eight consecutive elements of a thread, whole or the few that are left at the end of an array.
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

constexpr int kEight = 8;  // one vector of halves, two of floats

// Elements i to i + count - 1 of x, the other values zero. Vectors: x is aligned to 16 bytes and i a multiple of 8.
template <class T>
__device__ __forceinline__ void load_chunk(Ptr<const T> x, int64_t i, int count, bool vectors,
                                           float (&values)[kEight]) {
    constexpr int N = Vec<T>::N;
    if (vectors && count == kEight) {
        for (int j = 0; j < kEight; j += N) {
            const Vec<T> v = load_vector<T>(x + (i + j));
            for (int k = 0; k < N; k++) values[j + k] = as_float(v.values[k]);
        }
    } else {
        for (int j = 0; j < kEight; j++) values[j] = j < count ? as_float(x[i + j]) : 0.0f;
    }
}

template <class T>
__device__ __forceinline__ void store_chunk(Ptr<T> x, int64_t i, int count, bool vectors,
                                            const float (&values)[kEight]) {
    constexpr int N = Vec<T>::N;
    if (vectors && count == kEight) {
        for (int j = 0; j < kEight; j += N) {
            Vec<T> v;
            for (int k = 0; k < N; k++) put(v.values[k], values[j + k]);
            store_vector(x + (i + j), v);
        }
    } else {
        for (int j = 0; j < kEight; j++)
            if (j < count) put(x[i + j], values[j]);
    }
}

// How many of the eight elements from i on there are in an array of n.
__device__ __forceinline__ int chunk_count(int64_t i, int64_t n) {
    return n - i >= kEight ? kEight : n > i ? static_cast<int>(n - i) : 0;
}

}  // namespace fp16engine::gpu
