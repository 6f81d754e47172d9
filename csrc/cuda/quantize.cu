#include "kernels/quantize.cuh"

#include "common/block_grid.h"
#include "cuda/ops.h"
#include "cuda/structs.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {

void quantize(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner,
              int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits, bool stochastic,
              uint64_t seed, uint64_t offset) {
    quantize_counted(x, y, outer, length, inner, block_length, block_inner, mantissa, exponent_bits, stochastic, seed,
                     offset, {});
}

void quantize_counted(const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner,
                      int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits,
                      bool stochastic, uint64_t seed, uint64_t offset, const ArrayView& control) {
    if (x.size() == 0) return;
    const BlockLayout layout = {outer,
                                length,
                                inner,
                                block_length,
                                block_inner,
                                static_cast<int>(mantissa),
                                lowest_block_exponent(mantissa, exponent_bits),
                                highest_block_exponent(exponent_bits)};
    const auto from = pointer<const float>(x);
    const auto to = pointer<float>(y);
    const auto counted = control ? Ptr<const StepControl>(control_block(control)) : Ptr<const StepControl>();
    const int64_t blocks = outer * ceil_divide(length, block_length) * ceil_divide(inner, block_inner);
    with_flag(stochastic, [&](auto flag) {
        constexpr bool kStochastic = decltype(flag)::value;
        if (inner > 1 && block_inner == 1)
            FP16_LAUNCH((quantize_columns_kernel<kStochastic>), grid_for(blocks), kBlock, from, to, layout, seed,
                        offset, counted);
        else
            FP16_LAUNCH((quantize_tiles_kernel<kStochastic>), grid_for(blocks * kWarpSize), kBlock, from, to, layout,
                        seed, offset, counted);
    });
}

}  // namespace fp16engine::gpu
