// Dropout: y[i] = fl(x[i] * scale) where word i % 4 of Philox4x32-10(key = seed, counter = offset + i / 4) is at least
// the threshold, else +0 (Salmon et al., SC'11). Only seed, offset and i choose. Bytes: x read, y written.
#pragma once
#include "common/philox.h"
#include "common/step_control.h"
#include "kernels/chunk.cuh"

namespace fp16engine::gpu {

// x (n,), y (n,); eight elements, two counters, a thread. In a captured step the offset counts from the control
// block's.
template <class T, bool kVectors>
__global__ void __launch_bounds__(kBlock)
    dropout_kernel(Ptr<const T> x, Ptr<T> y, int64_t n, uint64_t seed, uint64_t offset, unsigned threshold, float scale,
                   Ptr<const StepControl> control) {
    if (control) offset += static_cast<uint64_t>(control[0].dropout);
    const int64_t groups = (n + kEight - 1) / kEight;
    for (int64_t group = grid_thread(); group < groups; group += grid_threads()) {
        const int64_t i = group * kEight;
        const int count = chunk_count(i, n);
        float v[kEight];
        load_chunk<T>(x, i, count, kVectors, v);
        for (int half = 0; half < 2; half++) {
            const PhiloxWords words = philox(offset + static_cast<uint64_t>(2 * group + half), seed);
            for (int j = 0; j < 4; j++)
                v[4 * half + j] = words.values[j] >= threshold ? __fmul_rn(v[4 * half + j], scale) : 0.0f;
        }
        store_chunk<T>(y, i, count, kVectors, v);
    }
}

}  // namespace fp16engine::gpu
