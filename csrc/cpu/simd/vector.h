// Sixteen float lanes on every instruction set, held in parts as wide as its registers: one zmm, two ymm, or four
// 16-byte ones. (GCC keeps a vector that is wider than a register in memory.)
// The logical width never changes, so partial sums, and with them the bits of every kernel here, are the same on all of
// them. Included only by translation units compiled for one instruction set; nothing here may have external linkage.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fp16engine {
namespace {

#if defined(__SANITIZE_ADDRESS__)
// With its checks around every lane, a loop with all it calls inlined takes the compiler many minutes.
#define FP16_ALWAYS_INLINE
#define FP16_KERNEL
#else
#define FP16_ALWAYS_INLINE __attribute__((always_inline))
// An entry of the table of loops. Whatever it calls is inlined: lanes handed to a function would go through memory.
#define FP16_KERNEL __attribute__((flatten))
#endif
#define FP16_INLINE inline FP16_ALWAYS_INLINE

#if defined(__AVX512F__)
constexpr int kPartBytes = 64;
#elif defined(__AVX2__)
constexpr int kPartBytes = 32;
#else
constexpr int kPartBytes = 16;
#endif
constexpr int kLanes = 16, kParts = 64 / kPartBytes, kPartLanes = kLanes / kParts;

// Before a loop over parts: they stay in registers only if no loop is left.
#if defined(__clang__)
#define FP16_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FP16_UNROLL _Pragma("GCC unroll 4")
#endif
// Before a loop over a constant number of vectors, for the same reason.
#if defined(__clang__)
#define FP16_UNROLL_ALL FP16_UNROLL
#else
#define FP16_UNROLL_ALL _Pragma("GCC unroll 32")
#endif

// --- the type: 64 bytes of lanes ------------------------------------------------------------------------------------

template <class T>
struct Vector;

// result.part = function(parts of the operands)
template <class T, class Function, class... Operand>
FP16_INLINE Vector<T> each_part(Function function, const Operand&... operand) {
    Vector<T> result;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) result.part[i] = function(operand.part[i]...);
    return result;
}

// A plain number stands for a vector full of it. Comparisons, of 32-bit lanes only, give lanes of -1 (true) and 0.
template <class T>
struct Vector {
    typedef T Part __attribute__((vector_size(kPartBytes)));
    Part part[kParts];

    Vector() = default;
    FP16_INLINE Vector(T value) {
        FP16_UNROLL
        for (int i = 0; i < kParts; i++) part[i] = value - Part{};
    }

    FP16_INLINE T operator[](int lane) const { return part[lane / kPartLanes][lane % kPartLanes]; }

#define FP16_OPERATOR(Result, op)                                              \
    friend FP16_INLINE Vector<Result> operator op(Vector a, Vector b) {        \
        return each_part<Result>([](Part x, Part y) { return x op y; }, a, b); \
    }
    FP16_OPERATOR(T, +)
    FP16_OPERATOR(T, -)
    FP16_OPERATOR(T, *)
    FP16_OPERATOR(T, /)
    FP16_OPERATOR(T, &)
    FP16_OPERATOR(T, |)
    FP16_OPERATOR(T, ^)
    FP16_OPERATOR(int32_t, ==)
    FP16_OPERATOR(int32_t, !=)
    FP16_OPERATOR(int32_t, <)
    FP16_OPERATOR(int32_t, <=)
    FP16_OPERATOR(int32_t, >)
    FP16_OPERATOR(int32_t, >=)
#undef FP16_OPERATOR

    friend FP16_INLINE Vector& operator+=(Vector& a, Vector b) { return a = a + b; }
    friend FP16_INLINE Vector operator-(Vector v) {
        return each_part<T>([](Part x) { return -x; }, v);
    }
    friend FP16_INLINE Vector operator~(Vector v) {
        return each_part<T>([](Part x) { return ~x; }, v);
    }
    friend FP16_INLINE Vector operator<<(Vector v, int bits) {
        return each_part<T>([=](Part x) { return x << bits; }, v);
    }
    friend FP16_INLINE Vector operator>>(Vector v, int bits) {  // arithmetic where T is signed
        return each_part<T>([=](Part x) { return x >> bits; }, v);
    }
};

typedef Vector<float> f32x16;
typedef Vector<int32_t> i32x16;
typedef Vector<uint32_t> u32x16;
typedef Vector<uint64_t> u64x8;

template <class To, class From>
FP16_INLINE To bit_cast(From from) {
    To to;
    static_assert(sizeof to == sizeof from, "bit_cast keeps the size");
    std::memcpy(&to, &from, sizeof to);
    return to;
}

template <class To, class From>
FP16_INLINE To bit_cast(Vector<From> from) {
    To to;
    FP16_UNROLL
    for (int i = 0; i < kParts; i++) to.part[i] = (typename To::Part)from.part[i];
    return to;
}

FP16_INLINE f32x16 to_floats(i32x16 v) {
    return each_part<float>([](i32x16::Part x) { return __builtin_convertvector(x, f32x16::Part); }, v);
}

// Whether the mask is true in a lane.
FP16_INLINE bool any(i32x16 mask) {
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)mask.part[0], (__m512i)mask.part[0]) != 0;
#elif defined(__AVX2__)
    return _mm256_movemask_ps((__m256)(mask.part[0] | mask.part[1])) != 0;
#else
    int32_t found = 0;
    for (int lane = 0; lane < kLanes; lane++) found |= mask[lane];
    return found != 0;
#endif
}

// a where the mask is true, b elsewhere
FP16_INLINE f32x16 select(i32x16 mask, f32x16 a, f32x16 b) {
    return each_part<float>([](auto m, auto x, auto y) { return m ? x : y; }, mask, a, b);
}
FP16_INLINE i32x16 select(i32x16 mask, i32x16 a, i32x16 b) {
    return each_part<int32_t>([](auto m, auto x, auto y) { return m ? x : y; }, mask, a, b);
}

}  // namespace
}  // namespace fp16engine
