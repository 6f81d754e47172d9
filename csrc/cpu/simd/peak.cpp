// What the machine computes at best: chains of multiply-adds whose operands never leave the registers.
#include "cpu/simd/arithmetic.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

// Enough independent chains to hide the latency of two units, and few enough for the registers.
constexpr int kChains = kParts == 1 ? 16 : 12 / kParts;

FP16_KERNEL float multiply_adds(int64_t steps) {
    const f32x16 factor = 0.5f, addend = 1.0f;
    // Every lane begins with another value and all are read at the end: equal or unread ones a compiler leaves out.
    float lanes[kLanes], total = 0.0f;
    for (int lane = 0; lane < kLanes; lane++) lanes[lane] = static_cast<float>(lane);
    f32x16 sum[kChains];
    FP16_UNROLL_ALL
    for (int chain = 0; chain < kChains; chain++) sum[chain] = load(lanes) + static_cast<float>(chain * kLanes);
    for (int64_t step = 0; step < steps; step++) {
        FP16_UNROLL_ALL
        for (int chain = 0; chain < kChains; chain++) sum[chain] = multiply_add(sum[chain], factor, addend);
    }
    for (int chain = 0; chain < kChains; chain++) {
        store(lanes, sum[chain]);
        for (const float lane : lanes) total += lane;
    }
    return total;
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const PeakKernels peak_kernels = {multiply_adds, 2 * kChains * kLanes};

}  // namespace fp16engine::cpu::FP16_ISA
