// The checks of the operations that every module has, in the order of bind_ops.h; those of batch_norm and of the
// optimizers are in files of their own.
#pragma once
#include "bindings/checks.h"
#include "common/limits.h"

namespace fp16engine::checks {

using Pads = std::vector<int64_t>;
using Views = std::vector<ArrayView>;

constexpr auto binary = [](const std::string&, const ArrayView& a, const ArrayView& b, const ArrayView& y) {
    of_floats({"y", y});
    of_dtype({"a", a}, y.dtype);
    of_dtype({"b", b}, y.dtype);
    if (a.ndim > y.ndim) refuse("a", "of at most as many axes as y", a.describe());
    if (b.ndim > y.ndim) refuse("b", "of at most as many axes as y", b.describe());
    outputs({{"y", y}}, {{"a", a}, {"b", b}}, Sharing::in_place);
};

constexpr auto binary_number = [](const std::string&, const ArrayView& x, double, bool, const ArrayView& y) {
    of_floats({"x", x});
    of_same({"y", y}, x);
    outputs({{"y", y}}, {{"x", x}}, Sharing::in_place);
};

constexpr auto unary = [](const std::string&, const ArrayView& x, const ArrayView& y) {
    of_floats({"x", x});
    of_same({"y", y}, x);
    outputs({{"y", y}}, {{"x", x}}, Sharing::in_place);
};

constexpr auto unary_backward = [](const std::string&, const ArrayView& saved, const ArrayView& dy,
                                   const ArrayView& dx) {
    of_floats({"dy", dy});
    of_same({"saved", saved}, dy);
    of_same({"dx", dx}, dy);
    outputs({{"dx", dx}}, {{"saved", saved}, {"dy", dy}}, Sharing::in_place);
};

constexpr auto power = [](const ArrayView& x, double, const ArrayView& y) {
    of_floats({"x", x});
    of_same({"y", y}, x);
    outputs({{"y", y}}, {{"x", x}}, Sharing::in_place);
};

constexpr auto cast = [](const ArrayView& x, const ArrayView& y) {
    present({"x", x});
    of_floats({"y", y});
    of_size({"y", y}, x.size());
    outputs({{"y", y}}, {{"x", x}}, Sharing::in_place);
};

constexpr auto reduce = [](const std::string& op, const ArrayView& x, const ArrayView& y, int64_t outer, int64_t terms,
                           int64_t inner, bool half_accumulator) {
    of_floats({"x", x});
    of_dtype({"y", y}, x.dtype);
    of_size({"x", x}, product("outer, terms, inner", {outer, terms, inner}));
    of_size({"y", y}, product("outer, inner", {outer, inner}));
    if (op != "max") half_terms("x", x, half_accumulator);
    outputs({{"y", y}}, {{"x", x}});
};

constexpr auto max_backward = [](const ArrayView& x, const ArrayView& y, const ArrayView& dy, const ArrayView& dx,
                                 int64_t outer, int64_t terms, int64_t inner) {
    of_floats({"x", x});
    of_size({"x", x}, product("outer, terms, inner", {outer, terms, inner}));
    of_dtype({"y", y}, x.dtype);
    of_size({"y", y}, product("outer, inner", {outer, inner}));
    of_size_and_dtype({"dy", dy}, y);
    of_size_and_dtype({"dx", dx}, x);
    outputs({{"dx", dx}}, {{"x", x}, {"y", y}, {"dy", dy}});
};

// The rows of x and the two statistics of each.
inline void layer_norm(const ArrayView& x, const ArrayView& gamma, const ArrayView& mean, const ArrayView& inv_std,
                       bool half_accumulator) {
    of_floats({"x", x});
    of_rank({"x", x}, 1, kMaxDims, "(..., K)");
    of_norm({"gamma", gamma}, x);
    of_shape({"gamma", gamma}, {x.dim(-1)});
    for (const Named& v : {Named{"mean", mean}, Named{"inv_std", inv_std}}) {
        of_dtype(v, gamma.dtype);
        of_size(v, x.dim(-1) ? x.size() / x.dim(-1) : 0);
    }
    half_terms("x", x, half_accumulator);
}

constexpr auto layer_norm_forward = [](const ArrayView& x, const ArrayView& gamma, const ArrayView& beta,
                                       const ArrayView& y, const ArrayView& mean, const ArrayView& inv_std, double,
                                       bool half_accumulator) {
    layer_norm(x, gamma, mean, inv_std, half_accumulator);
    of_same({"beta", beta}, gamma);
    of_size_and_dtype({"y", y}, x);
    outputs({{"y", y}, {"mean", mean}, {"inv_std", inv_std}}, {{"x", x}, {"gamma", gamma}, {"beta", beta}});
};

constexpr auto layer_norm_backward = [](const ArrayView& x, const ArrayView& gamma, const ArrayView& mean,
                                        const ArrayView& inv_std, const ArrayView& dy, const ArrayView& dx,
                                        const ArrayView& dgamma, const ArrayView& dbeta, bool half_accumulator) {
    layer_norm(x, gamma, mean, inv_std, half_accumulator);
    of_same({"dgamma", dgamma}, gamma);
    of_same({"dbeta", dbeta}, gamma);
    of_size_and_dtype({"dy", dy}, x);
    of_size_and_dtype({"dx", dx}, x);
    outputs({{"dx", dx}, {"dgamma", dgamma}, {"dbeta", dbeta}},
            {{"x", x}, {"gamma", gamma}, {"mean", mean}, {"inv_std", inv_std}, {"dy", dy}});
};

inline void softmax_rows(const Named& x, bool half_accumulator) {
    of_floats(x);
    of_rank(x, 1, kMaxDims, "(..., K)");
    half_terms(x.name, x.view, half_accumulator);
}

constexpr auto softmax = [](const ArrayView& x, const ArrayView& y, int64_t causal_rows, const ArrayView& lengths,
                            bool half_accumulator) {
    softmax_rows({"x", x}, half_accumulator);
    of_size_and_dtype({"y", y}, x);
    in_range("causal_rows", causal_rows, 0, kMaxExtent);
    if (lengths) {
        of_dtype({"lengths", lengths}, DType::int64);
        of_rank({"lengths", lengths}, 1, 1, "(B,)");
    }
    outputs({{"y", y}}, {{"x", x}, {"lengths", lengths}}, Sharing::in_place);
};

constexpr auto log_softmax = [](const ArrayView& x, const ArrayView& y, bool half_accumulator) {
    softmax_rows({"x", x}, half_accumulator);
    of_size_and_dtype({"y", y}, x);
    outputs({{"y", y}}, {{"x", x}}, Sharing::in_place);
};

constexpr auto softmax_backward = [](const ArrayView& y, const ArrayView& dy, const ArrayView& dx,
                                     bool half_accumulator) {
    softmax_rows({"y", y}, half_accumulator);
    of_size_and_dtype({"dy", dy}, y);
    of_size_and_dtype({"dx", dx}, y);
    outputs({{"dx", dx}}, {{"y", y}, {"dy", dy}}, Sharing::in_place);
};

inline void classes(const ArrayView& logits, const ArrayView& labels, double smoothing, bool half_accumulator) {
    of_floats({"logits", logits});
    of_rank({"logits", logits}, 2, 2, "(N, K)");
    if (logits.dim(1) == 0) refuse("logits", "(N, K) with K >= 1", logits.describe());
    of_dtype({"labels", labels}, DType::int64);
    of_shape({"labels", labels}, {logits.dim(0)});
    finite("smoothing", smoothing);
    half_terms("logits", logits, half_accumulator);
}

constexpr auto cross_entropy_forward = [](const ArrayView& logits, const ArrayView& labels, const ArrayView& loss,
                                          double smoothing, bool half_accumulator) {
    classes(logits, labels, smoothing, half_accumulator);
    of_dtype({"loss", loss}, logits.dtype);
    of_shape({"loss", loss}, {});
    outputs({{"loss", loss}}, {{"logits", logits}, {"labels", labels}});
};

constexpr auto cross_entropy_backward = [](const ArrayView& logits, const ArrayView& labels, const ArrayView& dy,
                                           const ArrayView& dlogits, double smoothing, bool half_accumulator) {
    classes(logits, labels, smoothing, half_accumulator);
    of_dtype({"dy", dy}, logits.dtype);
    of_shape({"dy", dy}, {});
    of_same({"dlogits", dlogits}, logits);
    outputs({{"dlogits", dlogits}}, {{"logits", logits}, {"labels", labels}, {"dy", dy}});
};

// Windows of size x size pixels over padded images; the shape (N, OH, OW, outputs) of what they give.
inline std::vector<int64_t> windows(const Named& images, int64_t kh, int64_t kw, int64_t stride_h, int64_t stride_w,
                                    const Pads& pads, int64_t outputs) {
    of_floats(images);
    of_rank(images, 4, 4, "(N, H, W, C)");
    for (int axis = 1; axis < 4; axis++)
        if (images.view.shape[axis] < 1 || images.view.shape[axis] > kMaxExtent)
            refuse(images.name, "(N, H, W, C) with H, W and C in [1, 2^31)", images.view.describe());
    in_range("kh", kh, 1, kMaxExtent);
    in_range("kw", kw, 1, kMaxExtent);
    in_range("stride_h", stride_h, 1, kMaxExtent);
    in_range("stride_w", stride_w, 1, kMaxExtent);
    if (pads.size() != 4) refuse("pads", "four integers", std::to_string(pads.size()));
    for (const int64_t pad : pads) in_range("pads", pad, 0, kMaxExtent);
    const int64_t H = images.view.shape[1] + pads[0] + pads[1], W = images.view.shape[2] + pads[2] + pads[3];
    in_range("H with pads", H, 1, kMaxExtent);
    in_range("W with pads", W, 1, kMaxExtent);
    in_range("kh", kh, 1, H);
    in_range("kw", kw, 1, W);
    return {images.view.shape[0], (H - kh) / stride_h + 1, (W - kw) / stride_w + 1, outputs};
}

constexpr int64_t kMaxPixels = int64_t{1} << 24;  // of a pool's window: kernels walk all of them

inline void pool(const Named& images, const Named& y, int64_t kh, int64_t kw, int64_t stride_h, int64_t stride_w,
                 const Pads& pads) {
    present(images);
    of_dtype(y, images.view.dtype);
    of_shape(y, windows(images, kh, kw, stride_h, stride_w, pads, images.view.dim(-1)));
    in_range("kh * kw", product("kh, kw", {kh, kw}), 1, kMaxPixels);
}

// The numbers of a window's pixels are kept in one byte, 255 stands for none.
inline void pool_index(const ArrayView& index, const ArrayView& y, int64_t kh, int64_t kw) {
    of_dtype({"index", index}, DType::uint8);
    of_shape({"index", index}, std::vector<int64_t>(y.shape, y.shape + y.ndim));
    in_range("kh * kw", product("kh, kw", {kh, kw}), 1, 255);
}

constexpr auto max_pool_forward = [](const ArrayView& x, const ArrayView& y, const ArrayView& index, int64_t kh,
                                     int64_t kw, int64_t stride_h, int64_t stride_w, const Pads& pads) {
    pool({"x", x}, {"y", y}, kh, kw, stride_h, stride_w, pads);
    pool_index(index, y, kh, kw);
    outputs({{"y", y}, {"index", index}}, {{"x", x}});
};

constexpr auto max_pool_backward = [](const ArrayView& index, const ArrayView& dy, const ArrayView& dx, int64_t kh,
                                      int64_t kw, int64_t stride_h, int64_t stride_w, const Pads& pads,
                                      bool half_accumulator) {
    pool({"dx", dx}, {"dy", dy}, kh, kw, stride_h, stride_w, pads);
    pool_index(index, dy, kh, kw);
    half_terms("dy", dy, half_accumulator);
    outputs({{"dx", dx}}, {{"index", index}, {"dy", dy}});
};

constexpr auto avg_pool_forward = [](const ArrayView& x, const ArrayView& y, int64_t kh, int64_t kw, int64_t stride_h,
                                     int64_t stride_w, const Pads& pads, bool half_accumulator) {
    pool({"x", x}, {"y", y}, kh, kw, stride_h, stride_w, pads);
    half_terms("x", x, half_accumulator);
    outputs({{"y", y}}, {{"x", x}});
};

constexpr auto avg_pool_backward = [](const ArrayView& dy, const ArrayView& dx, int64_t kh, int64_t kw,
                                      int64_t stride_h, int64_t stride_w, const Pads& pads, bool half_accumulator) {
    pool({"dx", dx}, {"dy", dy}, kh, kw, stride_h, stride_w, pads);
    half_terms("dy", dy, half_accumulator);
    outputs({{"dx", dx}}, {{"dy", dy}});
};

constexpr auto take_rows = [](const ArrayView& table, const ArrayView& ids, const ArrayView& y) {
    of_rank({"table", table}, 1, kMaxDims, "(rows, ...)");
    of_dtype({"ids", ids}, DType::int64);
    of_dtype({"y", y}, table.dtype);
    const int64_t rows = table.dim(0);
    of_size({"y", y}, product("ids, a row", {ids.size(), rows ? table.size() / rows : 0}));
    outputs({{"y", y}}, {{"table", table}, {"ids", ids}});
};

constexpr auto scatter_rows = [](const ArrayView& ids, const ArrayView& dy, const ArrayView& dtable,
                                 bool half_accumulator) {
    of_floats({"dtable", dtable});
    of_rank({"dtable", dtable}, 1, kMaxDims, "(rows, ...)");
    of_dtype({"ids", ids}, DType::int64);
    of_dtype({"dy", dy}, dtable.dtype);
    const int64_t rows = dtable.dim(0);
    of_size({"dy", dy}, product("ids, a row", {ids.size(), rows ? dtable.size() / rows : 0}));
    half_terms("dy", dy, half_accumulator);
    outputs({{"dtable", dtable}}, {{"ids", ids}, {"dy", dy}});
};

constexpr auto dropout = [](const ArrayView& x, const ArrayView& y, double p, auto...) {
    of_floats({"x", x});
    of_size_and_dtype({"y", y}, x);
    if (!(p >= 0.0 && p < 1.0)) refuse("p", "a number in [0, 1)", std::to_string(p));
    outputs({{"y", y}}, {{"x", x}}, Sharing::in_place);
};

constexpr auto augment = [](const ArrayView& data, const ArrayView& index, const ArrayView& clock, const ArrayView& y,
                            uint64_t, int64_t, bool, bool, double rotation, int64_t shift, double brightness,
                            double low, double high, bool, double fill, bool) {
    of_floats({"data", data});
    of_rank({"data", data}, 4, 4, "(R, H, W, C)");
    const int64_t most = int64_t{1} << 30;
    if (product("H, W, C", {data.dim(1), data.dim(2), data.dim(3)}) > most || data.dim(1) > most ||
        data.dim(2) > most || data.dim(3) > most)
        refuse("data", "(R, H, W, C) with images of at most 2^30 values", data.describe());
    of_dtype({"index", index}, DType::int64);
    of_rank({"index", index}, 1, 1, "(B,)");
    if (clock) {
        of_dtype({"clock", clock}, DType::int64);
        of_size({"clock", clock}, 1);
    }
    of_dtype({"y", y}, data.dtype);
    of_shape({"y", y}, {index.size(), data.dim(1), data.dim(2), data.dim(3)});
    in_range("shift", shift, 0, 1 << 20);
    if (!(rotation >= 0.0 && rotation <= 180.0)) refuse("rotation", "degrees in [0, 180]", std::to_string(rotation));
    finite("brightness", brightness);
    finite("low", low);
    finite("high", high);
    finite("fill", fill);
    outputs({{"y", y}}, {{"data", data}, {"index", index}, {"clock", clock}});
};

constexpr auto quantize = [](const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length, int64_t inner,
                             int64_t block_length, int64_t block_inner, int64_t mantissa, int64_t exponent_bits,
                             auto...) {
    of_dtype({"x", x}, DType::float32);
    of_size({"x", x}, product("outer, length, inner", {outer, length, inner}));
    of_size_and_dtype({"y", y}, x);
    in_range("block_length", block_length, 1, kMaxExtent);
    in_range("block_inner", block_inner, 1, kMaxExtent);
    in_range("mantissa", mantissa, 2, 16);
    in_range("exponent_bits", exponent_bits, 2, 16);
    outputs({{"y", y}}, {{"x", x}});
};

constexpr auto all_finite = [](const Views& arrays) { present_floats("arrays", arrays); };

inline void norm_pair(const ArrayView& norm) {
    of_dtype({"norm", norm}, DType::float32);
    of_shape({"norm", norm}, {2});
}

constexpr auto global_norm = [](const Views& arrays, const ArrayView& norm) {
    present_floats("arrays", arrays);
    norm_pair(norm);
    for (const ArrayView& view : arrays) outputs({{"norm", norm}}, {{"arrays", view}});
};

constexpr auto clip_to_norm = [](const Views& arrays, const ArrayView& norm, double max_norm) {
    present_floats("arrays", arrays);
    all_writable("arrays", arrays);
    norm_pair(norm);
    if (!(std::isfinite(max_norm) && max_norm > 0.0))
        refuse("max_norm", "a finite number > 0", std::to_string(max_norm));
    for (const ArrayView& view : arrays) outputs({{"arrays", view}}, {{"norm", norm}});
};

constexpr auto range_statistics = [](const Views& arrays, const ArrayView& counts) {
    present_floats("arrays", arrays);
    of_dtype({"counts", counts}, DType::int64);
    of_shape({"counts", counts}, {static_cast<int64_t>(arrays.size()), kRangeColumns});
    for (const ArrayView& view : arrays) outputs({{"counts", counts}}, {{"arrays", view}});
};

}  // namespace fp16engine::checks
