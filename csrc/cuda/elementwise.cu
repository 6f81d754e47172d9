#include "kernels/elementwise.cuh"

#include <algorithm>
#include <string>

#include "cuda/launch.h"
#include "cuda/ops.h"

namespace fp16engine::gpu {
namespace {

static_assert(kMaxAxes == kMaxDims, "an axis of the kernel for every axis of an array");

template <class Body>
void with_binary(const std::string& op, Body body) {
    if (op == "add") return body(Add{});
    if (op == "sub") return body(Sub{});
    if (op == "mul") return body(Mul{});
    if (op == "div") return body(Div{});
    fail("op must be add, sub, mul or div, got '" + op + "'");
}

[[noreturn]] void fail_unary(const std::string& op) {
    fail("op must be relu, relu6, gelu, tanh, exp, log, sqrt or neg, got '" + op + "'");
}

template <class T>
int64_t whole_vectors(int64_t n, bool all_aligned) {
    return all_aligned ? n / Vec<T>::N : 0;
}

template <class T>
unsigned map_grid(int64_t n, int64_t vectors) {
    return grid_for(std::max(ceil_divide(vectors, 2), n - vectors * Vec<T>::N));
}

template <class T, class Function>
void map(const ArrayView& x, const ArrayView& y, Function function) {
    const int64_t n = x.size(), vectors = whole_vectors<T>(n, aligned(x) && aligned(y));
    if (n == 0) return;
    const auto xs = pointer<const T>(x);
    const auto ys = pointer<T>(y);
    FP16_LAUNCH((map_kernel<T, Function>), map_grid<T>(n, vectors), kBlock, xs, ys, n, vectors, function);
}

template <class T, class Function>
void map_pairs(const ArrayView& a, const ArrayView& b, const ArrayView& y, Function function) {
    const int64_t n = y.size(), vectors = whole_vectors<T>(n, aligned(a) && aligned(b) && aligned(y));
    if (n == 0) return;
    const auto as = pointer<const T>(a);
    const auto bs = pointer<const T>(b);
    const auto ys = pointer<T>(y);
    FP16_LAUNCH((map_pairs_kernel<T, Function>), map_grid<T>(n, vectors), kBlock, as, bs, ys, n, vectors, function);
}

// The axes of the result of a broadcast, those that both operands walk alike merged into one, innermost first.
struct Walk {
    int ndim = 0;
    int64_t extent[kMaxDims], a[kMaxDims], b[kMaxDims];  // strides in elements, 0 where an operand is repeated

    Walk(const ArrayView& left, const ArrayView& right, const ArrayView& y) {
        int64_t a_step = 1, b_step = 1;
        for (int back = 1; back <= y.ndim; back++) {
            const int64_t n = y.dim(-back);
            const int64_t a_extent = back <= left.ndim ? left.dim(-back) : 1,
                          b_extent = back <= right.ndim ? right.dim(-back) : 1;
            if ((a_extent != n && a_extent != 1) || (b_extent != n && b_extent != 1) ||
                (a_extent != n && b_extent != n))
                fail("a, b must be shapes that broadcast to " + y.describe() + ", got " + left.describe() + " and " +
                     right.describe());
            if (n != 1) push(n, a_extent == 1 ? 0 : a_step, b_extent == 1 ? 0 : b_step);
            a_step *= a_extent;
            b_step *= b_extent;
        }
        if (ndim == 0) push(1, 1, 1);
    }

    int64_t size() const {
        int64_t n = 1;
        for (int d = 0; d < ndim; d++) n *= extent[d];
        return n;
    }

    bool contiguous() const { return ndim == 1 && a[0] == 1 && b[0] == 1; }

private:
    void push(int64_t n, int64_t a_stride, int64_t b_stride) {
        const int last = ndim - 1;
        if (ndim && a_stride == a[last] * extent[last] && b_stride == b[last] * extent[last]) {
            extent[last] *= n;
            return;
        }
        extent[ndim] = n;
        a[ndim] = a_stride;
        b[ndim] = b_stride;
        ndim++;
    }
};

template <class T, int kWidth, class Function>
void launch_broadcast(const Walk& walk, Ptr<const T> a, Ptr<const T> b, Ptr<T> y, Function function) {
    Axes axes;
    axes.count = walk.ndim;
    for (int d = 0; d < walk.ndim; d++) {
        const int64_t unit = d == 0 ? kWidth : 1;
        axes.extent[d] = Divider(walk.extent[d] / unit);
        axes.a[d] = static_cast<unsigned>(walk.a[d] * unit);
        axes.b[d] = static_cast<unsigned>(walk.b[d] * unit);
    }
    const int64_t n = walk.size() / kWidth;
    FP16_LAUNCH((broadcast_kernel<T, kWidth, Function>), grid_for(ceil_divide(n, 2)), kBlock, a, b, y, n, axes,
                function);
}

template <class T, class Function>
void broadcast(Walk walk, bool all_aligned, Ptr<const T> a, Ptr<const T> b, Ptr<T> y, Function function) {
    if (walk.size() >= kMaxIndices) {
        // Too many for the kernel's indices: the two halves of the outermost axis, one after the other.
        while (walk.extent[walk.ndim - 1] == 1) walk.ndim--;
        const int last = walk.ndim - 1;
        const int64_t extent = walk.extent[last], first = last ? extent / 2 : extent / 2 / Vec<T>::N * Vec<T>::N;
        walk.extent[last] = first;
        const int64_t done = walk.size();
        broadcast(walk, all_aligned, a, b, y, function);
        walk.extent[last] = extent - first;
        broadcast(walk, all_aligned, a + first * walk.a[last], b + first * walk.b[last], y + done, function);
        return;
    }
    if (all_aligned && walk.extent[0] % Vec<T>::N == 0)
        launch_broadcast<T, Vec<T>::N>(walk, a, b, y, function);
    else
        launch_broadcast<T, 1>(walk, a, b, y, function);
}

}  // namespace

void binary(const std::string& op, const ArrayView& a, const ArrayView& b, const ArrayView& y) {
    const Walk walk(a, b, y);
    with_binary(op, [&](auto function) {
        if (y.size() == 0) return;
        with_storage("a", y.dtype, [&](auto type) {
            using T = decltype(type);
            if (walk.contiguous()) return map_pairs<T>(a, b, y, function);
            // An operand that stands still along the innermost axis is read one element at a time.
            const bool all_aligned = (walk.a[0] == 0 || aligned(a)) && (walk.b[0] == 0 || aligned(b)) && aligned(y);
            broadcast<T>(walk, all_aligned, pointer<const T>(a), pointer<const T>(b), pointer<T>(y), function);
        });
    });
}

void binary_number(const std::string& op, const ArrayView& x, double number, bool number_first, const ArrayView& y) {
    with_binary(op, [&](auto function) {
        using Op = decltype(function);
        with_storage("x", x.dtype, [&](auto type) {
            map<decltype(type)>(x, y, WithNumber<Op>{static_cast<float>(number), number_first});
        });
    });
}

void unary(const std::string& op, const ArrayView& x, const ArrayView& y) {
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (op == "relu") return map<T>(x, y, Relu{});
        if (op == "relu6") return map<T>(x, y, Relu6{});
        if (op == "gelu") return map<T>(x, y, Gelu<T>{});
        if (op == "tanh") return map<T>(x, y, Tanh{});
        if (op == "exp") return map<T>(x, y, Exp{});
        if (op == "log") return map<T>(x, y, Log{});
        if (op == "sqrt") return map<T>(x, y, Sqrt{});
        if (op == "neg") return map<T>(x, y, Neg{});
        fail_unary(op);
    });
}

void unary_backward(const std::string& op, const ArrayView& saved, const ArrayView& dy, const ArrayView& dx) {
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        if (op == "relu") return map_pairs<T>(saved, dy, dx, ReluGradient{});
        if (op == "relu6") return map_pairs<T>(saved, dy, dx, Relu6Gradient{});
        if (op == "gelu") return map_pairs<T>(saved, dy, dx, GeluGradient<T>{});
        if (op == "tanh") return map_pairs<T>(saved, dy, dx, TanhGradient{});
        if (op == "exp") return map_pairs<T>(saved, dy, dx, ExpGradient{});
        if (op == "log") return map_pairs<T>(saved, dy, dx, LogGradient{});
        if (op == "sqrt") return map_pairs<T>(saved, dy, dx, SqrtGradient{});
        if (op == "neg") return map<T>(dy, dx, Neg{});
        fail_unary(op);
    });
}

void relu_add_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& pending_grad, const ArrayView& dx) {
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        const bool all_aligned = aligned(y) && aligned(dy) && aligned(pending_grad) && aligned(dx);
        const int64_t n = dx.size(), vectors = whole_vectors<T>(n, all_aligned);
        if (n == 0) return;
        const auto ys = pointer<const T>(y), dys = pointer<const T>(dy), others = pointer<const T>(pending_grad);
        const auto dxs = pointer<T>(dx);
        FP16_LAUNCH((relu_add_backward_kernel<T>), grid_for(std::max(vectors, n - vectors * Vec<T>::N)), kBlock, ys,
                    dys, others, dxs, n, vectors);
    });
}

void power(const ArrayView& x, double exponent, const ArrayView& y) {
    const float e = static_cast<float>(exponent);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        if (e == 0.0f) return map<T>(x, y, One{});
        if (e == 1.0f) return map<T>(x, y, Same{});
        if (e == 2.0f) return map<T>(x, y, Square{});
        if (e == 3.0f) return map<T>(x, y, Cube{});
        if (e == -1.0f) return map<T>(x, y, Reciprocal{});
        if (e == 0.5f) return map<T>(x, y, Sqrt{});  // NaN at -inf, as in NumPy
        map<T>(x, y, Power{e});
    });
}

}  // namespace fp16engine::gpu
