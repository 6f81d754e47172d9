// Sums of scattered rows.
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// y (K,) = sum of the rows x[order[j]] in the order given.
template <class T>
FP16_KERNEL void sum_of_rows(const T* x, int64_t K, const int64_t* order, int64_t count, bool half_accumulator, T* y) {
    for_column_blocks(K, [&](int64_t k, auto lanes) {
        f32x16 sum = {};
        for (int64_t j = 0; j < count; j++) {
            sum = sum + lanes.get(x + order[j] * K + k);
            if (half_accumulator) sum = round_half(sum);
        }
        lanes.put(y + k, sum);
    });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<EmbeddingKernels> embedding_kernels = {
    {sum_of_rows<half>}, {sum_of_rows<float>}, {sum_of_rows<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
