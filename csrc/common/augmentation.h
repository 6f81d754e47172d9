// What is done to one image at random, and where a pixel of the result comes from; the same source for the processor
// and for the GPU's kernel, so that their bits agree. Compiled without contraction everywhere: every operation below is
// rounded by itself. backend/base.py, `augment`, has the formulas.
#pragma once
#include <cmath>

#include "common/philox.h"

namespace fp16engine {

// The options of a call. `brightness`, `low`, `high` and `fill` are values of the stored images.
struct Augmentation {
    bool flip_lr, flip_ud, mirrored;  // mirrored: what lies outside the image is its mirror image, else `fill`
    bool alternating;                 // flip_lr is drawn for epoch 0; odd epochs do the opposite
    int shift;
    float rotation, brightness, low, high, fill;
};

// What one sample gets in one epoch.
struct AugmentationDraw {
    bool flip_lr, flip_ud;
    int down, across;
    float sine, cosine, change;
};

// A pixel of the result lies between (row, column) and its lower right neighbours; both fractions are in [0, 1).
struct AugmentationSource {
    int row, column;
    float below, across;
};

constexpr uint32_t kAugmentationStream = 0x61756700u;  // "aug": the counter's last word; dropout's is 0

// In (-1, 1), symmetric about 0, exact.
FP16_HOST_DEVICE float augmentation_signed(uint32_t word) {
    return static_cast<float>(static_cast<int>(2 * (word >> 8) + 1) - (1 << 24)) * 0x1p-24f;
}

// In [-most, most].
FP16_HOST_DEVICE int augmentation_integer(uint32_t word, int most) {
    return static_cast<int>(static_cast<uint64_t>(word) * static_cast<uint64_t>(2 * most + 1) >> 32) - most;
}

// Taylor polynomials, good to FP32 up to half a turn; a library's functions differ from machine to machine.
FP16_HOST_DEVICE float augmentation_sine(float x) {
    constexpr float kTerms[] = {1.0f,
                                static_cast<float>(-1.0 / 6.0),
                                static_cast<float>(1.0 / 120.0),
                                static_cast<float>(-1.0 / 5040.0),
                                static_cast<float>(1.0 / 362880.0),
                                static_cast<float>(-1.0 / 39916800.0),
                                static_cast<float>(1.0 / 6227020800.0),
                                static_cast<float>(-1.0 / 1307674368000.0),
                                static_cast<float>(1.0 / 355687428096000.0)};
    const float square = x * x;
    float sum = kTerms[8];
    for (int i = 7; i >= 0; i--) sum = kTerms[i] + square * sum;
    return x * sum;
}
FP16_HOST_DEVICE float augmentation_cosine(float x) {
    constexpr float kTerms[] = {1.0f,
                                static_cast<float>(-1.0 / 2.0),
                                static_cast<float>(1.0 / 24.0),
                                static_cast<float>(-1.0 / 720.0),
                                static_cast<float>(1.0 / 40320.0),
                                static_cast<float>(-1.0 / 3628800.0),
                                static_cast<float>(1.0 / 479001600.0),
                                static_cast<float>(-1.0 / 87178291200.0),
                                static_cast<float>(1.0 / 20922789888000.0),
                                static_cast<float>(-1.0 / 6402373705728000.0)};
    const float square = x * x;
    float sum = kTerms[9];
    for (int i = 8; i >= 0; i--) sum = kTerms[i] + square * sum;
    return sum;
}

FP16_HOST_DEVICE AugmentationDraw augmentation_draw(const Augmentation& a, uint64_t seed, uint64_t sample,
                                                    uint32_t epoch) {
    const uint32_t low = static_cast<uint32_t>(sample), high = static_cast<uint32_t>(sample >> 32);
    const PhiloxWords first = philox(PhiloxWords{{low, high, epoch, kAugmentationStream}}, seed),
                      second = philox(PhiloxWords{{low, high, epoch, kAugmentationStream + 1}}, seed);
    const float angle = a.rotation * augmentation_signed(first.values[2]);
    uint32_t side = first.values[0] >> 31;
    if (a.alternating)
        side = philox(PhiloxWords{{low, high, 0, kAugmentationStream}}, seed).values[0] >> 31 ^ (epoch & 1);
    return {a.flip_lr && side != 0,
            a.flip_ud && first.values[1] >> 31 != 0,
            augmentation_integer(second.values[0], a.shift),
            augmentation_integer(second.values[1], a.shift),
            augmentation_sine(angle),
            augmentation_cosine(angle),
            a.brightness * augmentation_signed(first.values[3])};
}

FP16_HOST_DEVICE AugmentationSource augmentation_source(const Augmentation& a, const AugmentationDraw& d, int H, int W,
                                                        int row, int column) {
    const int r = (d.flip_ud ? H - 1 - row : row) + d.down, c = (d.flip_lr ? W - 1 - column : column) + d.across;
    if (a.rotation == 0.0f) return {r, c, 0.0f, 0.0f};
    const float middle = 0.5f * static_cast<float>(H - 1), centre = 0.5f * static_cast<float>(W - 1);
    const float u = static_cast<float>(r) - middle, v = static_cast<float>(c) - centre;
    const float y = (d.cosine * u + d.sine * v) + middle, x = (d.cosine * v - d.sine * u) + centre;
    const float top = floorf(y), left = floorf(x);
    return {static_cast<int>(top), static_cast<int>(left), y - top, x - left};
}

// The mirror image at an edge of n pixels, -1 -> 0, n -> n - 1; what is farther off than n takes the edge.
FP16_HOST_DEVICE int augmentation_mirrored(int i, int n) {
    if (i < 0) i = -1 - i;
    if (i >= n) i = 2 * n - 1 - i;
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

// The value at a source; pixel(row, column) reads one inside the image.
template <class Pixel>
FP16_HOST_DEVICE float augmentation_value(const Augmentation& a, const AugmentationDraw& d,
                                          const AugmentationSource& source, int H, int W, Pixel pixel) {
    const auto at = [&](int row, int column) {
        if (a.mirrored) return pixel(augmentation_mirrored(row, H), augmentation_mirrored(column, W));
        return row < 0 || row >= H || column < 0 || column >= W ? a.fill : pixel(row, column);
    };
    float value = at(source.row, source.column);
    if (a.rotation != 0.0f) {
        const float right = at(source.row, source.column + 1), below = at(source.row + 1, source.column),
                    opposite = at(source.row + 1, source.column + 1);
        const float upper = value + (right - value) * source.across, lower = below + (opposite - below) * source.across;
        value = upper + (lower - upper) * source.below;
    }
    if (a.brightness != 0.0f) {
        value = value + d.change;
        value = value < a.low ? a.low : value > a.high ? a.high : value;
    }
    return value;
}

}  // namespace fp16engine
