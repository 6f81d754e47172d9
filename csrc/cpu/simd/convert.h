// Conversion between storage and registers, whole slices. Bytes per element: 2 read + 4 written, or the reverse.
#pragma once
#include "cpu/simd/storage.h"

namespace fp16engine {
namespace {

template <class From, class To>
FP16_KERNEL void convert(const From* x, To* y, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
    if (i < n) store(y + i, load(x + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

FP16_KERNEL void accumulate(const float* x, float* y, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, load(y + i) + load(x + i));
    for (; i < n; i++) y[i] += x[i];
}

}  // namespace
}  // namespace fp16engine
