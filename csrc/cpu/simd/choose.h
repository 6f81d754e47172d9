// Lane-wise `a < b ? x : y`. Written on sixteen lanes, GCC compares one lane at a time where the machine has no register
// that wide, so the comparison is done in parts of the width there is.
#pragma once
#include "cpu/simd/vector.h"

namespace fp16engine {
namespace {

#if defined(__AVX512F__)
constexpr int kPartBytes = 64;
#elif defined(__AVX__)
constexpr int kPartBytes = 32;
#else
constexpr int kPartBytes = 16;
#endif
typedef float f32part __attribute__((vector_size(kPartBytes)));

struct Less {
    static FP16_INLINE f32part pick(f32part a, f32part b, f32part x, f32part y) { return a < b ? x : y; }
};
struct LessEqual {
    static FP16_INLINE f32part pick(f32part a, f32part b, f32part x, f32part y) { return a <= b ? x : y; }
};
struct Equal {
    static FP16_INLINE f32part pick(f32part a, f32part b, f32part x, f32part y) { return a == b ? x : y; }
};

template <class Compare>
FP16_INLINE f32x16 choose(f32x16 a, f32x16 b, f32x16 x, f32x16 y) {
    f32x16 result;
    for (int part = 0; part < 64 / kPartBytes; part++) {
        f32part parts[4];
        const f32x16* const from[4] = {&a, &b, &x, &y};
        for (int i = 0; i < 4; i++) std::memcpy(&parts[i], reinterpret_cast<const char*>(from[i]) + part * kPartBytes, kPartBytes);
        const f32part picked = Compare::pick(parts[0], parts[1], parts[2], parts[3]);
        std::memcpy(reinterpret_cast<char*>(&result) + part * kPartBytes, &picked, kPartBytes);
    }
    return result;
}

// NaN in a comparison chooses the last argument.
FP16_INLINE f32x16 if_less(f32x16 a, f32x16 b, f32x16 x, f32x16 y) { return choose<Less>(a, b, x, y); }
FP16_INLINE f32x16 if_less_equal(f32x16 a, f32x16 b, f32x16 x, f32x16 y) { return choose<LessEqual>(a, b, x, y); }
FP16_INLINE f32x16 if_equal(f32x16 a, f32x16 b, f32x16 x, f32x16 y) { return choose<Equal>(a, b, x, y); }

}  // namespace
}  // namespace fp16engine
