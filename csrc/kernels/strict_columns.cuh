// Sums over the rows of an array (rows, C) in the order of strict_sum.cuh, in two kernels: 1024 rows at a time, then
// the groups.
#pragma once
#include "kernels/strict_sum.cuh"

namespace fp16engine::gpu {

constexpr int kStrictColumns = kWarpSize;  // columns of a block of kBlock threads, one per lane

// ---- device helpers -----------------------------------------------------------------------------------------------

template <int kQuantities>
using StrictStage = Shared<float, kQuantities * kStrictGroup*(kStrictColumns + 1)>;

// Blocks of a kernel over rows x C: one for each group of rows and tile of columns. In one axis, for a grid's others
// end at 65535.
inline int64_t strict_column_blocks(int64_t rows, int64_t C) {
    return (rows + kStrictRows - 1) / kStrictRows * ((C + kStrictColumns - 1) / kStrictColumns);
}

// Where such a block works: rows begin to end - 1, from column `first` on.
struct StrictTile {
    unsigned group, groups;
    int64_t begin, end, first;

    __device__ __forceinline__ StrictTile(int64_t rows, int64_t C) {
        const auto tiles = static_cast<unsigned>((C + kStrictColumns - 1) / kStrictColumns);
        group = blockIdx.x / tiles;
        groups = gridDim.x / tiles;
        begin = static_cast<int64_t>(group) * kStrictRows;
        end = begin + kStrictRows < rows ? begin + kStrictRows : rows;
        first = static_cast<int64_t>(blockIdx.x - group * tiles) * kStrictColumns;
    }
};

// groups (kQuantities, ceil(rows / 1024), C) = sums of the terms that term(r, c, terms) gives
template <int kQuantities, bool kHalved, class Term>
__device__ __forceinline__ void strict_column_groups(int64_t rows, int64_t C, Ptr<float> groups,
                                                     StrictStage<kQuantities>& stage, Term term) {
    const int lane = static_cast<int>(threadIdx.x % kWarpSize), warp = static_cast<int>(threadIdx.x / kWarpSize);
    const StrictTile tile(rows, C);
    const int64_t column = tile.first + lane;
    const int blocks = static_cast<int>((tile.end - tile.begin + kStrictBlock - 1) / kStrictBlock);
    const auto slot = [](int quantity, int block, int c) {
        return (quantity * kStrictGroup + block) * (kStrictColumns + 1) + c;
    };

    for (int block = warp; block < blocks && column < C; block += kBlock / kWarpSize) {
        float sums[kQuantities] = {};
        const int64_t from = tile.begin + block * kStrictBlock,
                      to = from + kStrictBlock < tile.end ? from + kStrictBlock : tile.end;
        for (int64_t r = from; r < to; r++) {
            float terms[kQuantities];
            term(r, column, terms);
            for (int q = 0; q < kQuantities; q++) sums[q] = fl16(__fadd_rn(sums[q], terms[q]));
        }
        for (int q = 0; q < kQuantities; q++) stage[slot(q, block, lane)] = sums[q];
    }
    __syncthreads();
    for (int c = warp; c < kStrictColumns && tile.first + c < C; c += kBlock / kWarpSize) {
        for (int q = 0; q < kQuantities; q++) {
            const auto fold = strict_fold<kHalved>(
                blocks, [&](int64_t i) -> float { return stage[slot(q, static_cast<int>(i), c)]; });
            if (lane == 0)
                groups[(q * static_cast<int64_t>(tile.groups) + tile.group) * C + tile.first + c] = fold.value;
        }
    }
}

// ---- kernels ------------------------------------------------------------------------------------------------------

// out (quantities * C): what strict_column_groups left in groups (quantities, ceil(rows / 1024), C) as sum / divisor,
// over scale (C,) as often as asked, rounded to binary16 if asked. One warp per output.
template <bool kHalved>
__global__ void __launch_bounds__(kBlock)
    strict_columns_kernel(Ptr<const float> groups, Ptr<float> out, int64_t quantities, int64_t rows, int64_t C,
                          float divisor, bool round, Ptr<const float> scale, int times) {
    const int64_t blocks = (rows + kStrictBlock - 1) / kStrictBlock, full = blocks / kStrictGroup;
    const int64_t count = (blocks + kStrictGroup - 1) / kStrictGroup;
    for (int64_t i = grid_thread() / kWarpSize; i < quantities * C; i += grid_threads() / kWarpSize) {
        const Ptr<const float> sums = groups + (i / C * count * C + i % C);
        StrictFold<kHalved> fold;
        const int rest = static_cast<int>(blocks % kStrictGroup);
        if (rest) {
            int level = 0;
            while (rest >> (level + 1)) level++;
            fold.take(sums[full * C], level);
        }
        fold = strict_fold<kHalved>(full, [&](int64_t group) { return sums[group * C]; }, kStrictLevels, fold);
        float value = __fdiv_rn(fold.sum(), divisor);
        for (int k = 0; k < times; k++) value = __fdiv_rn(value, scale[i % C]);
        if (threadIdx.x % kWarpSize == 0) out[i] = round ? fl16(value) : value;
    }
}

}  // namespace fp16engine::gpu
