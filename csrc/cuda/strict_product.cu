// Launches the products and convolutions with binary16 accumulators of kernels/strict_product.cuh.
#include "kernels/strict_product.cuh"

#include <climits>

#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {
namespace {

// Few outputs of many terms would leave most of the GPU idle, so their blocks of terms are spread over it.
constexpr int64_t kFewOutputs = 1 << 16, kManyBlocks = 8, kMaxPartials = 1 << 25;

template <class Product>
void run(const Product& product, int64_t terms, const StrictStore& store, const ArrayView& y, int64_t accumulator) {
    expect(accumulator >= 1, "accumulator must be at least 1, got " + std::to_string(accumulator));
    const bool chunked = accumulator > 1;
    const int64_t length = chunked ? accumulator : kStrictBlock, outputs = y.size(),
                  blocks = ceil_divide(terms, length);
    if (outputs == 0) return;
    expect(chunked || blocks < (int64_t{1} << kProductLevels),
           "terms of a binary16 sum must be fewer than 2^25, got " + std::to_string(terms));
    const auto ys = pointer<__half>(y);
    if (outputs > kFewOutputs || blocks < kManyBlocks || blocks * outputs > kMaxPartials) {
        if (chunked)
            FP16_LAUNCH((chunked_product_kernel<Product>), grid_for(outputs), kBlock, product, store, ys, outputs,
                        length);
        else
            FP16_LAUNCH((strict_product_kernel<Product>), grid_for(outputs), kBlock, product, store, ys, outputs);
        return;
    }
    const Workspace workspace(blocks * outputs);
    const Ptr<float> partial = workspace.get();
    FP16_LAUNCH((strict_product_block_kernel<Product>), grid_for(blocks * outputs), kBlock, product, partial, outputs,
                blocks, length);
    if (chunked)
        FP16_LAUNCH(chunked_product_merge_kernel, grid_for(outputs), kBlock, partial, store, ys, outputs, blocks);
    else
        FP16_LAUNCH(strict_product_merge_kernel, grid_for(outputs * kWarpSize), kBlock, partial, store, ys, outputs,
                    blocks);
}

StrictConvShape conv_shape(const ArrayView& x, const ArrayView& w, const ArrayView& y, int64_t stride_h,
                           int64_t stride_w, const Pads& pads, int64_t groups) {
    const int64_t C = x.shape[3], K = w.shape[0];
    const int64_t OH = (x.shape[1] + pads[0] + pads[1] - w.shape[1]) / stride_h + 1,
                  OW = (x.shape[2] + pads[2] + pads[3] - w.shape[2]) / stride_w + 1;
    expect_dtype("x", x, DType::float16);
    for (const ArrayView* array : {&x, &w, &y})
        for (int axis = 0; axis < 4; axis++)
            expect(array->shape[axis] <= INT_MAX, "extents must be below 2^31, got " + array->describe());
    const auto size = [](int64_t n) { return static_cast<int>(n); };
    return {size(x.shape[0]), size(x.shape[1]), size(x.shape[2]), size(C),          size(K),
            size(w.shape[1]), size(w.shape[2]), size(OH),         size(OW),         size(stride_h),
            size(stride_w),   size(pads[0]),    size(pads[2]),    size(C / groups), size(K / groups)};
}

}  // namespace

void strict_matmul(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
                   bool transpose_b, double scale, int64_t accumulator) {
    const int64_t M = a.dim(transpose_a ? -1 : -2), K = a.dim(transpose_a ? -2 : -1);
    const int64_t N = b.dim(transpose_b ? -2 : -1);
    expect_dtype("a", a, DType::float16);
    if (c.size() == 0) return;
    const StrictMatrices product = {
        pointer<const __half>(a), pointer<const __half>(b), M, N, K, transpose_a ? 1 : K, transpose_a ? M : 1,
        transpose_b ? K : 1,      transpose_b ? 1 : N};
    run(product, K, {pointer<const __half>(bias), N, static_cast<float>(scale)}, c, accumulator);
}

void strict_conv2d_forward(const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y,
                           int64_t stride_h, int64_t stride_w, const Pads& pads, int64_t groups, int64_t accumulator) {
    const StrictConvShape s = conv_shape(x, w, y, stride_h, stride_w, pads, groups);
    const StrictConvForward product = {pointer<const __half>(x), pointer<const __half>(w), s};
    run(product, int64_t{s.R} * s.S * s.Cg, {pointer<const __half>(bias), s.K, 1.0f}, y, accumulator);
}

void strict_conv2d_backward(const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                            const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w,
                            const Pads& pads, int64_t groups, int64_t accumulator) {
    const StrictConvShape s = conv_shape(x, w, dy, stride_h, stride_w, pads, groups);
    const StrictStore plain = {{}, 1, 1.0f};
    if (dx) {
        const StrictConvDataGradient product = {pointer<const __half>(dy), pointer<const __half>(w), s};
        run(product, int64_t{s.R} * s.S * s.Kg, plain, dx, accumulator);
    }
    if (dw) {
        const StrictConvWeightGradient product = {pointer<const __half>(x), pointer<const __half>(dy), s};
        run(product, int64_t{s.N} * s.OH * s.OW, plain, dw, accumulator);
    }
    if (db) {
        reduce("sum", dy, db, 1, int64_t{s.N} * s.OH * s.OW, s.K, accumulator == 1);
    }
}

}  // namespace fp16engine::gpu
