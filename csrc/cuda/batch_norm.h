// What both directions of batch normalisation ask before a launch.
#pragma once
#include "kernels/batch_norm_strict.cuh"

#include "cuda/column_tiling.h"
#include "cuda/launch.h"

namespace fp16engine::gpu {

constexpr int64_t kMaxSlices = 128;  // partial sums of a column, which every later block reads again

inline ColumnTiles sum_tiling(const Rows& r, int width) {
    return tiling(r, width, kSumBlocks, kMaxSlices, kMomentRows);
}

inline unsigned strict_grid(const Rows& r) { return grid_of(strict_column_blocks(r.rows, r.C)); }

inline int64_t strict_floats(const Rows& r) { return ceil_divide(r.rows, kStrictRows) * r.C; }

}  // namespace fp16engine::gpu
