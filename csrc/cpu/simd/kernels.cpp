// Compiled once per instruction set with FP16_ISA naming it; see CMakeLists.txt for the flags.
#include "cpu/simd/kernels.h"

#include "cpu/simd/columns.h"
#include "cpu/simd/convert.h"
#include "cpu/simd/gemm.h"
#include "cpu/simd/norm.h"

#define FP16_TEXT_OF(x) #x
#define FP16_TEXT(x) FP16_TEXT_OF(x)
#define FP16_JOIN_OF(a, b) a##b
#define FP16_JOIN(a, b) FP16_JOIN_OF(a, b)

namespace fp16engine::cpu {
namespace {

template <class T>
constexpr NormKernels<T> norm_kernels() {
    return {slice_moments<T>, normalize<T>, backward_sums<T>, backward_input<T>, strict_block_sums<T>};
}

}  // namespace

extern const Kernels FP16_JOIN(kernels_, FP16_ISA);
const Kernels FP16_JOIN(kernels_, FP16_ISA) = {
    FP16_TEXT(FP16_ISA),
    convert<half, float>,
    convert<float, half>,
    accumulate,
    column_sums,
    {multiply<FloatStep>, multiply<HalfStep>, add_half},
    norm_kernels<half>(),
    norm_kernels<float>(),
};

}  // namespace fp16engine::cpu
