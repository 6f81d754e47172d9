// The documented order of a binary16 sum, one sum per lane: blocks of 32 terms added one after the other, block sums
// merged by a binary counter, optionally halved at every merge (see cpu/strict_sum.h). With kHalf every partial sum is
// rounded to binary16; without, the same order stays in float32.
#pragma once
#include "cpu/simd/arithmetic.h"

namespace fp16engine {
namespace {

template <bool kHalf>
class BlockedSum {
public:
    explicit BlockedSum(bool halved = false) : half_(halved ? 0.5f : 1.0f) {}

    FP16_INLINE void add(f32x16 term) {
        block_ = partial(block_ + term);
        count();
    }

    // The product of two binary16 values joins the sum with one rounding; `product` is exact.
    FP16_INLINE void add_product(f32x16 product) {
        block_ = kHalf ? half_fma(product, 1.0f, block_) : block_ + product;
        count();
    }

    FP16_INLINE f32x16 finish() {
        if (terms_ % 32) merge();
        f32x16 total = {};
        bool first = true;
        float weight = 1.0f, factor = 1.0f;
        for (int level = 0; blocks_ >> level; level++) {
            if (level) {
                weight *= half_;
                factor /= half_;
            }
            if (!(blocks_ >> level & 1)) continue;
            total = first ? levels_[level] : partial(levels_[level] + total * weight);
            first = false;
            weight = 1.0f;
            result_factor_ = factor;
        }
        return total * result_factor_;
    }

private:
    static FP16_INLINE f32x16 partial(f32x16 sum) { return kHalf ? round_half(sum) : sum; }

    FP16_INLINE void count() {
        if (++terms_ % 32 == 0) merge();
    }

    FP16_INLINE void merge() {
        int level = 0;
        for (; blocks_ >> level & 1; level++) block_ = partial((levels_[level] + block_) * half_);
        levels_[level] = block_;
        blocks_++;
        block_ = f32x16{};
    }

    float half_, result_factor_ = 1.0f;
    f32x16 block_ = {};
    f32x16 levels_[48];  // 2^48 blocks
    int64_t terms_ = 0, blocks_ = 0;
};

}  // namespace
}  // namespace fp16engine
