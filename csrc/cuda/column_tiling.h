// How the rows and columns of (rows, C) are shared out to blocks (kernels/columns.cuh).
#pragma once
#include <algorithm>
#include <limits>

#include "cuda/launch.h"
#include "kernels/columns.cuh"

namespace fp16engine::gpu {

constexpr int64_t kSumBlocks = 256;  // blocks that sum, over all tiles of columns

struct Rows {
    int64_t rows, C;
    explicit Rows(const ArrayView& x) : rows(x.dim(-1) ? x.size() / x.dim(-1) : 0), C(x.dim(-1)) {}
};

// Tiles of columns of even size, and about `blocks` places in all; a thread of a slice gets `least` rows.
inline ColumnTiles tiling(const Rows& r, int width, int64_t blocks, int64_t most_slices, int64_t least) {
    const int64_t groups = ceil_divide(r.C, width), columns = ceil_divide(groups, kTileColumns / width),
                  lanes = ceil_divide(groups, columns);
    const int64_t target = std::min(most_slices, std::max<int64_t>(1, blocks / columns));
    const int64_t slice = std::max(ceil_divide(r.rows, target), least * (kColumnBlock / lanes));
    return {r.rows, r.C, slice, columns, ceil_divide(r.rows, slice), static_cast<int>(lanes)};
}

inline ColumnTiles map_tiling(const Rows& r, int width) {
    ColumnTiles t = tiling(r, width, 2 * multiprocessors(), std::numeric_limits<int64_t>::max(), kBatch);
    t.slices = std::max<int64_t>(t.slices, 1);  // one block writes the statistics even if there are no rows
    return t;
}

// As map_tiling, but with the same slices on every device: their sums are joined.
inline ColumnTiles joined_tiling(const Rows& r, int width) {
    ColumnTiles t = tiling(r, width, kSumBlocks, kSumBlocks, kBatch);
    t.slices = std::max<int64_t>(t.slices, 1);
    return t;
}

inline int64_t places(const ColumnTiles& tiles) { return tiles.columns * tiles.slices; }

}  // namespace fp16engine::gpu
