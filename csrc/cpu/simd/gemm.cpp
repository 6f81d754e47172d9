// Micro-kernels of the packed matrix product. b (k, n) and c (m, n) are float tiles, n a multiple of 16: b in panels,
// see PackKernels, c row-major. a (m, k) has one stride for rows and one along k, so a transposed operand needs no
// transposition.
// Accumulator: float32 (free order along k within a tile: ascending), or binary16 (ascending, fused, one rounding a
// step).
#include <type_traits>

#include "cpu/simd/arithmetic.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTileVectors = 2;  // sixteen sums, and a line of b that stays in the first-level cache
#else
static_assert(cpu::kPanel % (4 / kParts * kLanes) == 0);
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

// c (R, V vectors) of one panel: rows of b are `width` apart, rows of c `n`.
template <class Step, int R, int V>
FP16_INLINE void multiply_block(const float* a, int64_t row, int64_t step, const float* b, int64_t width, float* c,
                                int64_t n, int64_t k) {
    f32x16 acc[R][V];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) acc[r][v] = Step::kOverwrite ? f32x16{} : load(c + r * n + v * kLanes);
    for (int64_t p = 0; p < k; p++) {
        f32x16 line[V];
        for (int v = 0; v < V; v++) line[v] = load(b + p * width + v * kLanes);
        for (int r = 0; r < R; r++) {
            const f32x16 scalar = a[r * row + p * step];
            for (int v = 0; v < V; v++) acc[r][v] = Step::step(scalar, line[v], acc[r][v]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) store(c + r * n + v * kLanes, acc[r][v]);
}

template <class Step, int V>
FP16_INLINE void multiply_columns(const float* a, int64_t row, int64_t step, const float* b, int64_t width, float* c,
                                  int64_t m, int64_t n, int64_t k) {
    int64_t i = 0;
    const auto rows = [&](auto count) {
        constexpr int R = decltype(count)::value;
        for (; i + R <= m; i += R) multiply_block<Step, R, V>(a + i * row, row, step, b, width, c + i * n, n, k);
    };
    rows(std::integral_constant<int, kTileRows>{});
    if constexpr (kTileRows > 4) rows(std::integral_constant<int, 4>{});
    rows(std::integral_constant<int, 1>{});
}

template <class Step>
FP16_KERNEL void multiply(const float* a, int64_t row, int64_t step, const float* b, float* c, int64_t m, int64_t n,
                          int64_t k) {
    constexpr int kStep = kTileVectors * kLanes;
    for (int64_t j = 0; j < n; j += cpu::kPanel) {
        const float* const panel = b + j * k;
        if (n - j < cpu::kPanel) return multiply_columns<Step, 1>(a, row, step, panel, kLanes, c + j, m, n, k);
        for (int64_t v = 0; v < cpu::kPanel; v += kStep)
            multiply_columns<Step, kTileVectors>(a, row, step, panel + v, cpu::kPanel, c + j + v, m, n, k);
    }
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
