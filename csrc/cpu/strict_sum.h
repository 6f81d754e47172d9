// Combines the block sums of a binary16 reduction: a binary counter of partial sums, so error grows with log(n), not n.
// Equal levels merge as fl16(older + newer); at the end the leftovers are folded from the newest to the oldest.
// A sum that is only used divided by the number of its terms is kept halved at every merge, fl16((older + newer) /
// 2): the same rounding, but it cannot overflow where the mean does not (131 072 squares of about 1 are more than 65
// 504).
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/simd/kernels.h"

namespace fp16engine::cpu {

constexpr int64_t kStrictBlock = 32;  // terms summed one after the other

inline int strict_levels(int64_t terms) {
    int levels = 1;
    for (int64_t blocks = (terms + kStrictBlock - 1) / kStrictBlock; blocks > 1; blocks /= 2) levels++;
    return levels;
}

class StrictSum {
public:
    // levels: strict_levels(terms) rows of `width` floats, owned by the caller
    StrictSum(float* levels, int64_t width, bool halved = false) : levels_(levels), width_(width), halved_(halved) {}

    // Takes the next block sum; `block` is clobbered.
    void add(float* block) {
        int level = 0;
        for (; count_ >> level & 1; level++)
            kernels().gemm.add_half(levels_ + level * width_, block, block, width_, 1.0f, halved_ ? 0.5f : 1.0f);
        std::memcpy(levels_ + level * width_, block, static_cast<size_t>(width_) * sizeof(float));
        count_++;
    }

    // Returns the factor by which `total` must be multiplied to be the sum: 1 unless halved.
    float finish(float* total) const {
        bool first = true;
        float weight = 1.0f, factor = 1.0f, level_factor = 1.0f;
        for (int level = 0; count_ >> level; level++) {
            if (level > 0 && halved_) {
                weight *= 0.5f;
                level_factor *= 2.0f;
            }
            if (!(count_ >> level & 1)) continue;
            const float* older = levels_ + level * width_;
            if (first)
                std::memcpy(total, older, static_cast<size_t>(width_) * sizeof(float));
            else
                kernels().gemm.add_half(older, total, total, width_, weight, 1.0f);
            first = false;
            weight = 1.0f;
            factor = level_factor;
        }
        if (first) std::fill(total, total + width_, 0.0f);
        return factor;
    }

private:
    float* levels_;
    int64_t width_;
    bool halved_;
    int64_t count_ = 0;
};

}  // namespace fp16engine::cpu
