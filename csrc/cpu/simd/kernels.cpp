// Compiled once per instruction set with FP16_ISA naming it; see CMakeLists.txt for the flags.
#include "cpu/simd/kernels.h"

#include "cpu/simd/clip.h"
#include "cpu/simd/columns.h"
#include "cpu/simd/convert.h"
#include "cpu/simd/counters.h"
#include "cpu/simd/elementwise.h"
#include "cpu/simd/gemm.h"
#include "cpu/simd/norm.h"
#include "cpu/simd/optim.h"
#include "cpu/simd/pooling.h"
#include "cpu/simd/quantize.h"
#include "cpu/simd/reduce.h"
#include "cpu/simd/rows.h"
#include "cpu/simd/sparse.h"

#define FP16_TEXT_OF(x) #x
#define FP16_TEXT(x) FP16_TEXT_OF(x)
#define FP16_JOIN_OF(a, b) a##b
#define FP16_JOIN(a, b) FP16_JOIN_OF(a, b)

namespace fp16engine::cpu {
namespace {

template <class T>
constexpr NormKernels<T> norm_kernels() {
    return {slice_moments<T>,  normalize<T>,      backward_sums<T>,
            backward_input<T>, column_largest<T>, strict_block_sums<T>};
}

template <class T>
constexpr RowKernels<T> row_kernels() {
    return {row_max<T>,
            exp_terms<T>,
            product_terms<T>,
            softmax_row<T>,
            softmax_gradient_row<T>,
            log_softmax_row<T>,
            log_softmax_gradient_row<T>,
            cross_entropy_gradient_row<T>,
            squared_distances<T>,
            layer_norm_row<T>,
            layer_norm_terms<T>,
            layer_norm_gradient_row<T>,
            layer_norm_column_sums<T>};
}

template <class T>
constexpr PoolKernels<T> pool_kernels() {
    return {max_pool_row<T>, max_pool_gradient_row<T>, avg_pool_row<T>, avg_pool_gradient_row<T>};
}

template <class T>
constexpr SparseKernels<T> sparse_kernels() {
    return {sum_of_rows<T>, dropout<T>, all_finite};
}

template <class T, class W>
constexpr UpdateKernels<T, W> update_kernels() {
    return {sgd<T, W>, adam<T, W>, rmsprop<T, W>};
}

template <class T>
constexpr ClipKernels<T> clip_kernels() {
    return {largest_magnitude<T>, sum_of_squares<T>, scale_in_place<T>};
}

template <class T>
constexpr ElementwiseKernels<T> elementwise_kernels() {
    return {binary<T>, unary<T>, unary_backward<T>, powers<T>};
}

template <class T>
constexpr ReduceKernels<T> reduce_kernels() {
    return {row_totals<T>,   column_totals<T>,    count_maxima<T>,
            share_maxima<T>, count_row_maxima<T>, share_row_maxima<T>};
}

}  // namespace

namespace FP16_ISA {
extern const WinogradKernels winograd_kernels;
}

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
    elementwise_kernels<half>(),
    elementwise_kernels<float>(),
    reduce_kernels<half>(),
    reduce_kernels<float>(),
    {strict_row_blocks, strict_column_blocks},
    {quantize_tiles, quantize_columns, rounding_thresholds},
    row_sums,
    strict_row_sums,
    log_floats,
    row_kernels<half>(),
    row_kernels<float>(),
    pool_kernels<half>(),
    pool_kernels<float>(),
    sparse_kernels<half>(),
    sparse_kernels<float>(),
    update_kernels<half, half>(),
    update_kernels<half, float>(),
    update_kernels<float, float>(),
    clip_kernels<half>(),
    clip_kernels<float>(),
    range_counts<half>,
    range_counts<float>,
    FP16_ISA::winograd_kernels,
};

}  // namespace fp16engine::cpu
