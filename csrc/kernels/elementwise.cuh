// y = f(x), y = f(a, b) element by element, with broadcasting. Registers are float, each result is rounded once, at the
// store; nothing is accumulated, so the bits do not depend on the launch.
// Bytes per element: sizeof(T) read per array (an operand that is repeated comes from the cache), sizeof(T) written.
// f takes some ten instructions but for gelu, tanh and general powers; a full memory bus leaves about 27 per half.
#pragma once
#include "kernels/device.cuh"
#include "kernels/divide.cuh"

namespace fp16engine::gpu {

// ---- device helpers -------------------------------------------------------------------------------------------------

struct Add {
    __device__ __forceinline__ float operator()(float a, float b) const { return __fadd_rn(a, b); }
};
struct Sub {
    __device__ __forceinline__ float operator()(float a, float b) const { return __fsub_rn(a, b); }
};
struct Mul {
    __device__ __forceinline__ float operator()(float a, float b) const { return __fmul_rn(a, b); }
};
struct Div {
    __device__ __forceinline__ float operator()(float a, float b) const { return __fdiv_rn(a, b); }
};

// One operand is a number.
template <class Op>
struct WithNumber {
    float number;
    bool first;
    __device__ __forceinline__ float operator()(float v) const { return first ? Op()(number, v) : Op()(v, number); }
};

// NaN passes; -0 becomes +0.
struct Relu {
    __device__ __forceinline__ float operator()(float v) const { return v <= 0.0f ? 0.0f : v; }
};
struct Relu6 {
    __device__ __forceinline__ float operator()(float v) const { return v >= 6.0f ? 6.0f : Relu()(v); }
};
struct Tanh {
    __device__ __forceinline__ float operator()(float v) const { return tanhf(v); }
};
struct Exp {
    __device__ __forceinline__ float operator()(float v) const { return expf(v); }
};
struct Log {
    __device__ __forceinline__ float operator()(float v) const { return logf(v); }
};
struct Sqrt {
    __device__ __forceinline__ float operator()(float v) const { return __fsqrt_rn(v); }
};
struct Neg {
    __device__ __forceinline__ float operator()(float v) const { return -v; }
};

// The normal distribution cancels where gelu' crosses zero and magnifies the rounding of x in its tail: far below a
// unit of binary16, but several of float, whose gelu is evaluated in double.
template <class T>
struct GeluType {
    using Type = float;
};
template <>
struct GeluType<float> {
    using Type = double;
};
__device__ __forceinline__ float upper_tail(float t) { return erfcf(t); }
__device__ __forceinline__ double upper_tail(double t) { return erfc(t); }
__device__ __forceinline__ float exponential(float t) { return expf(t); }
__device__ __forceinline__ double exponential(double t) { return exp(t); }

template <class T>
struct Gelu {
    using Real = typename GeluType<T>::Type;
    static __device__ __forceinline__ Real cdf(Real x) {
        return static_cast<Real>(0.5) * upper_tail(x * static_cast<Real>(-0.70710678118654752));
    }
    // Below -16 the result is the limit, -0.
    __device__ __forceinline__ float operator()(float v) const {
        const Real x = v < -16.0f ? -16.0f : v;
        return static_cast<float>(x * cdf(x));
    }
};

template <class T>
struct GeluGradient {
    using Real = typename GeluType<T>::Type;
    __device__ __forceinline__ float operator()(float v, float dy) const {
        const Real x = v < -16.0f ? -16.0f : v > 16.0f ? 16.0f : v;
        const Real density = exponential(static_cast<Real>(-0.5) * x * x) * static_cast<Real>(0.39894228040143268);
        return __fmul_rn(dy, static_cast<float>(Gelu<T>::cdf(x) + x * density));
    }
};

// The first argument is what the forward pass saved: x of gelu and log, y of the others.
struct ReluGradient {
    __device__ __forceinline__ float operator()(float y, float dy) const { return y > 0.0f ? dy : 0.0f; }
};
struct Relu6Gradient {
    __device__ __forceinline__ float operator()(float y, float dy) const { return y > 0.0f && y < 6.0f ? dy : 0.0f; }
};
struct TanhGradient {
    __device__ __forceinline__ float operator()(float y, float dy) const {
        return __fmul_rn(dy, __fsub_rn(1.0f, __fmul_rn(y, y)));
    }
};
struct ExpGradient {
    __device__ __forceinline__ float operator()(float y, float dy) const { return __fmul_rn(dy, y); }
};
struct LogGradient {
    __device__ __forceinline__ float operator()(float x, float dy) const { return __fdiv_rn(dy, x); }
};
struct SqrtGradient {
    __device__ __forceinline__ float operator()(float y, float dy) const { return __fdiv_rn(__fmul_rn(dy, 0.5f), y); }
};

// Powers of one or two roundings, and the general one.
struct One {
    __device__ __forceinline__ float operator()(float) const { return 1.0f; }
};
struct Same {
    __device__ __forceinline__ float operator()(float v) const { return v; }
};
struct Square {
    __device__ __forceinline__ float operator()(float v) const { return __fmul_rn(v, v); }
};
struct Cube {
    __device__ __forceinline__ float operator()(float v) const { return __fmul_rn(__fmul_rn(v, v), v); }
};
struct Reciprocal {
    __device__ __forceinline__ float operator()(float v) const { return __fdiv_rn(1.0f, v); }
};
struct Power {
    float exponent;
    __device__ __forceinline__ float operator()(float v) const { return powf(v, exponent); }
};

template <class T, int kWidth>
struct VecPair {
    Vec<T, kWidth> a, b;
};

template <class T, int kWidth, class Function>
__device__ __forceinline__ Vec<T, kWidth> apply(const VecPair<T, kWidth>& in, const Function& function) {
    Vec<T, kWidth> out;
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) put(out.values[k], function(as_float(in.a.values[k]), as_float(in.b.values[k])));
    return out;
}

// One value of the operand for every element, or as many values as there are elements.
template <class T, int kWidth>
__device__ __forceinline__ Vec<T, kWidth> load_operand(Ptr<const T> p, bool varies) {
    if (varies) return load_vector<T, kWidth>(p);
    const T value = *p;
    Vec<T, kWidth> v;
    FP16_UNROLL
    for (int k = 0; k < kWidth; k++) v.values[k] = value;
    return v;
}

// The axes of a broadcast, innermost first; the innermost is counted in vectors. Strides in elements of each operand
// for one step along the axis, 0 where it is repeated.
constexpr int kMaxAxes = 8;
struct Axes {
    int count = 0;
    Divider extent[kMaxAxes];
    unsigned a[kMaxAxes] = {}, b[kMaxAxes] = {};
};

// ---- kernels --------------------------------------------------------------------------------------------------------

// x (n), y (n); the first `vectors` vectors by sixteen bytes
template <class T, class Function>
__global__ void __launch_bounds__(kBlock)
    map_kernel(Ptr<const T> x, Ptr<T> y, int64_t n, int64_t vectors, Function function) {
    constexpr int kWidth = Vec<T>::N;
    for_pieces<2>(
        grid_thread(), vectors, grid_threads(), [&](int64_t i) { return load_vector<T>(x + i * kWidth); },
        [&](int64_t i, const Vec<T>& in) {
            Vec<T> out;
            FP16_UNROLL
            for (int k = 0; k < kWidth; k++) put(out.values[k], function(as_float(in.values[k])));
            store_vector(y + i * kWidth, out);
        });
    for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads()) put(y[i], function(as_float(x[i])));
}

// a (n), b (n), y (n)
template <class T, class Function>
__global__ void __launch_bounds__(kBlock)
    map_pairs_kernel(Ptr<const T> a, Ptr<const T> b, Ptr<T> y, int64_t n, int64_t vectors, Function function) {
    constexpr int kWidth = Vec<T>::N;
    for_pieces<2>(
        grid_thread(), vectors, grid_threads(),
        [&](int64_t i) { return VecPair<T, kWidth>{load_vector<T>(a + i * kWidth), load_vector<T>(b + i * kWidth)}; },
        [&](int64_t i, const VecPair<T, kWidth>& in) { store_vector(y + i * kWidth, apply(in, function)); });
    for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
        put(y[i], function(as_float(a[i]), as_float(b[i])));
}

// y (n), dy (n), pending_grad (n), dx (n): the gradient of a ReLU and another of the same array, added
template <class T>
__global__ void __launch_bounds__(kBlock)
    relu_add_backward_kernel(Ptr<const T> y, Ptr<const T> dy, Ptr<const T> pending_grad, Ptr<T> dx, int64_t n,
                             int64_t vectors) {
    constexpr int kWidth = Vec<T>::N;
    const auto total = [](T saved, T gradient, T other) {
        return __fadd_rn(ReluGradient{}(as_float(saved), as_float(gradient)), as_float(other));
    };
    for (int64_t i = grid_thread(); i < vectors; i += grid_threads()) {
        const Vec<T> saved = load_vector<T>(y + i * kWidth), gradient = load_vector<T>(dy + i * kWidth),
                     other = load_vector<T>(pending_grad + i * kWidth);
        Vec<T> out;
        FP16_UNROLL
        for (int k = 0; k < kWidth; k++)
            put(out.values[k], total(saved.values[k], gradient.values[k], other.values[k]));
        store_vector(dx + i * kWidth, out);
    }
    for (int64_t i = vectors * kWidth + grid_thread(); i < n; i += grid_threads())
        put(dx[i], total(y[i], dy[i], pending_grad[i]));
}

// a and b as the axes say, y (n * kWidth); n < 2^31
template <class T, int kWidth, class Function>
__global__ void __launch_bounds__(kBlock)
    broadcast_kernel(Ptr<const T> a, Ptr<const T> b, Ptr<T> y, int64_t n, Axes axes, Function function) {
    for_pieces<2>(
        grid_thread(), n, grid_threads(),
        [&](int64_t i) {
            unsigned rest = static_cast<unsigned>(i), a_offset = 0, b_offset = 0;
            for (int d = 0; d < kMaxAxes && d < axes.count; d++) {
                const unsigned step = axes.extent[d].split(rest);
                a_offset += step * axes.a[d];
                b_offset += step * axes.b[d];
            }
            return VecPair<T, kWidth>{load_operand<T, kWidth>(a + a_offset, axes.a[0] != 0),
                                      load_operand<T, kWidth>(b + b_offset, axes.b[0] != 0)};
        },
        [&](int64_t i, const VecPair<T, kWidth>& in) { store_vector(y + i * kWidth, apply(in, function)); });
}

}  // namespace fp16engine::gpu
