// y = x in another type, rounded to nearest even; integers go by way of float. The same type is copied bit by bit.
// Bytes per element: sizeof(From) read + sizeof(To) written. Elementwise, so the bits depend on nothing else.
#pragma once
#include <type_traits>

#include "kernels/device.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

template <class From, class To>
__device__ __forceinline__ void convert(From from, To& to) {
    if constexpr (std::is_same_v<From, To>)
        to = from;
    else if constexpr (std::is_integral_v<From>)
        put(to, static_cast<float>(from));
    else
        put(to, as_float(from));
}

// Elements of one thread: sixteen bytes of the wider type.
template <class From, class To>
constexpr int kCastWidth = 16 / static_cast<int>(sizeof(From) > sizeof(To) ? sizeof(From) : sizeof(To));

// ---- kernels --------------------------------------------------------------------------------------------------------

// x (n), y (n); the first `vectors` times kCastWidth elements by vectors
template <class From, class To>
__global__ void __launch_bounds__(kBlock) cast_kernel(Ptr<const From> x, Ptr<To> y, int64_t n, int64_t vectors) {
    constexpr int kWidth = kCastWidth<From, To>;
    for_pieces<4>(
        grid_thread(), vectors, grid_threads(), [&](int64_t i) { return load_vector<From, kWidth>(x + i * kWidth); },
        [&](int64_t i, const Vec<From, kWidth>& from) {
            Vec<To, kWidth> to;
            FP16_UNROLL
            for (int k = 0; k < kWidth; k++) convert(from.values[k], to.values[k]);
            store_vector(y + i * kWidth, to);
        });
    for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads()) convert(x[i], y[i]);
}

}  // namespace fp16engine::gpu
