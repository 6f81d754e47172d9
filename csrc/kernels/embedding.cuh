// Rows of tables and sums of scattered rows.
//   take_rows     y[i] = table[ids[i]], byte by byte. Bytes: each row read and written, one id per row.
//   scatter_rows  dtable[r] = fl(sum of dy[i] over the i with ids[i] == r), added one by one in the order of i from +0.
//     Float sums, or binary16 ones, rounded after every addition. One thread owns an element of the table and there are
//     no atomics: the same order in every run. Bytes: dy and dtable once, the ids once per block (from the cache).
// An id outside the table takes a row of 0xff bytes, a NaN in float types, and its gradient is left out.
#pragma once
#include "kernels/wide.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

// The ids of a tile that fall into a block's rows, in their order.
struct MatchList {
    Shared<int, kBlock> row;                     // from the block's first row
    Shared<int, kBlock> slot;                    // in the tile
    Shared<int, 2 * kBlock / kWarpSize> counts;  // of each warp; two sets, used in turn
};

// Fills the list for the tile of ids that starts at `tile`, and returns its length. The whole block calls it, turn 0
// and 1 in turn: the barrier between the counts and the list also ends what was read from the previous list.
__device__ __forceinline__ int find_matches(MatchList& list, Ptr<const int64_t> ids, int64_t uses, int64_t tile,
                                            int turn, int64_t first_row, int64_t rows) {
    constexpr int kWarps = kBlock / kWarpSize;
    const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, lane = thread % kWarpSize;
    const int64_t i = tile + thread, id = i < uses ? ids[i] : -1, row = id < first_row ? -1 : id - first_row;
    const bool matches = row >= 0 && row < rows;
    const unsigned votes = __ballot_sync(kFullWarp, matches);
    if (lane == 0) list.counts[turn * kWarps + warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1u)), total = 0;
    for (int w = 0; w < kWarps; w++) {
        const int count = list.counts[turn * kWarps + w];
        if (w < warp) before += count;
        total += count;
    }
    if (total == 0) return 0;
    if (matches) {
        list.row[before] = static_cast<int>(row);
        list.slot[before] = thread;
    }
    __syncthreads();
    return total;
}

// ---- kernels --------------------------------------------------------------------------------------------------------

// table (rows, width), ids (n,), y (n, width), in units of 1 to 16 bytes; Index counts the units of y.
template <class Unit, class Index>
__global__ void __launch_bounds__(kBlock)
    take_rows_kernel(Ptr<const Unit> table, Ptr<const int64_t> ids, Ptr<Unit> y, Index n, Index width, int64_t rows) {
    constexpr int kBytes = static_cast<int>(sizeof(Unit));
    for (Index i = static_cast<Index>(grid_thread()); i < n * width; i += static_cast<Index>(grid_threads())) {
        const Index use = i / width, column = i - use * width;
        const int64_t id = ids[use];
        Unit unit;
        if (id >= 0 && id < rows)
            move_bytes<kBytes>(&unit, &table[id * width + column]);
        else
            for (int byte = 0; byte < kBytes; byte++) reinterpret_cast<unsigned char*>(&unit)[byte] = 0xff;
        move_bytes<kBytes>(&y[i], &unit);
    }
}

// ids (uses,), dy (uses, K), dtable (R, K). A block owns `rows` rows from blockIdx.x * rows on and `lanes` groups of
// kWidth columns from group blockIdx.y * lanes on; rows * lanes <= kBlock.
template <class T, int kWidth, bool kHalf>
__global__ void __launch_bounds__(kBlock) scatter_rows_kernel(Ptr<const int64_t> ids, Ptr<const T> dy, Ptr<T> dtable,
                                                              int64_t uses, int64_t R, int64_t K, int rows, int lanes) {
    __shared__ MatchList list;
    constexpr int kAhead = 4;  // rows of dy that are read before the first of them is added
    const int64_t first_row = static_cast<int64_t>(blockIdx.x) * rows;
    const int row = static_cast<int>(threadIdx.x) / lanes;
    const int64_t column = (static_cast<int64_t>(blockIdx.y) * lanes + static_cast<int>(threadIdx.x) % lanes) * kWidth;
    const bool owns = row < rows && first_row + row < R && column < K;
    float sum[kWidth] = {};
    int turn = 0;
    for (int64_t tile = 0; tile < uses; tile += kBlock, turn ^= 1) {
        const int found = find_matches(list, ids, uses, tile, turn, first_row, rows);
        if (found == 0) continue;
        for (int first = 0; owns && first < found; first += kAhead) {
            float terms[kAhead][kWidth];
            bool mine[kAhead];
            for (int j = 0; j < kAhead; j++) {
                const int entry = first + j;
                mine[j] = entry < found && list.row[entry] == row;
                if (mine[j]) load_floats<kWidth, T>(dy + ((tile + list.slot[entry]) * K + column), terms[j]);
            }
            for (int j = 0; j < kAhead; j++) {
                if (!mine[j]) continue;
                for (int k = 0; k < kWidth; k++) {
                    sum[k] = __fadd_rn(sum[k], terms[j][k]);
                    if (kHalf) sum[k] = rounded<__half>(sum[k]);
                }
            }
        }
    }
    if (owns) store_floats<kWidth>(dtable + ((first_row + row) * K + column), sum);
}

}  // namespace fp16engine::gpu
