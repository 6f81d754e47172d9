// Where values lie on binary16's number line: whether all are finite, and counts. The exponents of sixteen elements are
// cut out at once; four tables of counters take turns, so that equal neighbours do not wait for one another.
#include "cpu/simd/columns.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

FP16_INLINE f32x16 as_half(const half*, f32x16 v) { return v; }
template <class T>
FP16_INLINE f32x16 as_half(const T*, f32x16 v) {
    return round_half(v);
}

// found[...] += the counts of n elements; n < 2^31.
template <class T>
FP16_KERNEL void range_counts(const T* x, int64_t n, int64_t* found) {
    constexpr int kTables = 4, kExponents = 256;
    uint32_t exponents[kTables][kExponents] = {};
    i32x16 zeros = 0, nears = 0, infinities = 0, nans = 0;
    for_column_blocks(n, [&](int64_t i, auto lanes) {
        const f32x16 given = lanes.get(x + i);
        const i32x16 sign_off = 0x7fffffff, infinite = 0x7f800000;
        const i32x16 magnitude = bit_cast<i32x16>(given) & sign_off;
        const i32x16 stored = bit_cast<i32x16>(as_half(x, given)) & sign_off;
        zeros = zeros - (magnitude == 0);
        infinities = infinities - (magnitude == infinite);
        nans = nans - (magnitude > infinite);
        nears = nears - ((stored >= 0x46ffe000) & (stored < infinite));  // 32752
        int32_t exponent[kLanes];
        store(exponent, stored >> 23);
        const int count = static_cast<int>(n - i < kLanes ? n - i : kLanes);
        for (int j = 0; j < count; j++) exponents[j % kTables][exponent[j]]++;
    });
    const auto with_exponent = [&](int e) {
        int64_t total = 0;
        for (const auto& table : exponents) total += table[e + 127];
        return total;
    };
    const auto lanes_of = [](i32x16 v) {
        int64_t total = 0;
        for (int i = 0; i < kLanes; i++) total += v[i];
        return total;
    };
    const int64_t padding = (kLanes - n % kLanes) % kLanes;  // lanes after the end read as zero
    const int64_t zero = lanes_of(zeros) - padding, infinity = lanes_of(infinities), nan = lanes_of(nans);
    found[0] += zero;
    found[2] += lanes_of(nears);
    found[3] += infinity;
    found[4] += nan;
    found[5] += with_exponent(-127) - zero;
    for (int e = -24; e <= 15; e++) {
        found[6 + e + 24] += with_exponent(e);
        if (e < -14) found[1] += with_exponent(e);
    }
    found[46] += with_exponent(128) - infinity - nan;
}

// The exponent of an infinity or NaN is all ones; plain loops, which compilers vectorise.
bool all_finite(const half* x, int64_t n) {
    unsigned found = 0;
    for (int64_t i = 0; i < n; i++) found |= (x[i].bits & 0x7c00u) == 0x7c00u;
    return !found;
}

bool all_finite(const bfloat16* x, int64_t n) {
    unsigned found = 0;
    for (int64_t i = 0; i < n; i++) found |= (x[i].bits & 0x7f80u) == 0x7f80u;
    return !found;
}

bool all_finite(const float* x, int64_t n) {
    unsigned found = 0;
    for (int64_t i = 0; i < n; i++) found |= (bit_cast<uint32_t>(x[i]) & 0x7f800000u) == 0x7f800000u;
    return !found;
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<RangeKernels> range_kernels = {
    {range_counts<half>, all_finite}, {range_counts<float>, all_finite}, {range_counts<bfloat16>, all_finite}};

}  // namespace fp16engine::cpu::FP16_ISA
