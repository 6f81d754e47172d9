// Elementwise functions of one or two arrays. Registers are float32; each result is rounded once, at the store.
// Per element: one read of each array and one write. All but gelu and general powers run at the speed of memory.
#include "cpu/simd/columns.h"
#include "cpu/simd/math.h"
#include "cpu/simd/tables.h"

namespace fp16engine {
namespace {

struct Add {
    static FP16_INLINE f32x16 of(f32x16 a, f32x16 b) { return a + b; }
};
struct Sub {
    static FP16_INLINE f32x16 of(f32x16 a, f32x16 b) { return a - b; }
};
struct Mul {
    static FP16_INLINE f32x16 of(f32x16 a, f32x16 b) { return a * b; }
};
struct Div {
    static FP16_INLINE f32x16 of(f32x16 a, f32x16 b) { return a / b; }
};

// One register per row: an operand that does not vary along the columns.
template <class T>
FP16_INLINE f32x16 row_value(const cpu::Operand<T>& operand, int64_t r) {
    return operand.data ? to_float(operand.data[r * operand.row]) : operand.constant;
}

template <class Op, class T>
void binary_of(const cpu::Operand<T>& a, const cpu::Operand<T>& b, int64_t rows, int64_t n, T* y) {
    for (int64_t r = 0; r < rows; r++, y += n) {
        const T* const left = a.data + r * a.row;
        const T* const right = b.data + r * b.row;
        if (a.varies && b.varies) {
            for_column_blocks(
                n, [&](int64_t i, auto lanes) { lanes.put(y + i, Op::of(lanes.get(left + i), lanes.get(right + i))); });
        } else if (a.varies) {
            const f32x16 value = row_value(b, r);
            for_column_blocks(n, [&](int64_t i, auto lanes) { lanes.put(y + i, Op::of(lanes.get(left + i), value)); });
        } else {
            const f32x16 value = row_value(a, r);
            for_column_blocks(n, [&](int64_t i, auto lanes) { lanes.put(y + i, Op::of(value, lanes.get(right + i))); });
        }
    }
}

template <class T>
FP16_KERNEL void binary(cpu::Binary op, const cpu::Operand<T>& a, const cpu::Operand<T>& b, int64_t rows, int64_t n,
                        T* y) {
    switch (op) {
        case cpu::Binary::add:
            return binary_of<Add>(a, b, rows, n, y);
        case cpu::Binary::sub:
            return binary_of<Sub>(a, b, rows, n, y);
        case cpu::Binary::mul:
            return binary_of<Mul>(a, b, rows, n, y);
        case cpu::Binary::div:
            return binary_of<Div>(a, b, rows, n, y);
    }
}

template <class T, class Function>
FP16_INLINE void map(const T* x, T* y, int64_t n, Function function) {
    for_column_blocks(n, [&](int64_t i, auto lanes) { lanes.put(y + i, function(lanes.get(x + i))); });
}

// NaN passes; -0 becomes +0.
FP16_INLINE f32x16 relu(f32x16 v) { return select(v <= 0.0f, f32x16{}, v); }

template <class T>
FP16_KERNEL void unary(cpu::Unary op, const T* x, T* y, int64_t n) {
    switch (op) {
        case cpu::Unary::relu:
            return map(x, y, n, [](f32x16 v) { return relu(v); });
        case cpu::Unary::relu6:
            return map(x, y, n, [](f32x16 v) { return select(v >= 6.0f, 6.0f, relu(v)); });
        case cpu::Unary::gelu:
            return map(x, y, n, [](f32x16 v) { return gelu(v); });
        case cpu::Unary::tanh:
            return map(x, y, n, [](f32x16 v) { return vtanh(v); });
        case cpu::Unary::exp:
            return map(x, y, n, [](f32x16 v) { return vexp(v); });
        case cpu::Unary::log:
            return map(x, y, n, [](f32x16 v) { return vlog(v); });
        case cpu::Unary::sqrt:
            return map(x, y, n, [](f32x16 v) { return vsqrt(v); });
        case cpu::Unary::neg:
            return map(x, y, n, [](f32x16 v) { return -v; });
    }
}

// saved: x or y of the forward pass, whichever the derivative is written in
template <class T, class Function>
FP16_INLINE void map_gradient(const T* saved, const T* dy, T* dx, int64_t n, Function function) {
    for_column_blocks(
        n, [&](int64_t i, auto lanes) { lanes.put(dx + i, function(lanes.get(saved + i), lanes.get(dy + i))); });
}

FP16_INLINE f32x16 where_positive(f32x16 y, f32x16 dy) { return select(y > 0.0f, dy, f32x16{}); }

template <class T>
FP16_KERNEL void unary_backward(cpu::Unary op, const T* saved, const T* dy, T* dx, int64_t n) {
    switch (op) {
        case cpu::Unary::relu:
            return map_gradient(saved, dy, dx, n, [](f32x16 y, f32x16 g) { return where_positive(y, g); });
        case cpu::Unary::relu6:
            return map_gradient(saved, dy, dx, n,
                                [](f32x16 y, f32x16 g) { return select(y < 6.0f, where_positive(y, g), f32x16{}); });
        case cpu::Unary::gelu:
            return map_gradient(saved, dy, dx, n, [](f32x16 x, f32x16 g) { return g * gelu_slope(x); });
        case cpu::Unary::tanh:
            return map_gradient(saved, dy, dx, n, [](f32x16 y, f32x16 g) { return g * (1.0f - y * y); });
        case cpu::Unary::exp:
            return map_gradient(saved, dy, dx, n, [](f32x16 y, f32x16 g) { return g * y; });
        case cpu::Unary::log:
            return map_gradient(saved, dy, dx, n, [](f32x16 x, f32x16 g) { return g / x; });
        case cpu::Unary::sqrt:
            return map_gradient(saved, dy, dx, n, [](f32x16 y, f32x16 g) { return (g * 0.5f) / y; });
        case cpu::Unary::neg:
            return map(dy, dx, n, [](f32x16 g) { return -g; });
    }
}

template <class T>
FP16_KERNEL void powers(const T* x, float exponent, T* y, int64_t n) {
    map(x, y, n, [&](f32x16 v) { return vpow(v, exponent); });
}

}  // namespace
}  // namespace fp16engine

namespace fp16engine::cpu::FP16_ISA {

const ByStorage<ElementwiseKernels> elementwise_kernels = {
    {binary<half>, unary<half>, unary_backward<half>, powers<half>},
    {binary<float>, unary<float>, unary_backward<float>, powers<float>},
    {binary<bfloat16>, unary<bfloat16>, unary_backward<bfloat16>, powers<bfloat16>}};

}  // namespace fp16engine::cpu::FP16_ISA
