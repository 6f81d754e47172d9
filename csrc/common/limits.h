// Sizes that the checks of the bindings, the CPU's loops and the GPU's kernels share.
#pragma once

namespace fp16engine {

// Columns of the counts along binary16's number line: zeros, subnormals, near the largest (32752 <= |x|), infinities,
// NaN, what binary16 makes 0, the exponents -24 ... 15, what binary16 makes infinite.
constexpr int kRangeColumns = 47;

constexpr int kMaxAttended = 128;  // longest sequence and widest head of the GPU's fused attention

}  // namespace fp16engine
