#include "cpu/gelu_table.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <vector>

#include "common/fork.h"
#include "cpu/simd/kernels.h"

namespace fp16engine::cpu {
namespace {

constexpr int64_t kHalves = 1 << 16, kBlock = 512;

struct Table {
    std::vector<half> value;   // 128 KiB
    std::vector<float> slope;  // 256 KiB

    Table() : value(kHalves), slope(kHalves) {
        std::vector<half> x(kHalves);
        for (int64_t i = 0; i < kHalves; i++) x[static_cast<size_t>(i)].bits = static_cast<uint16_t>(i);
        kernels().elementwise(half{}).unary(Unary::gelu, x.data(), value.data(), kHalves);
        std::vector<float> floats(kHalves);
        const std::vector<float> ones(kHalves, 1.0f);
        kernels().convert.half_to_float(x.data(), floats.data(), kHalves);
        kernels().elementwise(float{}).unary_backward(Unary::gelu, floats.data(), ones.data(), slope.data(), kHalves);
    }
};

std::mutex guard;
[[maybe_unused]] const bool fork_is_safe = [] {
    hold_across_fork(ForkLock::tables, guard);
    return true;
}();

// Made at the first call, and kept: arrays may outlive every static object.
const Table& table() {
    static const Table* made = nullptr;
    const std::lock_guard<std::mutex> lock(guard);
    if (!made) made = new Table;
    return *made;
}

}  // namespace

void gelu_by_table(const half* x, half* y, int64_t n) {
    const half* const value = table().value.data();
    for (int64_t i = 0; i < n; i++) y[i] = value[x[i].bits];
}

void gelu_backward_by_table(const half* x, const half* dy, half* dx, int64_t n) {
    const float* const slope = table().slope.data();
    float block[kBlock];
    for (int64_t first = 0; first < n; first += kBlock) {
        const int64_t count = std::min(kBlock, n - first);
        kernels().convert.half_to_float(dy + first, block, count);
        for (int64_t i = 0; i < count; i++) block[i] *= slope[x[first + i].bits];
        kernels().convert.float_to_half(block, dx + first, count);
    }
}

}  // namespace fp16engine::cpu
