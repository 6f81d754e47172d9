// Launches the kernel of kernels/augment.cuh.
#include "kernels/augment.cuh"

#include <algorithm>
#include <climits>

#include "cuda/ops.h"
#include "cuda/wide.h"

namespace fp16engine::gpu {

void augment(const ArrayView& data, const ArrayView& index, const ArrayView& clock, const ArrayView& y, uint64_t seed,
             int64_t epoch, bool flip_lr, bool flip_ud, double rotation, int64_t shift, double brightness, double low,
             double high, bool mirrored, double fill, bool alternating) {
    const int64_t R = data.shape[0], H = data.shape[1], W = data.shape[2], C = data.shape[3], B = index.shape[0];
    expect(H * W * C <= INT_MAX / 2 && B <= INT_MAX,
           "data must be small enough for 32-bit indices, got " + data.describe());
    if (y.size() == 0) return;
    expect(R > 0, "data must have at least one image, got " + data.describe());
    const Augmentation a{flip_lr,
                         flip_ud,
                         mirrored,
                         alternating,
                         static_cast<int>(shift),
                         static_cast<float>(rotation),
                         static_cast<float>(brightness),
                         static_cast<float>(low),
                         static_cast<float>(high),
                         static_cast<float>(fill)};
    const AugmentShape s{R, static_cast<int>(B), static_cast<int>(H), static_cast<int>(W), static_cast<int>(C)};
    // Four values a thread, if the batch fills the GPU without more blocks.
    const int64_t parts = std::min<int64_t>(ceil_divide(H * W * C, 4 * kBlock), 65535);
    const Dim3 grid(static_cast<unsigned>(B), static_cast<unsigned>(parts));
    const auto ids = pointer<const int64_t>(index), at = pointer<const int64_t>(clock);
    const auto number = static_cast<unsigned>(epoch);
    with_storage("data", data.dtype, [&](auto type) {
        using T = decltype(type);
        const auto from = pointer<const T>(data);
        const auto to = pointer<T>(y);
        FP16_LAUNCH((augment_kernel<T>), grid, kBlock, from, ids, at, to, a, s, seed, number);
    });
}

}  // namespace fp16engine::gpu
