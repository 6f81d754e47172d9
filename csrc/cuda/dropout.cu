// Launches the kernel of kernels/dropout.cuh.
#include "kernels/dropout.cuh"

#include <cmath>

#include "cuda/ops.h"
#include "cuda/structs.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {

void dropout(const ArrayView& x, const ArrayView& y, double p, uint64_t seed, uint64_t offset) {
    dropout_counted(x, y, p, seed, offset, {});
}

void dropout_counted(const ArrayView& x, const ArrayView& y, double p, uint64_t seed, uint64_t offset,
                     const ArrayView& control) {
    if (x.size() == 0) return;
    const double bound = std::ceil(p * 0x1p32);  // word * 2^-32 >= p, in integers
    if (bound >= 0x1p32) {
        set_zero(y.data, static_cast<size_t>(y.size() * item_size(y.dtype)));
        return;
    }
    const auto threshold = static_cast<unsigned>(bound);
    const float scale = static_cast<float>(1.0 / (1.0 - p));
    const auto counted = control ? Ptr<const StepControl>(control_block(control)) : Ptr<const StepControl>();
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const auto xs = pointer<const T>(x);
        const auto ys = pointer<T>(y);
        const int64_t n = x.size();
        const unsigned grid = grid_for(ceil_divide(n, kEight));
        with_flag(aligned(x) && aligned(y), [&](auto vectors) {
            constexpr bool kVectors = decltype(vectors)::value;
            FP16_LAUNCH((dropout_kernel<T, kVectors>), grid, kBlock, xs, ys, n, seed, offset, threshold, scale,
                        counted);
        });
    });
}

}  // namespace fp16engine::gpu
