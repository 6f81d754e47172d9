// ReLU's gradient, and what it makes for the bias that was added before, over the rows of dy (rows, C):
//   dx = dy where y > 0, else +0;  db = fl(sum of dx over its rows)
// Accumulator: float32, rows of a thread in their order, threads of a block in theirs, then slices in theirs: slices
// depend on the shape alone, so the bits are the same in every run and on every device. One cooperative launch.
// Bytes per element of T: 2 reads + 1 write.
#pragma once
#include "kernels/columns.cuh"
#include "kernels/cooperative.cuh"

namespace fp16engine::gpu {

// ---- device helpers -----------------------------------------------------------------------------------------------

// dx (rows, C) of one place, and partial (slices, C): its sums
template <class T, int kWidth>
__device__ __forceinline__ void masked_sums(Ptr<const T> y, Ptr<const T> dy, Ptr<T> dx, Ptr<float> partial,
                                            const ColumnTiles& tiles, const ColumnPlace& place) {
    __shared__ ColumnStage<kWidth> staged;
    __shared__ Shared<float, kColumnBlock> part;
    const ColumnThread<kWidth> thread(tiles, place);
    float total[kWidth] = {};
    const auto mask = [&](const float (&v)[kWidth], float (&g)[kWidth], int64_t at) {
        for (int j = 0; j < kWidth; j++) {
            g[j] = v[j] > 0.0f ? g[j] : 0.0f;
            total[j] = __fadd_rn(total[j], g[j]);
        }
        store_floats(dx + at, g);
    };
    thread.template each_row<kBatch>(
        [&](int64_t at, int64_t step, int64_t) {
            float v[kBatch][kWidth], g[kBatch][kWidth];
            for (int i = 0; i < kBatch; i++) load_floats(y + (at + i * step), v[i]);
            for (int i = 0; i < kBatch; i++) load_floats(dy + (at + i * step), g[i]);
            for (int i = 0; i < kBatch; i++) mask(v[i], g[i], at + i * step);
        },
        [&](int64_t at, int64_t) {
            float v[kWidth], g[kWidth];
            load_floats(y + at, v);
            load_floats(dy + at, g);
            mask(v, g, at);
        });
    staged.put(total);
    __syncthreads();
    const float sum = column_total(
        tiles.lanes * kWidth, thread.lanes_used(),
        [&](int64_t i, int c) { return staged.get(static_cast<int>(i), c, tiles.lanes); }, part);
    const int64_t column = staged_column<kWidth>(tiles, place);
    if (static_cast<int>(threadIdx.x) < tiles.lanes * kWidth && column < tiles.C)
        partial[place.slice * tiles.C + column] = sum;
}

// ---- kernels ------------------------------------------------------------------------------------------------------

// y dy dx (rows, C), partial (slices, C), db (C,)
template <class T, int kWidth>
__global__ void __launch_bounds__(kColumnBlock, 2)
    relu_bias_backward_kernel(Ptr<const T> y, Ptr<const T> dy, Ptr<T> dx, Ptr<float> partial, Ptr<T> db,
                              ColumnTiles tiles) {
    __shared__ Shared<float, kColumnBlock> part;
    each_place(tiles, [&](const ColumnPlace& place) { masked_sums<T, kWidth>(y, dy, dx, partial, tiles, place); });
    grid_barrier();
    const int columns = tiles.lanes * kWidth, c = static_cast<int>(threadIdx.x) % columns;
    for (int64_t tile = blockIdx.x; tile < tiles.columns; tile += gridDim.x) {
        const int64_t column = tile * columns + c;
        const float sum = column_total(
            columns, tiles.slices,
            [&](int64_t i, int) { return column < tiles.C ? partial[i * tiles.C + column] : 0.0f; }, part);
        if (static_cast<int>(threadIdx.x) < columns && column < tiles.C) put(db[column], sum);
    }
}

}  // namespace fp16engine::gpu
