// C = A B in tiles: operands are converted to float tile by tile (a product of two halves is exact in float32),
// multiplied with the declared accumulator, and rounded once at the store. Only cache-sized tiles are ever held in
// float32. The accumulator is a number: 0 is float32, k ascending; 1 is binary16, blocks of 32 along k combined by
// StrictSum; n > 1 is binary16 within chunks of n terms, at most kMaxChunk, whose sums are added in float32 in order.
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
// pack_b(k0, k, n0, n, ld, tile): fills (k, ld) row-major, columns from n to ld zero;
// store(m0, m, n0, n, ld, tile): takes the finished (m, ld) tile.
struct TileStrides {
    int64_t row, step;
};

template <class PackA, class PackB, class Store>
void product_tile(int64_t m0, int64_t m, int64_t n0, int64_t n, int64_t K, int64_t accumulator, const PackA& pack_a,
                  const PackB& pack_b, const Store& store) {
    const GemmKernels& gemm = kernels().gemm;
    const int64_t ld = round_up(n, 16);
    const int64_t step = accumulator == 0 ? 256 : accumulator == kHalfSums ? kStrictBlock : accumulator;
    const int64_t levels = accumulator == 0 ? 0 : accumulator == kHalfSums ? strict_levels(K) + 1 : 1;
    const Scratch scratch(m * step + step * ld + (1 + levels) * m * ld);
    float* const a = scratch.get();
    float* const b = a + m * step;
    float* const c = b + step * ld;
    float* const block = c + m * ld;
    if (accumulator == kHalfSums) {
        StrictSum sum(block + m * ld, m * ld);
        for (int64_t k0 = 0; k0 < K; k0 += step) {
            const int64_t k = std::min(step, K - k0);
            const TileStrides strides = pack_a(m0, m, k0, k, a);
            pack_b(k0, k, n0, n, ld, b);
            gemm.multiply_half_block(a, strides.row, strides.step, b, block, m, ld, k);
            sum.add(block);
        }
        sum.finish(c);
    } else {
        std::fill(c, c + m * ld, 0.0f);
        for (int64_t k0 = 0; k0 < K; k0 += step) {
            const int64_t k = std::min(step, K - k0);
            const TileStrides strides = pack_a(m0, m, k0, k, a);
            pack_b(k0, k, n0, n, ld, b);
            if (accumulator == 0) {
                gemm.multiply(a, strides.row, strides.step, b, c, m, ld, k);
            } else {
                gemm.multiply_half_block(a, strides.row, strides.step, b, block, m, ld, k);
                kernels().sums.accumulate(block, c, m * ld);
            }
        }
    }
    store(m0, m, n0, n, ld, c);
}

template <class PackA, class PackB, class Store>
void packed_product(int64_t M, int64_t N, int64_t K, int64_t accumulator, const PackA& pack_a, const PackB& pack_b,
                    const Store& store) {
    const int64_t tile = accumulator ? 64 : 128;
    const int64_t rows = (M + tile - 1) / tile, columns = (N + tile - 1) / tile;
    parallel_for(rows * columns, [&](int64_t task, int) {
        const int64_t m0 = task / columns * tile, n0 = task % columns * tile;
        product_tile(m0, std::min(tile, M - m0), n0, std::min(tile, N - n0), K, accumulator, pack_a, pack_b, store);
    });
}

// Storage to float and back, by type.
inline void to_floats(const half* x, float* y, int64_t n) { kernels().convert.half_to_float(x, y, n); }
inline void to_floats(const float* x, float* y, int64_t n) { std::copy(x, x + n, y); }
inline void from_floats(const float* x, half* y, int64_t n) { kernels().convert.float_to_half(x, y, n); }
inline void from_floats(const float* x, float* y, int64_t n) { std::copy(x, x + n, y); }

// Calls body(T{}) with the storage type of `dtype`.
template <class Body>
void with_storage(const char* argument, DType dtype, Body body) {
    if (dtype == DType::float16)
        body(half{});
    else if (dtype == DType::float32)
        body(float{});
    else
        fail(std::string(argument) + " must be float16 or float32, got " + name(dtype));
}

}  // namespace fp16engine::cpu
