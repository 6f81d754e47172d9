// GELU of halves by table: there are 65 536 of them, and each takes longer to compute, in double, than to look up.
#pragma once
#include <cstdint>

#include "common/half.h"

namespace fp16engine::cpu {

// The same bits as the loops of ElementwiseKernels give.
void gelu_by_table(const half* x, half* y, int64_t n);
void gelu_backward_by_table(const half* x, const half* dy, half* dx, int64_t n);

}  // namespace fp16engine::cpu
