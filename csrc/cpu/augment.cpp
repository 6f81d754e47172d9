// Batches of randomly flipped, shifted, rotated and brightened images (common/augmentation.h), image by image: one is
// converted to float scratch, and every value of the result is rounded once.
#include "common/augmentation.h"

#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {

void augment(const ArrayView& data, const ArrayView& index, const ArrayView& clock, const ArrayView& y, uint64_t seed,
             int64_t epoch, bool flip_lr, bool flip_ud, double rotation, int64_t shift, double brightness, double low,
             double high, bool mirrored, double fill, bool alternating) {
    const int64_t R = data.shape[0], B = index.size();
    const int H = static_cast<int>(data.shape[1]), W = static_cast<int>(data.shape[2]),
              C = static_cast<int>(data.shape[3]);
    const int64_t* const ids = index.as<int64_t>();
    for (int64_t i = 0; i < B; i++)
        expect(ids[i] >= 0 && ids[i] < R,
               "index must be an image in [0, " + std::to_string(R) + "), got " + std::to_string(ids[i]));
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
    const auto number = static_cast<uint32_t>(clock ? *clock.as<int64_t>() : epoch);
    const int64_t size = int64_t{H} * W * C;
    with_storage("data", data.dtype, [&](auto type) {
        using T = decltype(type);
        parallel_for(B, [&](int64_t image, int) {
            const Scratch scratch(2 * size);
            float* const from = scratch.get();
            float* const to = from + size;
            to_floats(data.as<T>() + ids[image] * size, from, size);
            const AugmentationDraw draw = augmentation_draw(a, seed, static_cast<uint64_t>(ids[image]), number);
            for (int row = 0; row < H; row++)
                for (int column = 0; column < W; column++) {
                    const AugmentationSource source = augmentation_source(a, draw, H, W, row, column);
                    for (int channel = 0; channel < C; channel++)
                        to[(row * W + column) * C + channel] = augmentation_value(
                            a, draw, source, H, W, [&](int r, int c) { return from[(r * W + c) * C + channel]; });
                }
            from_floats(to, y.as<T>() + image * size, size);
        });
    });
}

}  // namespace fp16engine::cpu
