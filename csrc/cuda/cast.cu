#include "kernels/cast.cuh"

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/ops.h"

namespace fp16engine::gpu {
namespace {

template <class From>
void cast_from(const ArrayView& x, const ArrayView& y) {
    with_storage("y", y.dtype, [&](auto to) {
        using To = decltype(to);
        constexpr int kWidth = kCastWidth<From, To>;
        const int64_t n = x.size();
        const bool whole = aligned(x, kWidth * sizeof(From)) && aligned(y, kWidth * sizeof(To));
        const int64_t vectors = whole ? n / kWidth : 0;
        const auto xs = pointer<const From>(x);
        const auto ys = pointer<To>(y);
        const unsigned grid = grid_for(std::max(ceil_divide(vectors, 4), n - vectors * kWidth));
        FP16_LAUNCH((cast_kernel<From, To>), grid, kBlock, xs, ys, n, vectors);
    });
}

}  // namespace

void cast(const ArrayView& x, const ArrayView& y) {
    if (x.size() == 0) return;
    switch (x.dtype) {
        case DType::float16:
            return cast_from<__half>(x, y);
        case DType::bfloat16:
            fail("x must be float16, float32 or integers, got " + x.describe());
        case DType::float32:
            return cast_from<float>(x, y);
        case DType::uint8:
            return cast_from<uint8_t>(x, y);
        case DType::int32:
            return cast_from<int32_t>(x, y);
        case DType::int64:
            return cast_from<int64_t>(x, y);
    }
}

}  // namespace fp16engine::gpu
