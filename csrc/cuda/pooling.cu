#include "kernels/pooling.cuh"

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/ops.h"

namespace fp16engine::gpu {
namespace {

Pool pool_of(const ArrayView& image, int64_t kh, int64_t kw, int64_t stride_h, int64_t stride_w, const Pads& pads) {
    const int64_t H = image.shape[1], W = image.shape[2], C = image.shape[3];
    const int64_t OH = (H + pads[0] + pads[1] - kh) / stride_h + 1, OW = (W + pads[2] + pads[3] - kw) / stride_w + 1;
    const int64_t padded = std::max(H + pads[0] + pads[1], W + pads[2] + pads[3]);
    expect(std::max({padded, kh, kw, stride_h, stride_w}) < kMaxIndices && H * W * C < kMaxIndices &&
               OH * OW * C < kMaxIndices,
           "x must be images of fewer than 2^31 elements, got " + image.describe());
    Pool p{};
    p.H = static_cast<int>(H), p.W = static_cast<int>(W), p.OH = static_cast<int>(OH), p.OW = static_cast<int>(OW);
    p.kh = static_cast<int>(kh), p.kw = static_cast<int>(kw);
    p.stride_h = static_cast<int>(stride_h), p.stride_w = static_cast<int>(stride_w);
    p.top = static_cast<int>(pads[0]), p.left = static_cast<int>(pads[2]);
    p.C = C;
    p.by_stride_h = Divider(stride_h);
    p.by_stride_w = Divider(stride_w);
    return p;
}

// Calls body(width): the vector's width as a compile-time constant, 1 where channels or addresses allow no vectors.
template <class T, class Body>
void with_vectors(const Pool& p, bool all_aligned, Body body) {
    if (all_aligned && p.C % Vec<T>::N == 0)
        body(std::integral_constant<int, Vec<T>::N>());
    else
        body(std::integral_constant<int, 1>());
}

// body(size) with the extent of small square windows, which are read at once, else 0
template <class Body>
void with_size(const Pool& p, int width, Body body) {
    if (width > 1 && p.kh == 2 && p.kw == 2)
        body(std::integral_constant<int, 2>());
    else if (width > 1 && p.kh == 3 && p.kw == 3)
        body(std::integral_constant<int, 3>());
    else
        body(std::integral_constant<int, 0>());
}

// Calls body(pool, first image, vectors) for runs of images of (rows, columns) pixels that a kernel's indices can
// count.
template <class Body>
void for_images(Pool p, int64_t images, int64_t rows, int64_t columns, int width, Body body) {
    const int64_t vectors = rows * columns * p.C / width;
    if (images == 0 || vectors == 0) return;
    p.lanes = Divider(p.C / width);
    p.columns = Divider(columns);
    p.rows = Divider(rows);
    const int64_t run = (kMaxIndices - 1) / vectors;
    for (int64_t first = 0; first < images; first += run) body(p, first, std::min(run, images - first) * vectors);
}

}  // namespace

void max_pool_forward(const ArrayView& x, const ArrayView& y, const ArrayView& index, int64_t kh, int64_t kw,
                      int64_t stride_h, int64_t stride_w, const Pads& pads) {
    const Pool shape = pool_of(x, kh, kw, stride_h, stride_w, pads);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        with_vectors<T>(shape, aligned(x) && aligned(y) && aligned(index, Vec<T>::N), [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            for_images(shape, x.shape[0], shape.OH, shape.OW, kWidth, [&](const Pool& p, int64_t first, int64_t n) {
                const auto xs = pointer<const T>(x) + first * p.H * p.W * p.C;
                const auto ys = pointer<T>(y) + first * p.OH * p.OW * p.C;
                const auto slots = pointer<uint8_t>(index) + first * p.OH * p.OW * p.C;
                with_size(p, kWidth, [&](auto size) {
                    constexpr int kSize = kWidth > 1 ? decltype(size)::value : 0;
                    FP16_LAUNCH((max_pool_forward_kernel<T, kWidth, kSize>), grid_for(n), kBlock, xs, ys, slots, n, p);
                });
            });
        });
    });
}

void max_pool_backward(const ArrayView& index, const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw,
                       int64_t stride_h, int64_t stride_w, const Pads& pads, bool half_accumulator) {
    const Pool shape = pool_of(dx, kh, kw, stride_h, stride_w, pads);
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        with_vectors<T>(shape, aligned(dy) && aligned(dx) && aligned(index, Vec<T>::N), [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            for_images(shape, dx.shape[0], shape.H, shape.W, kWidth, [&](const Pool& p, int64_t first, int64_t n) {
                const auto slots = pointer<const uint8_t>(index) + first * p.OH * p.OW * p.C;
                const auto dys = pointer<const T>(dy) + first * p.OH * p.OW * p.C;
                const auto dxs = pointer<T>(dx) + first * p.H * p.W * p.C;
                FP16_LAUNCH((max_pool_backward_kernel<T, kWidth>), grid_for(n), kBlock, slots, dys, dxs, n, p,
                            half_accumulator);
            });
        });
    });
}

void avg_pool_forward(const ArrayView& x, const ArrayView& y, int64_t kh, int64_t kw, int64_t stride_h,
                      int64_t stride_w, const Pads& pads, bool half_accumulator) {
    const Pool shape = pool_of(x, kh, kw, stride_h, stride_w, pads);
    if (half_accumulator && x.dtype == DType::float16 && kh * kw > kStrictTaps)
        return for_images(shape, x.shape[0], shape.OH, shape.OW, 1, [&](const Pool& p, int64_t first, int64_t n) {
            const auto xs = pointer<const __half>(x) + first * p.H * p.W * p.C;
            const auto ys = pointer<__half>(y) + first * p.OH * p.OW * p.C;
            FP16_LAUNCH(avg_pool_blocks_kernel, grid_for(n), kBlock, xs, ys, n, p);
        });
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        with_vectors<T>(shape, aligned(x) && aligned(y), [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            for_images(shape, x.shape[0], shape.OH, shape.OW, kWidth, [&](const Pool& p, int64_t first, int64_t n) {
                const auto xs = pointer<const T>(x) + first * p.H * p.W * p.C;
                const auto ys = pointer<T>(y) + first * p.OH * p.OW * p.C;
                with_size(p, kWidth, [&](auto size) {
                    constexpr int kSize = kWidth > 1 ? decltype(size)::value : 0;
                    FP16_LAUNCH((avg_pool_forward_kernel<T, kWidth, kSize>), grid_for(n), kBlock, xs, ys, n, p,
                                half_accumulator);
                });
            });
        });
    });
}

void avg_pool_backward(const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw, int64_t stride_h,
                       int64_t stride_w, const Pads& pads, bool half_accumulator) {
    const Pool shape = pool_of(dx, kh, kw, stride_h, stride_w, pads);
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        with_vectors<T>(shape, aligned(dy) && aligned(dx), [&](auto width) {
            constexpr int kWidth = decltype(width)::value;
            for_images(shape, dx.shape[0], shape.H, shape.W, kWidth, [&](const Pool& p, int64_t first, int64_t n) {
                const auto dys = pointer<const T>(dy) + first * p.OH * p.OW * p.C;
                const auto dxs = pointer<T>(dx) + first * p.H * p.W * p.C;
                FP16_LAUNCH((avg_pool_backward_kernel<T, kWidth>), grid_for(n), kBlock, dys, dxs, n, p,
                            half_accumulator);
            });
        });
    });
}

}  // namespace fp16engine::gpu
