// What a kernel source sees instead of CUDA when it is compiled by an ordinary C++ compiler.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "simt/machine.h"

struct float2 {
    float x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

#include "simt/fp16.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define FP16_UNROLL
#define __grid_constant__
#define FP16_TABLE(...) const __VA_ARGS__&
#define __shared__ static thread_local
#define __syncthreads() simt::barrier(__func__)
#define threadIdx (simt::thread->index)
#define blockIdx (simt::block->index)
#define blockDim (simt::block->size)
#define gridDim (simt::block->grid)

inline int __syncthreads_or(int predicate) { return simt::barrier_or(predicate); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { simt::warp_barrier(mask, "__syncwarp"); }
template <class T>
T __shfl_sync(unsigned mask, T value, int source) {
    return simt::exchange_as(mask, value, static_cast<unsigned>(source));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return simt::exchange_as(mask, value, simt::lane() ^ static_cast<unsigned>(bits));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    const unsigned from = simt::lane() + delta;
    return simt::exchange_as(mask, value, from < simt::kWarp ? from : simt::lane());
}
inline unsigned __ballot_sync(unsigned mask, int predicate) { return simt::ballot(mask, predicate != 0); }
inline unsigned __match_any_sync(unsigned mask, int value) {
    return simt::match_any(mask, static_cast<unsigned>(value));
}

// Integer counters only: the order of float additions would differ from run to run.
inline int atomicAdd(int* p, int value) { return __atomic_fetch_add(p, value, __ATOMIC_RELAXED); }
inline int atomicOr(int* p, int value) { return __atomic_fetch_or(p, value, __ATOMIC_RELAXED); }
inline int atomicMax(int* p, int value) {
    int before = __atomic_load_n(p, __ATOMIC_RELAXED);
    while (before < value &&
           !__atomic_compare_exchange_n(p, &before, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return before;
}
inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long value) {
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline float __ldcg(const float* p) { return *p; }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32); }
inline float __int_as_float(int bits) { return fp16engine::bits_float(static_cast<uint32_t>(bits)); }
inline int __float_as_int(float value) { return static_cast<int>(fp16engine::float_bits(value)); }

namespace fp16engine::gpu {

// A pointer that knows its array: reading or writing outside it, or a vector access off its alignment, is an error.
template <class T>
class Ptr {
public:
    Ptr() = default;
    Ptr(T* base, int64_t size) : base_(base), size_(size) {}
    // A pointer to mutable elements serves as one to constant elements.
    template <class U, class = std::enable_if_t<std::is_same_v<T, const U>>>
    Ptr(const Ptr<U>& other) : base_(other.base()), size_(other.size()), offset_(other.offset()) {}

    T& operator[](int64_t i) const {
        check(i, 1);
        return base_[offset_ + i];
    }
    T& operator*() const { return (*this)[0]; }
    Ptr operator+(int64_t n) const {
        Ptr moved = *this;
        moved.offset_ += n;
        return moved;
    }
    explicit operator bool() const { return base_ != nullptr; }

    T* vector(int64_t count) const {
        check(0, count);
        T* const p = base_ + offset_;
        if (reinterpret_cast<uintptr_t>(p) % (count * sizeof(T)) != 0)
            simt::fail("a vector access of " + std::to_string(count * sizeof(T)) + " bytes is not aligned");
        return p;
    }

    T* base() const { return base_; }
    int64_t size() const { return size_; }
    int64_t offset() const { return offset_; }

private:
    void check(int64_t first, int64_t count) const {
        if (offset_ + first < 0 || offset_ + first + count > size_)
            simt::fail("element " + std::to_string(offset_ + first) + " of an array of " + std::to_string(size_) +
                       " was accessed: out of bounds");
    }
    T* base_ = nullptr;
    int64_t size_ = 0, offset_ = 0;
};

template <class T>
T* vector_pointer(const Ptr<T>& p, int64_t count) {
    return p.vector(count);
}

template <int kBytes>
void move_bytes(void* to, const void* from) {
    std::memcpy(to, from, kBytes);
}

// Shared memory that is poisoned for every block and remembers who touched an element since the last synchronisation:
// two threads, one of them writing, with no barrier between is a race. Threads of one warp may also order themselves by
// warp-wide operations.
template <class T, int N>
class Shared {
public:
    class Element {
    public:
        Element(Shared& owner, int i) : owner_(owner), i_(i) {}
        operator T() const {
            owner_.note(i_, false);
            return owner_.values_[i_];
        }
        T operator=(T value) const {
            owner_.note(i_, true);
            return owner_.values_[i_] = value;
        }
        T operator=(const Element& other) const { return *this = static_cast<T>(other); }
        T operator+=(T value) const { return *this = static_cast<T>(*this) + value; }

    private:
        Shared& owner_;
        int i_;
    };

    Element operator[](int i) {
        if (i < 0 || i >= N)
            simt::fail("shared element " + std::to_string(i) + " of " + std::to_string(N) +
                       " was accessed: out of bounds");
        return Element(*this, i);
    }

    // Elements i to i + count - 1 in one access: the same checks, and the alignment a GPU asks for.
    void read(int i, int count, T* to) {
        if (i % count != 0) simt::fail("a vector access of shared element " + std::to_string(i) + " is not aligned");
        for (int k = 0; k < count; k++) to[k] = (*this)[i + k];
    }

private:
    struct Access {
        uint32_t thread = ~0u, epoch = 0, warp_epoch = 0;
    };

    static bool ordered(const Access& earlier, uint32_t epoch, uint32_t warp_epoch) {
        const uint32_t me = simt::thread->linear;
        if (earlier.thread == ~0u || earlier.thread == me || earlier.epoch != epoch) return true;
        return earlier.thread / simt::kWarp == me / simt::kWarp && earlier.warp_epoch != warp_epoch;
    }

    void note(int i, bool write) {
        if (generation_ != simt::block->generation) {
            generation_ = simt::block->generation;
            std::memset(values_, 0xff, sizeof values_);
            for (int k = 0; k < N; k++) writes_[k] = reads_[k] = other_reads_[k] = Access{};
        }
        const uint32_t me = simt::thread->linear, epoch = simt::block->epoch;
        const uint32_t warp_epoch = simt::block->warps[me / simt::kWarp].epoch;
        for (const Access* earlier : {&writes_[i], &reads_[i], &other_reads_[i]}) {
            if (!write && earlier != &writes_[i]) break;
            if (!ordered(*earlier, epoch, warp_epoch))
                simt::fail("a race on shared element " + std::to_string(i) + ": threads " +
                           std::to_string(earlier->thread) + " and " + std::to_string(me) +
                           " touch it with no barrier between");
        }
        const Access now = {me, epoch, warp_epoch};
        if (write)
            writes_[i] = now;
        else if (reads_[i].thread == me || reads_[i].epoch != epoch || reads_[i].thread == ~0u)
            reads_[i] = now;
        // Two readers are kept, of different warps if there are such: whoever writes later collides with one of them.
        else if (other_reads_[i].epoch != epoch || other_reads_[i].thread == ~0u ||
                 me / simt::kWarp != reads_[i].thread / simt::kWarp)
            other_reads_[i] = now;
    }

    T values_[N];
    Access writes_[N], reads_[N], other_reads_[N];
    uint64_t generation_ = 0;
};

}  // namespace fp16engine::gpu
