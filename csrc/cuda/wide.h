// What launchers decide about vector access and flags before they choose a kernel.
#pragma once
#include <initializer_list>
#include <type_traits>

#include "cuda/launch.h"
#include "kernels/wide.cuh"

namespace fp16engine::gpu {

// Whether an axis of `extent` may be moved by vectors of sixteen bytes in every one of the arrays.
inline bool by_vectors(int64_t extent, std::initializer_list<const ArrayView*> arrays) {
    bool aligned = extent % 8 == 0;
    for (const ArrayView* array : arrays) aligned = aligned && reinterpret_cast<uintptr_t>(array->data) % 16 == 0;
    return aligned;
}

// Calls body(std::true_type) or body(std::false_type).
template <class Body>
void with_flag(bool flag, Body body) {
    if (flag)
        body(std::true_type{});
    else
        body(std::false_type{});
}

// Calls body with the width of T's groups, kWide<T> or 1, as a std::integral_constant<int>.
template <class T, class Body>
void with_width(bool wide, Body body) {
    if (wide)
        body(std::integral_constant<int, kWide<T>>{});
    else
        body(std::integral_constant<int, 1>{});
}

// Calls body(std::bool_constant<half_accumulator>); only binary16 terms have binary16 accumulators.
template <class T, class Body>
void with_accumulator(bool half_accumulator, Body body) {
    if constexpr (sizeof(T) == 2) {
        if (half_accumulator) {
            body(std::true_type{});
            return;
        }
    }
    body(std::false_type{});
}

}  // namespace fp16engine::gpu
