// Launches the kernel of kernels/relu_bias.cuh.
#include "kernels/relu_bias.cuh"

#include "cuda/column_tiling.h"
#include "cuda/cooperative.h"
#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {

void relu_bias_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, const ArrayView& db) {
    const Rows r(dy);
    if (r.C == 0) return;
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        with_width<T>(by_vectors(r.C, {&y, &dy, &dx}), [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            const ColumnTiles tiles = joined_tiling(r, kWidth);
            const Workspace workspace(tiles.slices * r.C);
            const auto partial = workspace.get();
            const auto ys = pointer<const T>(y), dys = pointer<const T>(dy);
            const auto dxs = pointer<T>(dx), dbs = pointer<T>(db);
            FP16_LAUNCH_COOPERATIVE((relu_bias_backward_kernel<T, kWidth>), places(tiles), kColumnBlock, ys, dys, dxs,
                                    partial, dbs, tiles);
        });
    });
}

}  // namespace fp16engine::gpu
