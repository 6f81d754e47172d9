// Conversion between storage and registers, whole slices. Bytes per element: 2 read + 4 written, or the reverse.
#include "cpu/simd/storage.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

template <class From, class To>
FP16_KERNEL void convert(const From* x, To* y, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
    if (i < n) store(y + i, load(x + i, static_cast<int>(n - i)), static_cast<int>(n - i));
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ConvertKernels convert_kernels = {convert<half, float>, convert<float, half>, convert<bfloat16, float>,
                                        convert<float, bfloat16>};

}  // namespace fp16engine::cpu::FP16_ISA
