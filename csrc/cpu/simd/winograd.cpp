// Winograd's minimal filtering for 3x3 kernels at stride 1 (Lavin and Gray, arXiv 1509.09308). A tile of M x M outputs
// is found from P x P inputs, P = M + 2, at P x P points, where a convolution is a product:
//   y  = A^T [sum over c of (G w G^T) * (B^T x B)] A
//   dw = G^T [sum over tiles of (A dy A^T) * (B^T x B)] G
// and dx is y of dy with the mirrored, transposed weights. Storage is widened in the transforms, all arithmetic is in
// float32 registers with the fused operations written out, and results are rounded once, at the store. Sums run along c
// (or the tiles) in ascending order, so the bits depend neither on the instruction set nor on the split into tasks.
// Planes: one per point, 16 channels wide: value (point, channel block, tile, lane); channels past the last are zero.
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

using cpu::TilePlanes;
using cpu::TileRow;
using cpu::WeightPanel;

// M = 2 at the points 0, 1, -1 and infinity: exact for small integers, and zeros stay zeros.
struct TwoOutputs {
    static constexpr int kOutputs = 2, kPoints = 4;
    static FP16_INLINE void image(const f32x16* x, f32x16* v) {  // B^T x
        v[0] = x[0] - x[2];
        v[1] = x[1] + x[2];
        v[2] = x[2] - x[1];
        v[3] = x[3] - x[1];
    }
    static FP16_INLINE void outputs(const f32x16* m, f32x16* y) {  // A^T m
        y[0] = m[0] + m[1] + m[2];
        y[1] = m[1] - m[2] + m[3];
    }
    static FP16_INLINE void weights(const f32x16* w, f32x16* u) {  // G w
        const f32x16 even = (w[0] + w[2]) * 0.5f, odd = w[1] * 0.5f;
        u[0] = w[0];
        u[1] = even + odd;
        u[2] = even - odd;
        u[3] = w[2];
    }
    static FP16_INLINE void gradient(const f32x16* dy, f32x16* m) {  // A dy
        m[0] = dy[0];
        m[1] = dy[0] + dy[1];
        m[2] = dy[0] - dy[1];
        m[3] = dy[1];
    }
    static FP16_INLINE void weight_gradient(const f32x16* u, f32x16* dw) {  // G^T u
        const f32x16 sum = (u[1] + u[2]) * 0.5f;
        dw[0] = u[0] + sum;
        dw[1] = (u[1] - u[2]) * 0.5f;
        dw[2] = sum + u[3];
    }
};

// M = 4 at the points 0, a, -a, b, -b and infinity. With a = 3/4 and b = 3/2 the rms error is 1.6e-6 of the result's
// rms, with the usual 1 and 2 it is 3.5e-6.
struct FourOutputs {
    static constexpr int kOutputs = 4, kPoints = 6;
    static constexpr float a = 0.75f, b = 1.5f, a2 = a * a, b2 = b * b, a3 = a2 * a, b3 = b2 * b;
    static constexpr float sum = a2 + b2, product = a2 * b2;  // of the squares; all of these are exact
    static constexpr float at_0 = static_cast<float>(1 / (double{a2} * b2)),
                           at_a = static_cast<float>(1 / (2 * a2 * (double{a2} - b2))),
                           at_b = static_cast<float>(1 / (2 * b2 * (double{b2} - a2)));

    static FP16_INLINE void image(const f32x16* x, f32x16* v) {  // B^T x
        const f32x16 even_a = fma(-b2, x[2], x[4]), odd_a = fma(-b2, x[1], x[3]);
        const f32x16 even_b = fma(-a2, x[2], x[4]), odd_b = fma(-a2, x[1], x[3]);
        v[0] = fma(product, x[0], fma(-sum, x[2], x[4]));
        v[1] = fma(a, odd_a, even_a);
        v[2] = fma(-a, odd_a, even_a);
        v[3] = fma(b, odd_b, even_b);
        v[4] = fma(-b, odd_b, even_b);
        v[5] = fma(product, x[1], fma(-sum, x[3], x[5]));
    }
    static FP16_INLINE void outputs(const f32x16* m, f32x16* y) {  // A^T m
        const f32x16 even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
        y[0] = m[0] + even_a + even_b;
        y[1] = fma(a, odd_a, odd_b * b);
        y[2] = fma(a2, even_a, even_b * b2);
        y[3] = fma(a3, odd_a, fma(b3, odd_b, m[5]));
    }
    static FP16_INLINE void weights(const f32x16* w, f32x16* u) {  // G w
        const f32x16 even_a = fma(a2, w[2], w[0]), even_b = fma(b2, w[2], w[0]);
        u[0] = w[0] * at_0;
        u[1] = fma(a, w[1], even_a) * at_a;
        u[2] = fma(-a, w[1], even_a) * at_a;
        u[3] = fma(b, w[1], even_b) * at_b;
        u[4] = fma(-b, w[1], even_b) * at_b;
        u[5] = w[2];
    }
    static FP16_INLINE void gradient(const f32x16* dy, f32x16* m) {  // A dy
        const f32x16 even_a = fma(a2, dy[2], dy[0]), odd_a = fma(a3, dy[3], dy[1] * a);
        const f32x16 even_b = fma(b2, dy[2], dy[0]), odd_b = fma(b3, dy[3], dy[1] * b);
        m[0] = dy[0];
        m[1] = even_a + odd_a;
        m[2] = even_a - odd_a;
        m[3] = even_b + odd_b;
        m[4] = even_b - odd_b;
        m[5] = dy[3];
    }
    static FP16_INLINE void weight_gradient(const f32x16* u, f32x16* dw) {  // G^T u
        const f32x16 even_a = (u[1] + u[2]) * at_a, odd_a = (u[1] - u[2]) * at_a;
        const f32x16 even_b = (u[3] + u[4]) * at_b, odd_b = (u[3] - u[4]) * at_b;
        dw[0] = fma(at_0, u[0], even_a + even_b);
        dw[1] = fma(a, odd_a, odd_b * b);
        dw[2] = fma(a2, even_a, fma(b2, even_b, u[5]));
    }

private:
    static FP16_INLINE f32x16 fma(float factor, f32x16 x, f32x16 addend) {
        return fused_multiply_add(factor, x, addend);
    }
};

// --- transforms ------------------------------------------------------------------------------------------------------

// B^T x B of a row of tiles. Columns are transformed once; neighbouring tiles share two of them.
template <class F, class T>
FP16_KERNEL void transform_images(const T* image, const TileRow& row, float* columns, const TilePlanes& v) {
    constexpr int P = F::kPoints;
    static const T zeros[kLanes] = {};
    const T* lines[P];
    int64_t inside[P];  // all bits of an offset, or none outside the image
    for (int i = 0; i < P; i++) {
        const int64_t h = row.first_line + i;
        inside[i] = h >= 0 && h < row.H ? -1 : 0;
        lines[i] = inside[i] ? image + h * row.W * row.C : zeros;
    }
    const int64_t width = row.tiles * F::kOutputs + 2;
    for_column_blocks(row.C, [&](int64_t c, auto lanes) {
        for (int64_t j = 0; j < width; j++) {
            const int64_t column = row.first_column + j;
            float* const to = columns + j * P * kLanes;
            f32x16 x[P], half_way[P];
            if (column >= 0 && column < row.W) {
                const int64_t offset = column * row.C + c;
                FP16_UNROLL_ALL
                for (int i = 0; i < P; i++) x[i] = lanes.get(lines[i] + (offset & inside[i]));
                F::image(x, half_way);
            } else {
                FP16_UNROLL_ALL
                for (int i = 0; i < P; i++) half_way[i] = 0.0f;
            }
            FP16_UNROLL_ALL
            for (int i = 0; i < P; i++) store(to + i * kLanes, half_way[i]);
        }
        for (int64_t tile = 0; tile < row.tiles; tile++) {
            const float* const from = columns + tile * F::kOutputs * P * kLanes;
            float* const to = v.data + c / kLanes * v.block + tile * kLanes;
            for (int i = 0; i < P; i++) {
                f32x16 x[P], points[P];
                FP16_UNROLL_ALL
                for (int j = 0; j < P; j++) x[j] = load(from + (j * P + i) * kLanes);
                F::image(x, points);
                FP16_UNROLL_ALL
                for (int j = 0; j < P; j++) store(to + (i * P + j) * v.plane, points[j]);
            }
        }
    });
}

// A dy A^T of a row of tiles.
template <class F, class T>
FP16_KERNEL void transform_gradients(const T* image, const TileRow& row, const TilePlanes& v) {
    constexpr int M = F::kOutputs, P = F::kPoints;
    static const T zeros[kLanes] = {};
    for_column_blocks(row.C, [&](int64_t c, auto lanes) {
        for (int64_t tile = 0; tile < row.tiles; tile++) {
            f32x16 half_way[M][P];
            FP16_UNROLL_ALL
            for (int j = 0; j < M; j++) {
                const int64_t column = tile * M + j;
                f32x16 dy[M];
                FP16_UNROLL_ALL
                for (int i = 0; i < M; i++) {
                    const int64_t h = row.first_line + i;
                    dy[i] = lanes.get(h < row.H && column < row.W ? image + (h * row.W + column) * row.C + c : zeros);
                }
                F::gradient(dy, half_way[j]);
            }
            float* const to = v.data + c / kLanes * v.block + tile * kLanes;
            FP16_UNROLL_ALL
            for (int i = 0; i < P; i++) {
                f32x16 dy[M], points[P];
                FP16_UNROLL_ALL
                for (int j = 0; j < M; j++) dy[j] = half_way[j][i];
                F::gradient(dy, points);
                FP16_UNROLL_ALL
                for (int j = 0; j < P; j++) store(to + (i * P + j) * v.plane, points[j]);
            }
        }
    });
}

// y = A^T m A + bias of a row of tiles, rounded once; image points at the first of the n channels that m holds.
template <class F, class T>
FP16_KERNEL void transform_outputs(const TilePlanes& m, const TileRow& row, const float* bias, int64_t n, T* image) {
    constexpr int M = F::kOutputs, P = F::kPoints;
    const int64_t high = row.H - row.first_line < M ? row.H - row.first_line : M;
    for_column_blocks(n, [&](int64_t c, auto lanes) {
        const f32x16 offset = bias ? lanes.get(bias + c) : f32x16(0.0f);
        for (int64_t tile = 0; tile < row.tiles; tile++) {
            const float* const from = m.data + c / kLanes * m.block + tile * kLanes;
            f32x16 half_way[P][M];
            FP16_UNROLL_ALL
            for (int j = 0; j < P; j++) {
                f32x16 points[P];
                FP16_UNROLL_ALL
                for (int i = 0; i < P; i++) points[i] = load(from + (i * P + j) * m.plane);
                F::outputs(points, half_way[j]);
            }
            const int64_t wide = row.W - tile * M < M ? row.W - tile * M : M;
            T* const to = image + (row.first_line * row.W + tile * M) * row.C + c;
            FP16_UNROLL_ALL
            for (int i = 0; i < M; i++) {
                f32x16 points[P], y[M];
                FP16_UNROLL_ALL
                for (int j = 0; j < P; j++) points[j] = half_way[j][i];
                F::outputs(points, y);
                if (i < high) {
                    FP16_UNROLL_ALL
                    for (int j = 0; j < M; j++)
                        if (j < wide) lanes.put(to + (i * row.W + j) * row.C, y[j] + offset);
                }
            }
        }
    });
}

// The lanes of a and b in turn, 32 in all.
FP16_INLINE void interleave(FloatPart a, FloatPart b, FloatPart& low, FloatPart& high) {
#if defined(__AVX512F__)
    const __m512i lower = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i upper = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    low = (FloatPart)_mm512_permutex2var_ps((__m512)a, lower, (__m512)b);
    high = (FloatPart)_mm512_permutex2var_ps((__m512)a, upper, (__m512)b);
#elif defined(__AVX2__)
    const __m256 even = _mm256_unpacklo_ps((__m256)a, (__m256)b), odd = _mm256_unpackhi_ps((__m256)a, (__m256)b);
    low = (FloatPart)_mm256_permute2f128_ps(even, odd, 0x20);
    high = (FloatPart)_mm256_permute2f128_ps(even, odd, 0x31);
#else
    low = FloatPart{a[0], b[0], a[1], b[1]};
    high = FloatPart{a[2], b[2], a[3], b[3]};
#endif
}

// Interleaving rows that lie half the height apart rotates (row, lane) by one of its eight bits; four times are a
// transposition.
FP16_INLINE void transpose(f32x16 (&rows)[kLanes]) {
    FP16_UNROLL_ALL
    for (int round = 0; round < 4; round++) {
        f32x16 next[kLanes];
        FP16_UNROLL_ALL
        for (int i = 0; i < kLanes / 2; i++) {
            FloatPart parts[2 * kParts];
            FP16_UNROLL
            for (int p = 0; p < kParts; p++)
                interleave(rows[i].part[p], rows[i + kLanes / 2].part[p], parts[2 * p], parts[2 * p + 1]);
            FP16_UNROLL
            for (int p = 0; p < kParts; p++) {
                next[2 * i].part[p] = parts[p];
                next[2 * i + 1].part[p] = parts[kParts + p];
            }
        }
        FP16_UNROLL_ALL
        for (int i = 0; i < kLanes; i++) rows[i] = next[i];
    }
}

// u = G w G^T of a panel, (points, inputs, outputs); w (first, 3, 3, last). Flipped, for dx: w's first axis is what is
// summed over and the taps are mirrored.
template <class F, class T>
FP16_KERNEL void transform_weights(const T* w, const WeightPanel& panel, bool flipped, float* u) {
    constexpr int P = F::kPoints;
    const auto row = [&](int64_t first, int tap, int64_t last) {  // sixteen of w's last axis
        if (first >= panel.first_size || last >= panel.last_size) return f32x16(0.0f);
        const T* const from = w + (first * 9 + tap) * panel.last_size + last;
        return last + kLanes <= panel.last_size ? load(from) : load(from, static_cast<int>(panel.last_size - last));
    };
    for (int64_t k = 0; k < panel.outputs; k += kLanes)
        for (int64_t c = 0; c < panel.inputs; c += kLanes) {
            f32x16 taps[9][kLanes];  // rows of inputs, lanes of outputs
            for (int tap = 0; tap < 9; tap++)
                if (flipped) {
                    for (int i = 0; i < kLanes; i++)
                        taps[8 - tap][i] = row(panel.first_input + c + i, tap, panel.first_output + k);
                } else {
                    for (int i = 0; i < kLanes; i++)
                        taps[tap][i] = row(panel.first_output + k + i, tap, panel.first_input + c);
                    transpose(taps[tap]);
                }
            for (int i = 0; i < kLanes; i++) {
                f32x16 half_way[3][P];
                FP16_UNROLL_ALL
                for (int s = 0; s < 3; s++) {
                    const f32x16 column[3] = {taps[s][i], taps[3 + s][i], taps[6 + s][i]};
                    F::weights(column, half_way[s]);
                }
                float* const to = u + (c + i) * panel.outputs + k;
                FP16_UNROLL_ALL
                for (int r = 0; r < P; r++) {
                    const f32x16 line[3] = {half_way[0][r], half_way[1][r], half_way[2][r]};
                    f32x16 points[P];
                    F::weights(line, points);
                    FP16_UNROLL_ALL
                    for (int s = 0; s < P; s++) store(to + (r * P + s) * panel.plane, points[s]);
                }
            }
        }
}

// dw = G^T u G of a panel of sums, (points, outputs, inputs), rounded once; dw (first, 3, 3, last).
template <class F, class T>
FP16_KERNEL void finish_weight_gradient(const float* u, const WeightPanel& panel, T* dw) {
    constexpr int P = F::kPoints;
    const int64_t left = panel.first_size - panel.first_output, height = left < panel.outputs ? left : panel.outputs;
    const int64_t right = panel.last_size - panel.first_input, width = right < panel.inputs ? right : panel.inputs;
    for (int64_t k = 0; k < height; k++)
        for_column_blocks(width, [&](int64_t c, auto lanes) {
            const float* const from = u + k * panel.inputs + c;
            f32x16 half_way[P][3];
            FP16_UNROLL_ALL
            for (int j = 0; j < P; j++) {
                f32x16 points[P];
                FP16_UNROLL_ALL
                for (int i = 0; i < P; i++) points[i] = load(from + (i * P + j) * panel.plane);
                F::weight_gradient(points, half_way[j]);
            }
            T* const to = dw + (panel.first_output + k) * 9 * panel.last_size + panel.first_input + c;
            FP16_UNROLL_ALL
            for (int r = 0; r < 3; r++) {
                f32x16 points[P], line[3];
                FP16_UNROLL_ALL
                for (int j = 0; j < P; j++) points[j] = half_way[j][r];
                F::weight_gradient(points, line);
                FP16_UNROLL_ALL
                for (int s = 0; s < 3; s++) lanes.put(to + (r * 3 + s) * panel.last_size, line[s]);
            }
        });
}

// --- products at one point -------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int kPanelVectors = 4, kTileSums = 24;  // of 32 registers
#elif defined(__AVX2__)
constexpr int kPanelVectors = 1, kTileSums = 6;  // pairs of registers, of 16
#else
constexpr int kPanelVectors = 1, kTileSums = 2;
#endif

template <int N>
struct Count {
    static constexpr int value = N;
};

// R tiles by V vectors of outputs.
template <int R, int V>
FP16_INLINE void multiply_tiles(const float* v, int64_t block, int64_t inputs, const float* u, int64_t outputs,
                                bool add, float* m, int64_t m_block) {
    f32x16 sums[R][V];
    FP16_UNROLL_ALL
    for (int i = 0; i < R; i++) {
        FP16_UNROLL_ALL
        for (int j = 0; j < V; j++) sums[i][j] = add ? load(m + j * m_block + i * kLanes) : f32x16(0.0f);
    }
    for (int64_t c = 0; c < inputs; c += kLanes, v += block)
        for (int lane = 0; lane < kLanes; lane++, u += outputs) {
            f32x16 line[V];
            FP16_UNROLL_ALL
            for (int j = 0; j < V; j++) line[j] = load(u + j * kLanes);
            FP16_UNROLL_ALL
            for (int i = 0; i < R; i++) {
                const f32x16 value = v[i * kLanes + lane];
                FP16_UNROLL_ALL
                for (int j = 0; j < V; j++) sums[i][j] = fused_multiply_add(value, line[j], sums[i][j]);
            }
        }
    FP16_UNROLL_ALL
    for (int i = 0; i < R; i++) {
        FP16_UNROLL_ALL
        for (int j = 0; j < V; j++) store(m + j * m_block + i * kLanes, sums[i][j]);
    }
}

template <int V>
FP16_INLINE void multiply_all_tiles(const float* v, int64_t block, int64_t inputs, const float* u, int64_t outputs,
                                    bool add, float* m, int64_t m_block, int64_t tiles) {
    constexpr int R = kTileSums / V, Rest = R < 4 ? R : 4;
    int64_t t = 0;
    for (; t + R <= tiles; t += R)
        multiply_tiles<R, V>(v + t * kLanes, block, inputs, u, outputs, add, m + t * kLanes, m_block);
    for (; t + Rest <= tiles; t += Rest)
        multiply_tiles<Rest, V>(v + t * kLanes, block, inputs, u, outputs, add, m + t * kLanes, m_block);
    for (; t < tiles; t++)
        multiply_tiles<1, V>(v + t * kLanes, block, inputs, u, outputs, add, m + t * kLanes, m_block);
}

// m (outputs / 16, tiles, 16) = (or += if add) v (inputs / 16, tiles, 16) times u (inputs, outputs); the first axes of
// m and v have their planes' strides.
FP16_KERNEL void tile_products(const float* v, int64_t block, int64_t inputs, const float* u, int64_t outputs, bool add,
                               float* m, int64_t m_block, int64_t tiles) {
    int64_t k = 0;
    const auto columns = [&](auto vectors) {
        constexpr int V = decltype(vectors)::value;
        if constexpr (V <= kPanelVectors)
            for (; k + V * kLanes <= outputs; k += V * kLanes)
                multiply_all_tiles<V>(v, block, inputs, u + k, outputs, add, m + k / kLanes * m_block, m_block, tiles);
    };
    columns(Count<4>());
    columns(Count<3>());
    columns(Count<2>());
    columns(Count<1>());
}

// R outputs by V vectors of inputs, summed over the tiles.
template <int R, int V>
FP16_INLINE void multiply_channels(const float* w, const float* v, int64_t block, int64_t tiles, bool add, float* u,
                                   int64_t inputs) {
    f32x16 sums[R][V];
    FP16_UNROLL_ALL
    for (int i = 0; i < R; i++) {
        FP16_UNROLL_ALL
        for (int j = 0; j < V; j++) sums[i][j] = add ? load(u + i * inputs + j * kLanes) : f32x16(0.0f);
    }
    for (int64_t t = 0; t < tiles; t++, w += kLanes, v += kLanes) {
        f32x16 line[V];
        FP16_UNROLL_ALL
        for (int j = 0; j < V; j++) line[j] = load(v + j * block);
        FP16_UNROLL_ALL
        for (int i = 0; i < R; i++) {
            const f32x16 value = w[i];
            FP16_UNROLL_ALL
            for (int j = 0; j < V; j++) sums[i][j] = fused_multiply_add(value, line[j], sums[i][j]);
        }
    }
    FP16_UNROLL_ALL
    for (int i = 0; i < R; i++) {
        FP16_UNROLL_ALL
        for (int j = 0; j < V; j++) store(u + i * inputs + j * kLanes, sums[i][j]);
    }
}

// u (outputs, inputs) = (or += if add) the sum over the tiles of w (outputs / 16, tiles, 16) times v.
FP16_KERNEL void channel_products(const float* w, int64_t w_block, int64_t outputs, const float* v, int64_t v_block,
                                  int64_t inputs, int64_t tiles, bool add, float* u) {
    int64_t c = 0;
    const auto columns = [&](auto vectors) {
        constexpr int V = decltype(vectors)::value, R = V >= 3 ? 4 : kPanelVectors == 1 ? 4 : 16 / V;
        if constexpr (V <= kPanelVectors)
            for (; c + V * kLanes <= inputs; c += V * kLanes)
                for (int64_t k = 0; k < outputs; k += R)
                    multiply_channels<R, V>(w + k / kLanes * w_block + k % kLanes, v + c / kLanes * v_block, v_block,
                                            tiles, add, u + k * inputs + c, inputs);
    };
    columns(Count<4>());
    columns(Count<3>());
    columns(Count<2>());
    columns(Count<1>());
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

template <class F>
constexpr ByStorage<WinogradTransforms> transforms() {
    return {{F::kOutputs, F::kPoints, transform_images<F, half>, transform_gradients<F, half>,
             transform_outputs<F, half>, transform_weights<F, half>, finish_weight_gradient<F, half>},
            {F::kOutputs, F::kPoints, transform_images<F, float>, transform_gradients<F, float>,
             transform_outputs<F, float>, transform_weights<F, float>, finish_weight_gradient<F, float>},
            {F::kOutputs, F::kPoints, transform_images<F, bfloat16>, transform_gradients<F, bfloat16>,
             transform_outputs<F, bfloat16>, transform_weights<F, bfloat16>, finish_weight_gradient<F, bfloat16>}};
}

const WinogradKernels winograd_kernels = {transforms<TwoOutputs>(), transforms<FourOutputs>(), tile_products,
                                          channel_products};

}  // namespace fp16engine::cpu::FP16_ISA
