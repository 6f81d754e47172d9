// Micro-kernels of the direct convolution. Rows of a are read where they lie in a float image, so that patches, which
// overlap there, are never gathered; b is a panel, see PackKernels. Sums are float, the terms of one call ascending.
#include <type_traits>

#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 8;  // by two vectors: sixteen sums
#else
constexpr int kTileRows = 3;  // by two vectors of two registers: twelve of sixteen hold sums
#endif

template <int R, int V, class Terms>
FP16_INLINE void add_tile(float* c, int64_t width, const Terms& terms) {
    f32x16 acc[R][V];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) acc[r][v] = load(c + r * width + v * kLanes);
    terms(acc);
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) store(c + r * width + v * kLanes, acc[r][v]);
}

// acc += scalar(r) * line, for one term.
template <int R, int V, class Scalar>
FP16_INLINE void add_term(f32x16 (&acc)[R][V], const float* line, const Scalar& scalar) {
    f32x16 b[V];
    for (int v = 0; v < V; v++) b[v] = load(line + v * kLanes);
    for (int r = 0; r < R; r++) {
        const f32x16 a = scalar(r);
        for (int v = 0; v < V; v++) acc[r][v] = multiply_add(a, b[v], acc[r][v]);
    }
}

// Calls body(first row, constant number of rows) until m rows are covered.
template <class Body>
FP16_INLINE void for_row_tiles(int64_t m, const Body& body) {
    int64_t i = 0;
    for (; i + kTileRows <= m; i += kTileRows) body(i, std::integral_constant<int, kTileRows>{});
    if constexpr (kTileRows > 4)
        for (; i + 4 <= m; i += 4) body(i, std::integral_constant<int, 4>{});
    for (; i < m; i++) body(i, std::integral_constant<int, 1>{});
}

template <int V>
FP16_INLINE void multiply_runs_by(const float* const* rows, int64_t m, const int64_t* runs, int64_t count,
                                  int64_t length, const float* panel, float* c) {
    constexpr int64_t width = V * kLanes;
    for_row_tiles(m, [&](int64_t i, auto tile) {
        constexpr int R = decltype(tile)::value;
        add_tile<R, V>(c + i * width, width, [&](f32x16(&acc)[R][V]) {
            const float* line = panel;
            for (int64_t q = 0; q < count; q++) {
                const float* row[R];
                for (int r = 0; r < R; r++) row[r] = rows[i + r] + runs[q];
                for (int64_t p = 0; p < length; p++, line += width)
                    add_term<R, V>(acc, line, [&](int r) { return row[r][p]; });
            }
        });
    });
}

FP16_KERNEL void multiply_runs(const float* const* rows, int64_t m, const int64_t* runs, int64_t count, int64_t length,
                               const float* panel, int64_t width, float* c) {
    if (width == kLanes)
        multiply_runs_by<1>(rows, m, runs, count, length, panel, c);
    else
        multiply_runs_by<2>(rows, m, runs, count, length, panel, c);
}

template <int V>
FP16_INLINE void multiply_pixels_by(const float* const* pixels, int64_t count, int64_t offset, int64_t m,
                                    const float* panel, float* c) {
    constexpr int64_t width = V * kLanes;
    for_row_tiles(m, [&](int64_t i, auto tile) {
        constexpr int R = decltype(tile)::value;
        add_tile<R, V>(c + i * width, width, [&](f32x16(&acc)[R][V]) {
            for (int64_t p = 0; p < count; p++) {
                const float* const row = pixels[p] + offset + i;
                add_term<R, V>(acc, panel + p * width, [&](int r) { return row[r]; });
            }
        });
    });
}

FP16_KERNEL void multiply_pixels(const float* const* pixels, int64_t count, int64_t offset, int64_t m,
                                 const float* panel, int64_t width, float* c) {
    if (width == kLanes)
        multiply_pixels_by<1>(pixels, count, offset, m, panel, c);
    else
        multiply_pixels_by<2>(pixels, count, offset, m, panel, c);
}

template <class T>
FP16_KERNEL void store_rows(const float* c, int64_t width, int64_t m, int64_t n, const float* bias, T* y,
                            int64_t stride) {
    for (int64_t i = 0; i < m; i++)
        for_column_blocks(n, [&](int64_t j, auto lanes) {
            const f32x16 sum = load(c + i * width + j);
            lanes.put(y + i * stride + j, bias ? sum + load(bias + j) : sum);
        });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const DirectKernels direct_kernels = {multiply_runs, multiply_pixels};
const ByStorage<StoreKernels> store_kernels = {{store_rows<half>}, {store_rows<float>}, {store_rows<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
