// C = A B in tiles: operands are converted to float tile by tile (a product of two halves is exact in float32),
// multiplied with the declared accumulator, and rounded once at the store. Only tiles are ever held in float32, and the
// whole of a b that many tiles read. The accumulator is a number: 0 is float32, k ascending (in lanes where there are
// few tiles and many terms); 1 is binary16, blocks of 32 along k combined by StrictSum; n > 1 is binary16 within chunks
// of n terms, at most kMaxChunk, whose sums are added in float32 in order.
#pragma once
#include <algorithm>
#include <cstdint>

#include "common/array_view.h"
#include "common/parallel.h"
#include "cpu/allocator.h"
#include "cpu/simd/kernels.h"
#include "cpu/strict_sum.h"

namespace fp16engine::cpu {

constexpr int64_t kHalfSums = 1, kMaxChunk = 256;

inline int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// pack_a(m0, m, k0, k, tile): fills tile and returns its two strides {row, step};
// pack_b(k0, k, n0, n, tile): fills panels (PackKernels), or returns panels that exist already;
// store(m0, m, n0, n, ld, tile): takes the finished (m, ld) tile.
struct TileStrides {
    int64_t row, step;
};

// Terms of a dot product that are packed at a time.
inline int64_t terms_per_step(int64_t accumulator) {
    return accumulator == 0 ? 256 : accumulator == kHalfSums ? kStrictBlock : accumulator;
}

// Floats that sum_tile works in, for up to m rows, n columns and k terms.
inline int64_t sum_floats(int64_t m, int64_t n, int64_t k, int64_t accumulator) {
    const int64_t ld = round_up(n, 16), step = terms_per_step(accumulator);
    const int64_t levels = accumulator == 0 ? 0 : 1 + (accumulator == kHalfSums ? strict_levels(k) + 1 : 0);
    return m * step + step * ld + levels * m * ld;
}

// c (m, ld) = the sums over the terms k_begin to k_end of a tile; k_begin is a multiple of terms_per_step().
template <class PackA, class PackB>
void sum_tile(int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t k_begin, int64_t k_end, int64_t accumulator,
              const PackA& pack_a, const PackB& pack_b, float* work, float* c) {
    const GemmKernels& gemm = kernels().gemm;
    const int64_t ld = round_up(n, 16), step = terms_per_step(accumulator);
    float* const a = work;
    float* const b = a + m * step;
    float* const block = b + step * ld;
    const auto for_steps = [&](const auto& multiply) {
        for (int64_t k0 = k_begin; k0 < k_end; k0 += step) {
            const int64_t k = std::min(step, k_end - k0);
            const TileStrides strides = pack_a(m0, m, k0, k, a);
            multiply(strides, pack_b(k0, k, n0, n, b), k);
        }
    };
    if (accumulator == kHalfSums) {
        StrictSum sum(block + m * ld, m * ld);
        for_steps([&](const TileStrides& strides, const float* panels, int64_t k) {
            gemm.multiply_half_block(a, strides.row, strides.step, panels, block, m, ld, k);
            sum.add(block);
        });
        sum.finish(c);
        return;
    }
    std::fill(c, c + m * ld, 0.0f);
    for_steps([&](const TileStrides& strides, const float* panels, int64_t k) {
        if (accumulator == 0) {
            gemm.multiply(a, strides.row, strides.step, panels, c, m, ld, k);
        } else {
            gemm.multiply_half_block(a, strides.row, strides.step, panels, block, m, ld, k);
            kernels().sums.accumulate(block, c, m * ld);
        }
    });
}

// Floats that product_tile works in.
inline int64_t product_floats(int64_t m, int64_t n, int64_t K, int64_t accumulator) {
    return m * round_up(n, 16) + sum_floats(m, n, K, accumulator);
}

template <class PackA, class PackB, class Store>
void product_tile(int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t K, int64_t accumulator, const PackA& pack_a,
                  const PackB& pack_b, float* work, const Store& store) {
    const int64_t ld = round_up(n, 16);
    sum_tile(m0, m, n0, n, 0, K, accumulator, pack_a, pack_b, work + m * ld, work);
    store(m0, m, n0, n, ld, work);
}

// The products of many small matrices, in tiles: body(item, m0, m, n0, n, work) for each tile. A task has several,
// since what it works in is asked for once.
template <class Body>
void for_item_tiles(int64_t items, int64_t M, int64_t N, int64_t K, int64_t tile, int64_t accumulator,
                    const Body& body) {
    constexpr int64_t kItemTasks = 64;
    const int64_t rows = (M + tile - 1) / tile, columns = (N + tile - 1) / tile, all = items * rows * columns;
    parallel_slices(all, (all + kItemTasks - 1) / kItemTasks, [&](int64_t begin, int64_t end) {
        const Scratch work(product_floats(std::min(tile, M), std::min(tile, N), K, accumulator));
        for (int64_t index = begin; index < end; index++) {
            const int64_t m0 = index / columns % rows * tile, n0 = index % columns * tile;
            body(index / (rows * columns), m0, std::min(tile, M - m0), n0, std::min(tile, N - n0), work.get());
        }
    });
}

// How a product is divided among tasks: by its shape alone, so that its bits do not depend on the threads.
struct ProductTiles {
    int64_t m = 128, n = 128;
    int64_t lanes = 1, lane_terms;  // a long dot product in float32 is that of several lanes, added in order
    bool shares_b = false;          // b is packed once for all tiles
    int64_t rows, columns;

    ProductTiles(int64_t M, int64_t N, int64_t K, int64_t accumulator) : lane_terms(K) {
        constexpr int64_t kTasks = 16, kLaneTerms = 1024, kSharedFloats = 1 << 22;
        const auto tiles = [](int64_t extent, int64_t tile) { return (extent + tile - 1) / tile; };
        if (accumulator) {
            m = n = 64;
        } else {
            shares_b = M > m && K * round_up(N, 16) <= kSharedFloats;
            if (shares_b) n = 256;
            const int64_t wanted = kTasks / std::max<int64_t>(1, tiles(M, m) * tiles(N, n));
            if (wanted > 1 && K >= 2 * kLaneTerms) {
                lane_terms = round_up(tiles(K, std::min(wanted, K / kLaneTerms)), terms_per_step(0));
                lanes = tiles(K, lane_terms);
            }
            while (m > 32 && tiles(M, m) * tiles(N, n) * lanes < kTasks) m /= 2;
        }
        rows = tiles(M, m);
        columns = tiles(N, n);
    }
};

template <class PackA, class PackB, class Store>
void packed_product(int64_t M, int64_t N, int64_t K, int64_t accumulator, const PackA& pack_a, const PackB& pack_b,
                    const Store& store) {
    const ProductTiles tiles(M, N, K, accumulator);
    const int64_t step = terms_per_step(accumulator), steps = (K + step - 1) / step;
    const Scratch shared(tiles.shares_b ? K * round_up(N, 16) : 0);
    // Before a tile of columns lie only whole ones, of n * K floats.
    const auto panels_of = [&](int64_t k0, int64_t n0, int64_t n) {
        return shared.get() + n0 * K + k0 * round_up(n, 16);
    };
    if (tiles.shares_b)
        parallel_for(tiles.columns * steps, [&](int64_t task, int) {
            const int64_t n0 = task / steps * tiles.n, k0 = task % steps * step, n = std::min(tiles.n, N - n0);
            pack_b(k0, std::min(step, K - k0), n0, n, panels_of(k0, n0, n));
        });
    const auto panels = [&](int64_t k0, int64_t k, int64_t n0, int64_t n, float* tile) -> const float* {
        if (tiles.shares_b) return panels_of(k0, n0, n);
        pack_b(k0, k, n0, n, tile);
        return tile;
    };
    const int64_t tile_floats = tiles.m * round_up(std::min(tiles.n, N), 16);
    const auto for_tiles = [&](int64_t lanes, const auto& body) {
        parallel_for(tiles.rows * tiles.columns * lanes, [&](int64_t task, int) {
            const int64_t tile = task / lanes, m0 = tile / tiles.columns * tiles.m, n0 = tile % tiles.columns * tiles.n;
            body(task, m0, std::min(tiles.m, M - m0), n0, std::min(tiles.n, N - n0));
        });
    };
    if (tiles.lanes == 1) {
        for_tiles(1, [&](int64_t, int64_t m0, int64_t m, int64_t n0, int64_t n) {
            const Scratch work(product_floats(m, n, K, accumulator));
            product_tile(m0, m, n0, n, K, accumulator, pack_a, panels, work.get(), store);
        });
        return;
    }
    const Scratch partial(tiles.rows * tiles.columns * tiles.lanes * tile_floats);
    for_tiles(tiles.lanes, [&](int64_t task, int64_t m0, int64_t m, int64_t n0, int64_t n) {
        const int64_t first = task % tiles.lanes * tiles.lane_terms, end = std::min(K, first + tiles.lane_terms);
        const Scratch work(sum_floats(m, n, end - first, accumulator));
        sum_tile(m0, m, n0, n, first, end, accumulator, pack_a, panels, work.get(), partial.get() + task * tile_floats);
    });
    for_tiles(1, [&](int64_t tile, int64_t m0, int64_t m, int64_t n0, int64_t n) {
        const int64_t ld = round_up(n, 16);
        float* const sum = partial.get() + tile * tiles.lanes * tile_floats;
        for (int64_t lane = 1; lane < tiles.lanes; lane++)
            kernels().sums.accumulate(sum + lane * tile_floats, sum, m * ld);
        store(m0, m, n0, n, ld, sum);
    });
}

// Storage to float and back, by type.
inline void to_floats(const half* x, float* y, int64_t n) { kernels().convert.half_to_float(x, y, n); }
inline void to_floats(const bfloat16* x, float* y, int64_t n) { kernels().convert.bfloat16_to_float(x, y, n); }
inline void to_floats(const float* x, float* y, int64_t n) { std::copy(x, x + n, y); }
inline void from_floats(const float* x, half* y, int64_t n) { kernels().convert.float_to_half(x, y, n); }
inline void from_floats(const float* x, bfloat16* y, int64_t n) { kernels().convert.float_to_bfloat16(x, y, n); }
inline void from_floats(const float* x, float* y, int64_t n) { std::copy(x, x + n, y); }

// `rows` rows of `columns` elements, `stride` apart; one run where nothing lies between them.
template <class T>
void rows_to_floats(const T* x, int64_t stride, int64_t rows, int64_t columns, float* y) {
    if (stride == columns) return to_floats(x, y, rows * columns);
    for (int64_t i = 0; i < rows; i++) to_floats(x + i * stride, y + i * columns, columns);
}
template <class T>
void rows_from_floats(const float* x, int64_t ld, int64_t rows, int64_t columns, T* y, int64_t stride) {
    if (ld == columns && stride == columns) return from_floats(x, y, rows * columns);
    for (int64_t i = 0; i < rows; i++) from_floats(x + i * ld, y + i * stride, columns);
}

// b (k, n) of stored rows, or of stored columns, `stride` apart.
template <class T>
const float* pack_rows(const T* b, int64_t stride, int64_t k, int64_t n, float* panels) {
    kernels().pack(T{}).rows(b, stride, 0, k, k, n, panels);
    return panels;
}
template <class T>
const float* pack_columns(const T* b, int64_t stride, int64_t k, int64_t n, float* panels) {
    kernels().pack(T{}).columns(b, stride, k, n, panels);
    return panels;
}

// Calls body(T{}) with the storage type of `dtype`.
template <class Body>
void with_storage(const char* argument, DType dtype, Body body) {
    if (dtype == DType::float16)
        body(half{});
    else if (dtype == DType::float32)
        body(float{});
    else if (dtype == DType::bfloat16)
        body(bfloat16{});
    else
        fail(std::string(argument) + " must be float16, bfloat16 or float32, got " + name(dtype));
}

}  // namespace fp16engine::cpu
