// Reductions over the rows of x (rows, C), C innermost: a block takes a tile of columns and a slice of rows.
#pragma once
#include "kernels/wide.cuh"

namespace fp16engine::gpu {

constexpr int kColumnBlock = 512;  // few large blocks: every one of them merges the partial sums of its columns again
constexpr int kTileColumns = 64;   // 128 bytes of halves
constexpr int kColumnParts = 16;   // most threads that share the merging of one column
constexpr int kBatch = 4;          // rows a thread has in flight at least

// `lanes` groups of kWidth columns make a tile, at most kTileColumns columns, of which there are `columns`; `slice`
// rows make a slice.
struct ColumnTiles {
    int64_t rows, C, slice, columns, slices;
    int lanes;
};

// ---- device helpers -----------------------------------------------------------------------------------------------

// A tile of columns in a slice of rows, which is what a block works on at a time.
struct ColumnPlace {
    int64_t tile, slice;
};

// body(place) for every share of the block, all of them in an order that only the grid's size decides.
template <class Body>
__device__ __forceinline__ void each_place(const ColumnTiles& tiles, Body body) {
    for (int64_t i = blockIdx.x; i < tiles.columns * tiles.slices; i += gridDim.x)
        body(ColumnPlace{i % tiles.columns, i / tiles.columns});
}

// A thread's share: its columns, and the rows begin + row, begin + row + row_lanes, ... of its block's slice.
template <int kWidth>
struct ColumnThread {
    int64_t column, begin, end, C;
    int row, row_lanes;
    bool active;

    __device__ __forceinline__ ColumnThread(const ColumnTiles& tiles, const ColumnPlace& place) {
        const int thread = static_cast<int>(threadIdx.x);
        row = thread / tiles.lanes;
        row_lanes = kColumnBlock / tiles.lanes;
        column = (place.tile * tiles.lanes + thread % tiles.lanes) * kWidth;
        begin = place.slice * tiles.slice;
        end = begin + tiles.slice < tiles.rows ? begin + tiles.slice : tiles.rows;
        C = tiles.C;
        active = row < row_lanes && column < C;
    }

    // batch(first element, distance of the next row's, row) for kRows rows at a time, row_lanes apart, single(first
    // element, row) for those that are left
    template <int kRows, class Batch, class Single>
    __device__ __forceinline__ void each_row(Batch batch, Single single) const {
        if (!active) return;
        const int64_t step = row_lanes * C;
        int64_t r = begin + row, at = r * C + column;
        for (; r + (kRows - 1) * row_lanes < end; r += kRows * row_lanes, at += kRows * step) batch(at, step, r);
        for (; r < end; r += row_lanes, at += step) single(at, r);
    }

    // How many row lanes have a row, and how many rows has lane i of them.
    __device__ __forceinline__ int lanes_used() const {
        return end - begin < row_lanes ? static_cast<int>(end - begin) : row_lanes;
    }
    __device__ __forceinline__ float rows_of(int i) const {
        return static_cast<float>((end - begin - i + row_lanes - 1) / row_lanes);
    }
};

// Columns of two arrays side by side: (rows, split) and (rows, C - split).
template <class T>
struct SideBySide {
    Ptr<T> left, right;
    int64_t split, C;

    // Where row r of the group from `column` on lies; no group lies in both.
    __device__ __forceinline__ Ptr<T> at(int64_t r, int64_t column) const {
        return column < split ? left + (r * split + column) : right + (r * (C - split) + column - split);
    }
};

// term(0, c) + ... + term(count - 1, c) for c = threadIdx.x % columns, in every thread; up to kColumnParts threads of a
// column add every so-many-th term each, then their sums join in order.
template <class Term>
__device__ __forceinline__ float column_total(int columns, int64_t count, Term term,
                                              Shared<float, kColumnBlock>& part) {
    const int c = static_cast<int>(threadIdx.x) % columns, mine = static_cast<int>(threadIdx.x) / columns;
    int parts = kColumnBlock / columns < kColumnParts ? kColumnBlock / columns : kColumnParts;
    if (count < parts) parts = static_cast<int>(count);
    float sum = 0.0f;
    if (mine < parts) {
        sum = term(mine, c);
        for (int64_t i = mine + parts; i < count; i += parts) sum = __fadd_rn(sum, term(i, c));
    }
    __syncthreads();  // the previous use of `part` is over
    if (mine < parts) part[mine * columns + c] = sum;
    __syncthreads();
    if (parts == 0) return 0.0f;
    float total = part[c];
    for (int i = 1; i < parts; i++) total = __fadd_rn(total, part[i * columns + c]);
    return total;
}

// What each thread of a block found for its kWidth columns, for column_total to read.
template <int kWidth>
struct ColumnStage {
    static constexpr int kStride = kColumnBlock + 8;  // the eight values of a thread lie in different banks
    Shared<float, kWidth * kStride> values;

    __device__ __forceinline__ void put(const float (&v)[kWidth]) {
        for (int j = 0; j < kWidth; j++) values[j * kStride + static_cast<int>(threadIdx.x)] = v[j];
    }
    // Column c of a tile is element c / lanes of lane c % lanes here.
    __device__ __forceinline__ float get(int row, int c, int lanes) {
        return values[c / lanes * kStride + row * lanes + c % lanes];
    }
};

// Whether this slice of a tile of columns is the last to come here; its block then sees, through __ldcg, what was
// written for the others before they came. `arrived` holds a zero for every tile before the first one comes.
__device__ __forceinline__ bool last_of_tile(const ColumnTiles& tiles, const ColumnPlace& place, Ptr<int> arrived,
                                             Shared<int, 1>& last) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last[0] = atomicAdd(&arrived[place.tile], 1) + 1 == static_cast<int>(tiles.slices);
    __syncthreads();
    __threadfence();
    return last[0] != 0;
}

template <int kWidth>
__device__ __forceinline__ int64_t staged_column(const ColumnTiles& tiles, const ColumnPlace& place) {
    const int c = static_cast<int>(threadIdx.x) % (tiles.lanes * kWidth);
    return (place.tile * tiles.lanes + c % tiles.lanes) * kWidth + c / tiles.lanes;
}

}  // namespace fp16engine::gpu
