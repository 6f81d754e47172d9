// Maximum and average pooling of images (N, H, W, C): one task per few rows of pixels.
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

PoolShape pool_shape(const ArrayView& image, int64_t kh, int64_t kw, int64_t stride_h, int64_t stride_w,
                     const Pads& pads) {
    PoolShape s{};
    s.H = image.shape[1], s.W = image.shape[2], s.C = image.shape[3];
    s.kh = kh, s.kw = kw, s.stride_h = stride_h, s.stride_w = stride_w, s.top = pads[0], s.left = pads[2];
    s.OH = (s.H + pads[0] + pads[1] - kh) / stride_h + 1;
    s.OW = (s.W + pads[2] + pads[3] - kw) / stride_w + 1;
    return s;
}

// body(image, row) for each of `rows` rows of each image, several rows of little work to a task.
template <class Body>
void for_image_rows(int64_t images, int64_t rows, int64_t row_size, Body body) {
    const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, row_size));
    parallel_slices(images * rows, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) body(i / rows, i % rows);
    });
}

}  // namespace

void max_pool_forward(const ArrayView& x, const ArrayView& y, const ArrayView& index, int64_t kh, int64_t kw,
                      int64_t stride_h, int64_t stride_w, const Pads& pads) {
    const PoolShape s = pool_shape(x, kh, kw, stride_h, stride_w, pads);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        for_image_rows(x.shape[0], s.OH, s.OW * s.C * kh * kw, [&](int64_t n, int64_t oh) {
            const int64_t at = (n * s.OH + oh) * s.OW * s.C;
            kernels().pool(T{}).max_row(x.as<T>() + n * s.H * s.W * s.C, s, oh, y.as<T>() + at,
                                        index.as<uint8_t>() + at);
        });
    });
}

void max_pool_backward(const ArrayView& index, const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw,
                       int64_t stride_h, int64_t stride_w, const Pads& pads, bool half_accumulator) {
    const PoolShape s = pool_shape(dx, kh, kw, stride_h, stride_w, pads);
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        const int64_t windows = s.OH * s.OW * s.C;
        for_image_rows(dx.shape[0], s.H, s.W * s.C, [&](int64_t n, int64_t ih) {
            kernels().pool(T{}).max_gradient_row(index.as<uint8_t>() + n * windows, dy.as<T>() + n * windows, s, ih,
                                                 half_accumulator, dx.as<T>() + (n * s.H + ih) * s.W * s.C);
        });
    });
}

void avg_pool_forward(const ArrayView& x, const ArrayView& y, int64_t kh, int64_t kw, int64_t stride_h,
                      int64_t stride_w, const Pads& pads, bool half_accumulator) {
    const PoolShape s = pool_shape(x, kh, kw, stride_h, stride_w, pads);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        for_image_rows(x.shape[0], s.OH, s.OW * s.C * kh * kw, [&](int64_t n, int64_t oh) {
            kernels().pool(T{}).avg_row(x.as<T>() + n * s.H * s.W * s.C, s, oh, half_accumulator,
                                        y.as<T>() + (n * s.OH + oh) * s.OW * s.C);
        });
    });
}

void avg_pool_backward(const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw, int64_t stride_h,
                       int64_t stride_w, const Pads& pads, bool half_accumulator) {
    const PoolShape s = pool_shape(dx, kh, kw, stride_h, stride_w, pads);
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        for_image_rows(dx.shape[0], s.H, s.W * s.C, [&](int64_t n, int64_t ih) {
            kernels().pool(T{}).avg_gradient_row(dy.as<T>() + n * s.OH * s.OW * s.C, s, ih, half_accumulator,
                                                 dx.as<T>() + (n * s.H + ih) * s.W * s.C);
        });
    });
}

}  // namespace fp16engine::cpu
