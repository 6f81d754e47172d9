// The tables of one instruction set, FP16_ISA: each family's source defines its own, table.cpp joins them.
#pragma once
#include "cpu/simd/kernels.h"

namespace fp16engine::cpu::FP16_ISA {

extern const UpdateKernels<AdamStep> adam_kernels;
extern const ByStorage<BatchNormKernels> batch_norm_kernels;
extern const ByStorage<ClipKernels> clip_kernels;
extern const ConvertKernels convert_kernels;
extern const ByStorage<DepthwiseKernels> depthwise_kernels;
extern const DirectKernels direct_kernels;
extern const ByStorage<DropoutKernels> dropout_kernels;
extern const ByStorage<ElementwiseKernels> elementwise_kernels;
extern const ByStorage<EmbeddingKernels> embedding_kernels;
extern const GemmKernels gemm_kernels;
extern const ByStorage<LayerNormKernels> layer_norm_kernels;
extern const ByStorage<PackKernels> pack_kernels;
extern const PeakKernels peak_kernels;
extern const ByStorage<PoolKernels> pool_kernels;
extern const QuantizeKernels quantize_kernels;
extern const ByStorage<RangeKernels> range_kernels;
extern const ByStorage<ReduceKernels> reduce_kernels;
extern const UpdateKernels<RmspropStep> rmsprop_kernels;
extern const UpdateKernels<SgdStep> sgd_kernels;
extern const ByStorage<SoftmaxKernels> softmax_kernels;
extern const ByStorage<StoreKernels> store_kernels;
extern const StrictKernels strict_kernels;
extern const SumKernels sum_kernels;
extern const WinogradKernels winograd_kernels;

extern const Kernels table;

}  // namespace fp16engine::cpu::FP16_ISA
