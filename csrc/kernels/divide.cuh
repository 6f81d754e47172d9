// Division of an index by a number the host knows: a multiplication and a shift instead of some twenty instructions.
// Exact for dividends and divisors below 2^31 (Granlund and Montgomery, Division by Invariant Integers, 1994).
#pragma once
#include "kernels/device.cuh"

namespace fp16engine::gpu {

constexpr int64_t kMaxIndices = int64_t{1} << 31;

struct Divider {
    unsigned divisor = 1, magic = 1, shift = 0;

    Divider() = default;
    explicit Divider(int64_t by) : divisor(static_cast<unsigned>(by)) {
        while ((int64_t{1} << shift) < by) shift++;
        magic = static_cast<unsigned>((((int64_t{1} << shift) - by) << 32) / by + 1);
    }

    __device__ __forceinline__ unsigned divide(unsigned n) const { return (__umulhi(n, magic) + n) >> shift; }

    // Leaves the quotient in n, returns the remainder.
    __device__ __forceinline__ unsigned split(unsigned& n) const {
        const unsigned quotient = divide(n), rest = n - quotient * divisor;
        n = quotient;
        return rest;
    }
};

}  // namespace fp16engine::gpu
