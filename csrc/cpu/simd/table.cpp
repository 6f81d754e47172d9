#include "cpu/simd/tables.h"

#define FP16_TEXT_OF(x) #x
#define FP16_TEXT(x) FP16_TEXT_OF(x)

namespace fp16engine::cpu::FP16_ISA {

const Kernels table = {
    FP16_TEXT(FP16_ISA), adam_kernels,       batch_norm_kernels, clip_kernels,        convert_kernels,
    depthwise_kernels,   direct_kernels,     dropout_kernels,    elementwise_kernels, embedding_kernels,
    gemm_kernels,        layer_norm_kernels, pack_kernels,       peak_kernels,        pool_kernels,
    quantize_kernels,    range_kernels,      reduce_kernels,     rmsprop_kernels,     sgd_kernels,
    softmax_kernels,     store_kernels,      strict_kernels,     sum_kernels,         winograd_kernels};

}  // namespace fp16engine::cpu::FP16_ISA
