// The checks of matrix products and convolutions, whoever computes them: what follows the sizes is the policy.
#pragma once
#include "bindings/check_ops.h"

namespace fp16engine::checks {

// a, b and c share their leading axes, but for those of one batch.
inline void factors(const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c, bool transpose_a,
                    bool transpose_b) {
    of_floats({"a", a});
    of_rank({"a", a}, 2, kMaxDims, "(..., M, K)");
    of_dtype({"b", b}, a.dtype);
    of_rank({"b", b}, 2, kMaxDims, "(..., K, N)");
    of_dtype({"c", c}, a.dtype);
    of_rank({"c", c}, 2, kMaxDims, "(..., M, N)");
    const int64_t M = a.dim(transpose_a ? -1 : -2), K = a.dim(transpose_a ? -2 : -1);
    const int64_t N = b.dim(transpose_b ? -2 : -1);
    if (b.dim(transpose_b ? -1 : -2) != K) refuse("b", "a match of a " + a.describe(), b.describe());
    int64_t batch = 1;
    for (int axis = 0; axis < a.ndim - 2; axis++) batch *= a.shape[axis];
    of_size({"b", b}, product("batch, K, N", {batch, K, N}));
    of_size({"c", c}, product("batch, M, N", {batch, M, N}));
    if (c.dim(-1) != N) refuse("c", "(..., M, N) with N = " + std::to_string(N), c.describe());
    if (bias) {
        of_dtype({"bias", bias}, a.dtype);
        of_shape({"bias", bias}, {N});
    }
    outputs({{"c", c}}, {{"a", a}, {"b", b}, {"bias", bias}});
}

inline void accumulates(const ArrayView& x, int64_t accumulator) {
    in_range("accumulator", accumulator, 0, kMaxExtent);
    half_terms("accumulator's arrays", x, accumulator != 0);
}
inline void accumulates(const ArrayView& x, bool half_accumulator, bool) {
    half_terms("accumulator's arrays", x, half_accumulator);
}
inline void accumulates(const ArrayView& x, int64_t accumulator, bool) { accumulates(x, accumulator); }
inline void accumulates(const ArrayView& x, double, int64_t accumulator) { accumulates(x, accumulator); }

constexpr auto matmul = [](const ArrayView& a, const ArrayView& b, const ArrayView& bias, const ArrayView& c,
                           bool transpose_a, bool transpose_b, auto... policy) {
    factors(a, b, bias, c, transpose_a, transpose_b);
    accumulates(a, policy...);
};

constexpr auto scaled_product = [](const ArrayView& a, const ArrayView& b, const ArrayView& c, double, auto... policy) {
    factors(a, b, {}, c, false, false);
    accumulates(a, policy...);
};

constexpr auto linear_weight_gradient = [](const ArrayView& x, const ArrayView& dy, const ArrayView& dw,
                                           const ArrayView& db, auto... policy) {
    of_rank({"x", x}, 2, 2, "(M, in)");
    of_rank({"dy", dy}, 2, 2, "(M, out)");
    of_rank({"dw", dw}, 2, 2, "(out, in)");
    factors(dy, x, {}, dw, true, false);
    accumulates(x, policy...);
    if (db) {
        of_dtype({"db", db}, x.dtype);
        of_shape({"db", db}, {dy.dim(1)});
    }
    outputs({{"dw", dw}, {"db", db}}, {{"x", x}, {"dy", dy}});
};

// x (N, H, W, C), w (K, R, S, C / groups), y (N, OH, OW, K)
inline void convolution(const ArrayView& x, const ArrayView& w, const Named& y, int64_t stride_h, int64_t stride_w,
                        const Pads& pads, int64_t groups) {
    of_floats({"x", x});
    of_rank({"x", x}, 4, 4, "(N, H, W, C)");
    of_dtype({"w", w}, x.dtype);
    of_rank({"w", w}, 4, 4, "(K, R, S, C / groups)");
    of_dtype(y, x.dtype);
    in_range("groups", groups, 1, kMaxExtent);
    in_range("w's K", w.dim(0), 1, kMaxExtent);
    if (x.dim(3) % groups || w.dim(0) % groups || w.dim(3) != x.dim(3) / groups)
        refuse("w", "a match of x " + x.describe() + " in " + std::to_string(groups) + " groups", w.describe());
    of_shape(y, windows({"x", x}, w.dim(1), w.dim(2), stride_h, stride_w, pads, w.dim(0)));
}

// Winograd's algorithm, where a module leaves the choice.
template <class... Policy>
void algorithm(const ArrayView&, int64_t, int64_t, int64_t, Policy...) {}
inline void algorithm(const ArrayView& w, int64_t stride_h, int64_t stride_w, int64_t groups, int64_t accumulator,
                      bool winograd) {
    const bool fits = w.dim(1) == 3 && w.dim(2) == 3 && stride_h == 1 && stride_w == 1 && groups == 1;
    if (winograd && (!fits || accumulator != 0))
        refuse("winograd", "False but for a 3x3 kernel at stride 1, one group and float32 accumulators", "True");
}

constexpr auto conv2d_forward = [](const ArrayView& x, const ArrayView& w, const ArrayView& bias, const ArrayView& y,
                                   int64_t stride_h, int64_t stride_w, const Pads& pads, int64_t groups,
                                   auto... policy) {
    convolution(x, w, {"y", y}, stride_h, stride_w, pads, groups);
    algorithm(w, stride_h, stride_w, groups, policy...);
    accumulates(x, policy...);
    if (bias) {
        of_dtype({"bias", bias}, x.dtype);
        of_shape({"bias", bias}, {w.dim(0)});
    }
    outputs({{"y", y}}, {{"x", x}, {"w", w}, {"bias", bias}});
};

constexpr auto conv2d_backward = [](const ArrayView& x, const ArrayView& w, const ArrayView& dy, const ArrayView& dx,
                                    const ArrayView& dw, const ArrayView& db, int64_t stride_h, int64_t stride_w,
                                    const Pads& pads, int64_t groups, auto... policy) {
    convolution(x, w, {"dy", dy}, stride_h, stride_w, pads, groups);
    algorithm(w, stride_h, stride_w, groups, policy...);
    accumulates(x, policy...);
    if (dx) of_same({"dx", dx}, x);
    if (dw) of_same({"dw", dw}, w);
    if (db) {
        of_dtype({"db", db}, x.dtype);
        of_shape({"db", db}, {w.dim(0)});
    }
    outputs({{"dx", dx}, {"dw", dw}, {"db", db}}, {{"x", x}, {"w", w}, {"dy", dy}});
};

}  // namespace fp16engine::checks
