// Elements in groups of kWidth = kWide<T>, moved by vectors of sixteen bytes, or one by one where an extent or a
// pointer does not allow that; arrays of another type next to them move as many elements.
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

template <class T>
constexpr int kWide = 16 / static_cast<int>(sizeof(T));  // 8 halves, 4 floats

// ---- device helpers -----------------------------------------------------------------------------------------------

template <int kWidth, class T>
__device__ __forceinline__ void load_floats(Ptr<const T> p, float (&v)[kWidth]) {
    if constexpr (kWidth == 1) {
        v[0] = as_float(p[0]);
    } else {
        constexpr int kStep = kWidth < kWide<T> ? kWidth : kWide<T>;
        for (int first = 0; first < kWidth; first += kStep) {
            const Vec<T, kStep> loaded = load_vector<T, kStep>(p + first);
            for (int i = 0; i < kStep; i++) v[first + i] = as_float(loaded.values[i]);
        }
    }
}

// Two conversions are one instruction.
__device__ __forceinline__ void put_pair(__half* to, float a, float b) {
    *reinterpret_cast<__half2*>(to) = __floats2half2_rn(a, b);
}
__device__ __forceinline__ void put_pair(float* to, float a, float b) {
    to[0] = a;
    to[1] = b;
}

template <int kWidth, class T>
__device__ __forceinline__ void store_floats(Ptr<T> p, const float (&v)[kWidth]) {
    if constexpr (kWidth == 1) {
        put(p[0], v[0]);
    } else {
        constexpr int kStep = kWidth < kWide<T> ? kWidth : kWide<T>;
        for (int first = 0; first < kWidth; first += kStep) {
            Vec<T, kStep> stored;
            for (int i = 0; i < kStep; i += 2) put_pair(stored.values + i, v[first + i], v[first + i + 1]);
            store_vector(p + first, stored);
        }
    }
}

}  // namespace fp16engine::gpu
