// An operand of the packed product, converted to float and laid out in panels. Bytes per element: 2 or 4 read, 4
// written.
#include "cpu/simd/storage.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// The first `count` elements, at most sixteen; the others are zero.
template <class T>
FP16_INLINE f32x16 load_first(const T* x, int64_t count) {
    if (count >= kLanes) return load(x);
    return count > 0 ? load(x, static_cast<int>(count)) : f32x16{};
}

template <class T>
FP16_KERNEL void pack_rows(const T* b, int64_t stride, int64_t first, int64_t count, int64_t k, int64_t n,
                           float* panels) {
    for (int64_t j = 0; j < n; j += cpu::kPanel) {
        const int64_t width = n - j > kLanes ? cpu::kPanel : kLanes;
        float* const panel = panels + j * k + first * width;
        for (int64_t p = 0; p < count; p++)
            for (int64_t v = 0; v < width; v += kLanes)
                store(panel + p * width + v, load_first(b + p * stride + j + v, n - j - v));
    }
}

// line q (16,) of `to`, lines `width` apart, = column q of square, for the first `lines` columns.
FP16_INLINE void transpose(const float (&square)[kLanes][kLanes], int64_t lines, float* to, int64_t width) {
    for (int64_t q = 0; q < lines; q += 4)
        for (int64_t i = 0; i < kLanes; i += 4) {
#if defined(__SSE2__)
            __m128 a = _mm_loadu_ps(&square[i][q]), b = _mm_loadu_ps(&square[i + 1][q]);
            __m128 c = _mm_loadu_ps(&square[i + 2][q]), d = _mm_loadu_ps(&square[i + 3][q]);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            const __m128 rows[4] = {a, b, c, d};
            for (int64_t r = 0; r < 4 && q + r < lines; r++) _mm_storeu_ps(to + (q + r) * width + i, rows[r]);
#else
            for (int64_t r = 0; r < 4 && q + r < lines; r++)
                for (int64_t j = 0; j < 4; j++) to[(q + r) * width + i + j] = square[i + j][q + r];
#endif
        }
}

template <class T>
FP16_KERNEL void pack_columns(const T* b, int64_t stride, int64_t k, int64_t n, float* panels) {
    float square[kLanes][kLanes];
    for (int64_t j = 0; j < n; j += cpu::kPanel) {
        const int64_t width = n - j > kLanes ? cpu::kPanel : kLanes;
        float* const panel = panels + j * k;
        for (int64_t v = 0; v < width; v += kLanes) {
            for (int64_t p = 0; p < k; p += kLanes) {
                for (int64_t i = 0; i < kLanes; i++) {
                    const bool there = j + v + i < n;
                    store(square[i], there ? load_first(b + (j + v + i) * stride + p, k - p) : f32x16{});
                }
                transpose(square, k - p < kLanes ? k - p : kLanes, panel + p * width + v, width);
            }
        }
    }
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<PackKernels> pack_kernels = {{pack_rows<half>, pack_columns<half>},
                                             {pack_rows<float>, pack_columns<float>},
                                             {pack_rows<bfloat16>, pack_columns<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
