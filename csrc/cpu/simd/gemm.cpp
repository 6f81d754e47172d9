// Micro-kernels of the packed matrix product. b (k, n) and c (m, n) are float tiles, row-major, n a multiple of 16;
// a (m, k) has one stride for rows and one along k, so a transposed operand needs no transposition.
// Accumulator: float32 (free order along k within a tile: ascending), or binary16 (ascending, fused, one rounding a
// step).
#include "cpu/simd/arithmetic.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 4, kTileVectors = 4;
#else
constexpr int kTileRows = 3, kTileVectors = 4 / kParts;  // twelve of sixteen registers hold sums
#endif

struct FloatStep {
    static constexpr bool kOverwrite = false;
    static FP16_INLINE f32x16 step(f32x16 a, f32x16 b, f32x16 acc) { return multiply_add(a, b, acc); }
};

struct HalfStep {
    static constexpr bool kOverwrite = true;
    static FP16_INLINE f32x16 step(f32x16 a, f32x16 b, f32x16 acc) { return half_fma(a, b, acc); }
};

template <class Step, int R, int V>
FP16_INLINE void multiply_block(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t n,
                                int64_t k) {
    f32x16 acc[R][V];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) acc[r][v] = Step::kOverwrite ? f32x16{} : load(c + r * n + v * kLanes);
    for (int64_t p = 0; p < k; p++) {
        f32x16 line[V];
        for (int v = 0; v < V; v++) line[v] = load(b + p * n + v * kLanes);
        for (int r = 0; r < R; r++) {
            const f32x16 scalar = a[r * row + p * step];
            for (int v = 0; v < V; v++) acc[r][v] = Step::step(scalar, line[v], acc[r][v]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) store(c + r * n + v * kLanes, acc[r][v]);
}

template <class Step, int V>
FP16_INLINE void multiply_columns(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m,
                                  int64_t n, int64_t k) {
    int64_t i = 0;
    for (; i + kTileRows <= m; i += kTileRows)
        multiply_block<Step, kTileRows, V>(a + i * row, row, step, b, c + i * n, n, k);
    for (; i < m; i++) multiply_block<Step, 1, V>(a + i * row, row, step, b, c + i * n, n, k);
}

template <class Step>
FP16_KERNEL void multiply(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m, int64_t n,
                          int64_t k) {
    int64_t j = 0;
    for (; j + kTileVectors * kLanes <= n; j += kTileVectors * kLanes)
        multiply_columns<Step, kTileVectors>(a, row, step, b + j, c + j, m, n, k);
    for (; j < n; j += kLanes) multiply_columns<Step, 1>(a, row, step, b + j, c + j, m, n, k);
}

FP16_KERNEL void add_half(const float* a, const float* b, float* c, int64_t n, float weight, float scale) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(c + i, round_half((load(a + i) + load(b + i) * weight) * scale));
    if (i < n) {
        const int tail = static_cast<int>(n - i);
        store(c + i, round_half((load(a + i, tail) + load(b + i, tail) * weight) * scale), tail);
    }
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const GemmKernels gemm_kernels = {multiply<FloatStep>, multiply<HalfStep>, add_half};

}  // namespace fp16engine::cpu::FP16_ISA
