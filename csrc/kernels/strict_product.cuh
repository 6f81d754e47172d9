// Matrix products and convolutions with binary16 accumulators, where a library's are not known to be that (or not in
// the documented order):
//   y[o] = fl16(S + bias[o]) or fl16(S * scale), S = sum over i of a[o,i] * b[o,i], s = fl16(s + a * b), product exact,
// in blocks of 32 terms that merge as a binary counter (strict_dot.cuh). Terms in the order of backend/base.py:
// products k; convolution forward (kh, kw, c), data gradient (kh, kw, k), weight gradient (n, oh, ow). Outside the
// image and between strides a term is 0 * b and takes its place. A term needs no more than its operands, so the two
// ways below give the same bits. One thread per output and all its terms; or, for few outputs of many terms, one per
// block of 32 terms and then a warp per output that merges the block sums. Or, for accumulators between binary16 and
// float32, in chunks of n terms, each summed in binary16 from +0, S the float sum of the chunks' sums in order: the
// same two ways, with a thread per output in the end. No atomics. Bytes: every operand is read for every product it
// takes part in, from the cache. This is the exact way, not a fast one.
#pragma once
#include "kernels/strict_dot.cuh"

namespace fp16engine::gpu {

constexpr int kProductLevels = 20;  // 2^20 - 1 blocks of 32 terms

// ---- device helpers -------------------------------------------------------------------------------------------------

// a (batch, M, K) and b (batch, K, N), or their transposes, by strides; output (batch, M, N)
struct StrictMatrices {
    Ptr<const __half> a, b;
    int64_t M, N, K, a_row, a_term, b_column, b_term;

    struct Walk {
        const StrictMatrices& p;
        int64_t at_a, at_b;
        __device__ __forceinline__ void read(__half& a, __half& b) const {
            a = p.a[at_a];
            b = p.b[at_b];
        }
        __device__ __forceinline__ void next() {
            at_a += p.a_term;
            at_b += p.b_term;
        }
    };
    __device__ __forceinline__ int64_t terms() const { return K; }
    __device__ __forceinline__ Walk walk(int64_t output, int64_t term) const {
        const int64_t row = output / N, n = output - row * N, batch = row / M, m = row - batch * M;
        return {*this, batch * M * K + m * a_row + term * a_term, batch * K * N + n * b_column + term * b_term};
    }
};

// x (N, H, W, C), w (K, R, S, Cg), y (N, OH, OW, K); Cg = C / groups input and Kg = K / groups output channels of a
// group
struct StrictConvShape {
    int N, H, W, C, K, R, S, OH, OW, stride_h, stride_w, top, left, Cg, Kg;

    __device__ __forceinline__ int64_t x_at(int n, int h, int w, int c) const {
        return ((static_cast<int64_t>(n) * H + h) * W + w) * C + c;
    }
    __device__ __forceinline__ int64_t y_at(int n, int h, int w, int k) const {
        return ((static_cast<int64_t>(n) * OH + h) * OW + w) * K + k;
    }
    __device__ __forceinline__ int64_t w_at(int k, int r, int s, int c) const {
        return ((static_cast<int64_t>(k) * R + r) * S + s) * Cg + c;
    }
};

// An index in an array of four axes whose last three have these extents.
struct Index4 {
    int first, second, third, fourth;
    __device__ __forceinline__ Index4(int64_t index, int extent2, int extent3, int extent4) {
        const int64_t line = index / extent4, plane = line / extent3;
        fourth = static_cast<int>(index - line * extent4);
        third = static_cast<int>(line - plane * extent3);
        second = static_cast<int>(plane % extent2);
        first = static_cast<int>(plane / extent2);
    }
};

// A term's index among three axes, advanced one by one.
struct Counter {
    int a, b, c, extent_b, extent_c;
    __device__ __forceinline__ Counter(int64_t index, int eb, int ec) : extent_b(eb), extent_c(ec) {
        const Index4 at(index, 1, eb, ec);
        a = at.first;
        b = at.third;
        c = at.fourth;
    }
    __device__ __forceinline__ void next() {
        if (++c < extent_c) return;
        c = 0;
        if (++b < extent_b) return;
        b = 0;
        a++;
    }
};

// y: terms (r, s, c)
struct StrictConvForward {
    Ptr<const __half> x, w;
    StrictConvShape s;

    struct Walk {
        const StrictConvForward& p;
        Index4 at;  // n, oh, ow, k
        Counter tap;
        __device__ __forceinline__ void read(__half& a, __half& b) const {
            const StrictConvShape& s = p.s;
            const int h = at.second * s.stride_h - s.top + tap.a, w = at.third * s.stride_w - s.left + tap.b;
            const bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
            a = inside ? p.x[s.x_at(at.first, h, w, at.fourth / s.Kg * s.Cg + tap.c)] : zero_half();
            b = p.w[s.w_at(at.fourth, tap.a, tap.b, tap.c)];
        }
        __device__ __forceinline__ void next() { tap.next(); }
    };
    __device__ __forceinline__ int64_t terms() const { return static_cast<int64_t>(s.R) * s.S * s.Cg; }
    __device__ __forceinline__ Walk walk(int64_t output, int64_t term) const {
        return {*this, Index4(output, s.OH, s.OW, s.K), Counter(term, s.S, s.Cg)};
    }
};

// dx: terms (r, s, k)
struct StrictConvDataGradient {
    Ptr<const __half> dy, w;
    StrictConvShape s;

    struct Walk {
        const StrictConvDataGradient& p;
        Index4 at;  // n, h, w, c
        Counter tap;
        __device__ __forceinline__ void read(__half& a, __half& b) const {
            const StrictConvShape& s = p.s;
            const int h = at.second + s.top - tap.a, w = at.third + s.left - tap.b, oh = h / s.stride_h,
                      ow = w / s.stride_w, group = at.fourth / s.Cg, k = group * s.Kg + tap.c;
            const bool inside =
                h >= 0 && w >= 0 && oh * s.stride_h == h && ow * s.stride_w == w && oh < s.OH && ow < s.OW;
            a = inside ? p.dy[s.y_at(at.first, oh, ow, k)] : zero_half();
            b = p.w[s.w_at(k, tap.a, tap.b, at.fourth - group * s.Cg)];
        }
        __device__ __forceinline__ void next() { tap.next(); }
    };
    __device__ __forceinline__ int64_t terms() const { return static_cast<int64_t>(s.R) * s.S * s.Kg; }
    __device__ __forceinline__ Walk walk(int64_t output, int64_t term) const {
        return {*this, Index4(output, s.H, s.W, s.C), Counter(term, s.S, s.Kg)};
    }
};

// dw: terms (n, oh, ow)
struct StrictConvWeightGradient {
    Ptr<const __half> x, dy;
    StrictConvShape s;

    struct Walk {
        const StrictConvWeightGradient& p;
        Index4 at;  // k, r, s, c
        Counter pixel;
        __device__ __forceinline__ void read(__half& a, __half& b) const {
            const StrictConvShape& s = p.s;
            const int h = pixel.b * s.stride_h - s.top + at.second, w = pixel.c * s.stride_w - s.left + at.third;
            const bool inside = h >= 0 && h < s.H && w >= 0 && w < s.W;
            a = inside ? p.x[s.x_at(pixel.a, h, w, at.first / s.Kg * s.Cg + at.fourth)] : zero_half();
            b = p.dy[s.y_at(pixel.a, pixel.b, pixel.c, at.first)];
        }
        __device__ __forceinline__ void next() { pixel.next(); }
    };
    __device__ __forceinline__ int64_t terms() const { return static_cast<int64_t>(s.N) * s.OH * s.OW; }
    __device__ __forceinline__ Walk walk(int64_t output, int64_t term) const {
        return {*this, Index4(output, s.R, s.S, s.Cg), Counter(term, s.OH, s.OW)};
    }
};

// What becomes of a sum: bias (columns,) along the last axis, or absent, or a factor.
struct StrictStore {
    Ptr<const __half> bias;
    int64_t columns;
    float scale;

    __device__ __forceinline__ float operator()(int64_t output, float sum) const {
        return bias ? __fadd_rn(sum, as_float(bias[output % columns])) : __fmul_rn(sum, scale);
    }
};

// ---- kernels --------------------------------------------------------------------------------------------------------

template <class Product>
__global__ void __launch_bounds__(kBlock)
    strict_product_kernel(Product product, StrictStore store, Ptr<__half> y, int64_t outputs) {
    const int64_t terms = product.terms();
    for (int64_t output = grid_thread(); output < outputs; output += grid_threads()) {
        DotSum<true, kProductLevels> sum;
        auto walk = product.walk(output, 0);
        for (int64_t begin = 0; begin < terms; begin += kStrictBlock) {
            const int64_t end = begin + kStrictBlock < terms ? begin + kStrictBlock : terms;
            for (int64_t i = begin; i < end; i++, walk.next()) {
                __half a, b;
                walk.read(a, b);
                sum.multiply_add(a, b);
            }
            sum.end_block();
        }
        put(y[output], store(output, sum.total()));
    }
}

// The same with float sums of binary16 sums of `chunk` terms.
template <class Product>
__global__ void __launch_bounds__(kBlock)
    chunked_product_kernel(Product product, StrictStore store, Ptr<__half> y, int64_t outputs, int64_t chunk) {
    const int64_t terms = product.terms();
    for (int64_t output = grid_thread(); output < outputs; output += grid_threads()) {
        float sum = 0.0f;
        auto walk = product.walk(output, 0);
        for (int64_t begin = 0; begin < terms; begin += chunk) {
            const int64_t end = begin + chunk < terms ? begin + chunk : terms;
            __half part = zero_half();
            for (int64_t i = begin; i < end; i++, walk.next()) {
                __half a, b;
                walk.read(a, b);
                part = __hfma(a, b, part);
            }
            sum = __fadd_rn(sum, __half2float(part));
        }
        put(y[output], store(output, sum));
    }
}

// partial (blocks, outputs): sums of `length` terms, 32 or a chunk
template <class Product>
__global__ void __launch_bounds__(kBlock)
    strict_product_block_kernel(Product product, Ptr<float> partial, int64_t outputs, int64_t blocks, int64_t length) {
    const int64_t terms = product.terms();
    for (int64_t i = grid_thread(); i < blocks * outputs; i += grid_threads()) {
        const int64_t block = i / outputs, output = i - block * outputs, begin = block * length;
        const int64_t end = begin + length < terms ? begin + length : terms;
        auto walk = product.walk(output, begin);
        __half sum = zero_half();
        for (int64_t j = begin; j < end; j++, walk.next()) {
            __half a, b;
            walk.read(a, b);
            sum = __hfma(a, b, sum);
        }
        partial[i] = __half2float(sum);
    }
}

// partial (blocks, outputs): a warp per output
__global__ void __launch_bounds__(kBlock) strict_product_merge_kernel(Ptr<const float> partial, StrictStore store,
                                                                      Ptr<__half> y, int64_t outputs, int64_t blocks) {
    const int64_t warps = grid_threads() / kWarpSize;
    for (int64_t i = grid_thread() / kWarpSize; i < outputs; i += warps) {
        const float sum = strict_fold<false>(blocks, [&](int64_t block) { return partial[block * outputs + i]; }).sum();
        if (threadIdx.x % kWarpSize == 0) put(y[i], store(i, sum));
    }
}

// partial (chunks, outputs): a thread per output, in order
__global__ void __launch_bounds__(kBlock) chunked_product_merge_kernel(Ptr<const float> partial, StrictStore store,
                                                                       Ptr<__half> y, int64_t outputs, int64_t chunks) {
    for (int64_t i = grid_thread(); i < outputs; i += grid_threads()) {
        float sum = 0.0f;
        for (int64_t chunk = 0; chunk < chunks; chunk++) sum = __fadd_rn(sum, partial[chunk * outputs + i]);
        put(y[i], store(i, sum));
    }
}

}  // namespace fp16engine::gpu
