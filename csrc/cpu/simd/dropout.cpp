// Dropout: an element's fate is a word of Philox, whatever the slice.
#include "cpu/simd/columns.h"
#include "cpu/simd/philox.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// y = x * scale where the element's word >= threshold, else +0. Element i takes word i % 4 of counter + i / 4.
template <class T>
FP16_KERNEL void dropout(const T* x, int64_t n, uint64_t counter, uint64_t key, uint32_t threshold, float scale, T* y) {
    for (int64_t first = 0; first < n; first += 4 * kLanes, counter += kLanes) {
        uint32_t words[4 * kLanes];
        philox(counter, 0, 0, key, words);
        const int64_t count = n - first < 4 * kLanes ? n - first : 4 * kLanes;
        for_column_blocks(count, [&](int64_t i, auto lanes) {
            const f32x16 scaled = lanes.get(x + first + i) * scale;
            lanes.put(y + first + i, select(load(words + i) >= threshold, scaled, f32x16{}));
        });
    }
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<DropoutKernels> dropout_kernels = {{dropout<half>}, {dropout<float>}, {dropout<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
