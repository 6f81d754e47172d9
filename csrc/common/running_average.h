// What batch normalisation has in common on every device: the shares of a running average, the scale of strict sums.
#pragma once
#include <cstdint>
#include <cstring>

#include "common/host_device.h"

namespace fp16engine {

// What is kept of a running average and what is taken of the batch. updates: how many there are with this one; the t-th
// takes 10 / (t + 9), the first so all of it, but at least 1 - m. 0: uncounted, 1 - m is taken.
struct RunningShares {
    float kept, taken;

    FP16_HOST_DEVICE RunningShares(double momentum, int64_t updates) {
        const double least = 1.0 - momentum, young = updates > 0 ? 10.0 / (static_cast<double>(updates) + 9.0) : 0.0;
        const double share = momentum < 1.0 && young > least ? young : least;
        taken = static_cast<float>(share);
        kept = static_cast<float>(share > least ? 1.0 - share : momentum);
    }
};

// The power of two that puts the largest |x| of a column into [8, 16), so that 32 squared distances from the mean fit
// binary16; 1 for 0, infinity and NaN. largest: of binary16 values, so no subnormal.
FP16_HOST_DEVICE float strict_scale(float largest) {
    uint32_t bits;
    memcpy(&bits, &largest, sizeof bits);
    const uint32_t exponent = bits >> 23;
    bits = exponent == 0 || exponent == 255 ? 127u << 23 : (257u - exponent) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

}  // namespace fp16engine
