// The checks of what the GPU has in addition to the operations of every module, in the order of bind_gpu_ops.h.
#pragma once
#include "bindings/check_batch_norm.h"
#include "bindings/check_products.h"
#include "common/step_control.h"
#include "common/step_scalars.h"

namespace fp16engine::checks {

// Without k, q holds queries, keys and values side by side, and v is absent, too.
inline void attention(const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& probs,
                      bool half_accumulator) {
    of_floats({"q", q});
    of_rank({"q", q}, 3, k ? 4 : 3, "(B, H, S, D) or (B, S, H * D)");
    of_rank({"probs", probs}, 4, 4, "(B, H, S, T)");
    const bool by_heads = q.ndim == 4;
    const int64_t heads = by_heads ? q.dim(1) : probs.dim(1), keys = k ? k.dim(-2) : q.dim(1);
    const int64_t parts = by_heads ? 1 : k ? heads : 3 * heads;  // of a row of q
    if (heads < 1 && !by_heads) refuse("probs", "of at least one head", probs.describe());
    if (parts && q.dim(-1) % parts != 0) refuse("q", "of heads of one width", q.describe());
    if (k) {
        using Sizes = std::vector<int64_t>;
        of_dtype({"k", k}, q.dtype);
        of_rank({"k", k}, q.ndim, q.ndim, "as many axes as q has");
        of_shape({"k", k}, by_heads ? Sizes{q.dim(0), heads, keys, q.dim(3)} : Sizes{q.dim(0), keys, q.dim(2)});
        of_same({"v", v}, k);
    } else if (v) {
        refuse("v", "absent where k is", v.describe());
    }
    of_dtype({"probs", probs}, q.dtype);
    of_shape({"probs", probs}, {q.dim(0), heads, q.dim(-2), keys});
    const int64_t width = q.dim(-1) / parts;
    for (const int64_t extent : {q.dim(-2), width, keys}) in_range("S and D", extent, 0, kMaxAttended);
    in_range("B * H", product("B, H", {q.dim(0), heads}), 0, kMaxExtent / kMaxAttended);
    half_terms("q", q, half_accumulator);
}

// What queries read has their shape: of q, or of its first third.
inline void read_of(const Named& y, const ArrayView& q, const ArrayView& k) {
    if (k) return of_same(y, q);
    of_dtype(y, q.dtype);
    of_shape(y, {q.dim(0), q.dim(1), q.dim(2) / 3});
}

// dk is there where k is.
inline void gradient_of(const Named& dk, const ArrayView& k) {
    if (k) return of_same(dk, k);
    if (dk.view) refuse(dk.name, "absent where k is", dk.view.describe());
}

// left (..., A) and right (..., C - A) are the columns of s (..., C).
inline void side_by_side(const ArrayView& s, const Named& left, const Named& right) {
    for (const Named& part : {left, right}) {
        of_dtype(part, s.dtype);
        of_rank(part, s.ndim, s.ndim, "as many axes as s has");
    }
    for (int axis = 0; axis + 1 < s.ndim; axis++)
        for (const Named& part : {left, right})
            if (part.view.shape[axis] != s.shape[axis])
                refuse(part.name, "s but for the last axis", part.view.describe());
    if (left.view.dim(-1) + right.view.dim(-1) != s.dim(-1))
        refuse(right.name, "the channels of s that are left", right.view.describe());
}

constexpr auto batch_norm_of_cat_forward =
    [](const ArrayView& x, const ArrayView& joined, const ArrayView& gamma, const ArrayView& beta,
       const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& updates, const ArrayView& rest,
       const ArrayView& s, const ArrayView& y, const ArrayView& mean, const ArrayView& inv_std, double momentum,
       double eps, const std::string& activation) {
        side_by_side(s, {"x", x}, {"joined", joined});
        batch_norm_forward(s, {}, gamma, beta, running_mean, running_var, updates, rest, {}, {}, y, mean, inv_std,
                           momentum, eps, activation, false);
        outputs({{"s", s}, {"y", y}, {"mean", mean}, {"inv_std", inv_std}},
                {{"x", x}, {"joined", joined}, {"gamma", gamma}, {"beta", beta}});
    };

constexpr auto batch_norm_of_cat_backward =
    [](const ArrayView& s, const ArrayView& gamma, const ArrayView& beta, const ArrayView& mean,
       const ArrayView& inv_std, const ArrayView& dy, const ArrayView& pending_grad, const ArrayView& dx,
       const ArrayView& djoined, const ArrayView& dgamma, const ArrayView& dbeta, const std::string& activation) {
        side_by_side(s, {"dx", dx}, {"djoined", djoined});
        if (pending_grad) of_size_and_dtype({"pending_grad", pending_grad}, s);
        batch_norm_backward(s, gamma, beta, mean, inv_std, {}, dy, {}, {}, dgamma, dbeta, {}, {}, activation, false);
        outputs({{"dx", dx}, {"djoined", djoined}},
                {{"s", s}, {"gamma", gamma}, {"beta", beta}, {"dy", dy}, {"pending_grad", pending_grad}});
    };

constexpr auto relu_bias_backward = [](const ArrayView& y, const ArrayView& dy, const ArrayView& dx,
                                       const ArrayView& db) {
    of_floats({"dy", dy});
    of_rank({"dy", dy}, 1, kMaxDims, "(..., C)");
    of_same({"y", y}, dy);
    of_same({"dx", dx}, dy);
    of_dtype({"db", db}, dy.dtype);
    of_shape({"db", db}, {dy.dim(-1)});
    outputs({{"dx", dx}, {"db", db}}, {{"y", y}, {"dy", dy}});
};

constexpr auto relu_add_backward = [](const ArrayView& y, const ArrayView& dy, const ArrayView& pending_grad,
                                      const ArrayView& dx) {
    of_floats({"dy", dy});
    of_same({"y", y}, dy);
    of_same({"pending_grad", pending_grad}, dy);
    of_same({"dx", dx}, dy);
    outputs({{"dx", dx}}, {{"y", y}, {"dy", dy}, {"pending_grad", pending_grad}});
};

constexpr auto attention_forward = [](const ArrayView& q, const ArrayView& k, const ArrayView& v, const ArrayView& y,
                                      const ArrayView& probs, bool, const ArrayView& lengths, bool half_accumulator) {
    attention(q, k, v, probs, half_accumulator);
    read_of({"y", y}, q, k);
    if (lengths) {
        of_dtype({"lengths", lengths}, DType::int64);
        of_shape({"lengths", lengths}, {q.dim(0)});
    }
    outputs({{"y", y}, {"probs", probs}}, {{"q", q}, {"k", k}, {"v", v}, {"lengths", lengths}});
};

constexpr auto attention_backward = [](const ArrayView& q, const ArrayView& k, const ArrayView& v,
                                       const ArrayView& probs, const ArrayView& dy, const ArrayView& dq,
                                       const ArrayView& dk, const ArrayView& dv, bool half_accumulator) {
    attention(q, k, v, probs, half_accumulator);
    read_of({"dy", dy}, q, k);
    of_same({"dq", dq}, q);
    gradient_of({"dk", dk}, k);
    gradient_of({"dv", dv}, v);
    outputs({{"dq", dq}, {"dk", dk}, {"dv", dv}}, {{"q", q}, {"k", k}, {"v", v}, {"probs", probs}, {"dy", dy}});
};

inline void control_of(const ArrayView& control) { holds<StepControl>({"control", control}); }

inline void one(const Named& a) {
    of_floats(a);
    of_size(a, 1);
}

constexpr auto nonfinite = [](const Views& arrays, const ArrayView& flag) {
    present_floats("arrays", arrays);
    of_dtype({"flag", flag}, DType::int32);
    of_size({"flag", flag}, 1);
    outputs({{"flag", flag}}, {});
};

// What lies at the addresses is the caller's; the arrays of the backend give them.
constexpr auto move = [](uintptr_t source, uintptr_t target, int64_t item, const std::vector<int64_t>& shape,
                         const std::vector<int64_t>& source_strides, const std::vector<int64_t>& target_strides) {
    if (item != 1 && item != 2 && item != 4 && item != 8) refuse("item", "1, 2, 4 or 8 bytes", std::to_string(item));
    if (shape.size() > kMaxDims || source_strides.size() != shape.size() || target_strides.size() != shape.size())
        refuse("shape", "of at most 8 axes with two strides each", text(shape));
    int64_t size = 1;
    for (const int64_t extent : shape) size = product("shape", {size, extent});
    for (const auto* strides : {&source_strides, &target_strides})
        for (const int64_t stride : *strides)
            if (stride % item) refuse("strides", "multiples of item", text(*strides));
    if (size && (!source || !target || source % static_cast<uintptr_t>(item) || target % static_cast<uintptr_t>(item)))
        refuse("source, target", "addresses aligned to item", std::to_string(source) + ", " + std::to_string(target));
};

constexpr auto fill = [](const ArrayView& x, uint64_t) {
    present({"x", x});
    outputs({{"x", x}}, {});
};

constexpr auto dropout_counted = [](const ArrayView& x, const ArrayView& y, double p, uint64_t seed, uint64_t offset,
                                    const ArrayView& control) {
    dropout(x, y, p, seed, offset);
    if (control) control_of(control);
};

constexpr auto quantize_counted = [](const ArrayView& x, const ArrayView& y, int64_t outer, int64_t length,
                                     int64_t inner, int64_t block_length, int64_t block_inner, int64_t mantissa,
                                     int64_t exponent_bits, bool, uint64_t, uint64_t, const ArrayView& control) {
    quantize(x, y, outer, length, inner, block_length, block_inner, mantissa, exponent_bits);
    if (control) control_of(control);
};

constexpr auto batch_indices = [](const ArrayView& control, const ArrayView& order, const ArrayView& indices) {
    control_of(control);
    of_dtype({"order", order}, DType::int64);
    of_dtype({"indices", indices}, DType::int64);
    if (order.size() == 0) refuse("order", "at least one number", order.describe());
    outputs({{"indices", indices}}, {{"control", control}, {"order", order}});
};

constexpr auto loss_seed = [](const ArrayView& control, const ArrayView& dy) {
    control_of(control);
    one({"dy", dy});
    outputs({{"dy", dy}}, {{"control", control}});
};

constexpr auto count_correct = [](const ArrayView& logits, const ArrayView& labels, const ArrayView& control) {
    classes(logits, labels, 0.0, false);
    control_of(control);
    outputs({{"control", control}}, {{"logits", logits}, {"labels", labels}});
};

constexpr auto rank_nonfinite = [](const Views& arrays, const std::vector<int64_t>& ranks, const ArrayView& loss, bool,
                                   const ArrayView& control) {
    present_floats("arrays", arrays);
    if (ranks.size() != arrays.size())
        refuse("ranks", "one for each of " + std::to_string(arrays.size()) + " arrays", std::to_string(ranks.size()));
    for (const int64_t rank : ranks) in_range("ranks", rank, 1, kMaxExtent);
    one({"loss", loss});
    control_of(control);
    outputs({{"control", control}}, {{"loss", loss}});
};

constexpr auto decide_step = [](const ArrayView& control, const ArrayView& loss, const ArrayView& norm, double max_norm,
                                const ArrayView& table, const ArrayView& scalars) {
    control_of(control);
    one({"loss", loss});
    if (norm) {
        norm_pair(norm);
        if (!(std::isfinite(max_norm) && max_norm > 0.0))
            refuse("max_norm", "a finite number > 0", std::to_string(max_norm));
    }
    aligned_bytes<StepScalars>({"table", table});
    if (table.size() == 0 || table.size() % static_cast<int64_t>(sizeof(StepScalars)))
        refuse("table", "rows of StepScalars", table.describe());
    holds<StepScalars>({"scalars", scalars});
    outputs({{"control", control}, {"scalars", scalars}}, {{"loss", loss}, {"norm", norm}, {"table", table}});
};

constexpr auto replace = [](const Views& arrays, const Views& values, const ArrayView& scalars, bool) {
    for (const ArrayView& array : arrays) {
        present({"arrays", array});
        if (array.dtype != DType::int64) of_floats({"arrays", array});  // a count of updates is put back too
    }
    if (values.size() != arrays.size())
        refuse("values", "one for each of " + std::to_string(arrays.size()) + " arrays", std::to_string(values.size()));
    holds<StepScalars>({"scalars", scalars});
    for (size_t i = 0; i < arrays.size(); i++) {
        of_size_and_dtype({"values", values[i]}, arrays[i]);
        outputs({{"arrays", arrays[i]}}, {{"values", values[i]}, {"scalars", scalars}}, Sharing::in_place);
    }
};

constexpr auto measure_gradients = [](const Views& arrays, const ArrayView& control, const ArrayView& counts) {
    present_floats("arrays", arrays);
    control_of(control);
    of_dtype({"counts", counts}, DType::int64);
    of_rank({"counts", counts}, 2, 2, "(steps, 47)");
    of_shape({"counts", counts}, {counts.dim(0), kRangeColumns});
    outputs({{"counts", counts}}, {{"control", control}});
};

constexpr auto advance_step = [](const ArrayView& control, const ArrayView& loss, const ArrayView& results,
                                 const ArrayView& counts, double, double, double, double, int64_t, int64_t, int64_t,
                                 int64_t, int64_t, bool, bool, bool automatic, int64_t, int64_t every, int64_t) {
    control_of(control);
    one({"loss", loss});
    of_dtype({"results", results}, DType::int32);
    of_rank({"results", results}, 2, 2, "(rows, 4)");
    of_shape({"results", results}, {results.dim(0), kStepResults});
    if (static_cast<bool>(counts) != automatic)
        refuse("counts", "given with an automatic scale alone", "one of the two");
    if (counts) {
        of_dtype({"counts", counts}, DType::int64);
        of_shape({"counts", counts}, {results.dim(0), kRangeColumns});
        in_range("every", every, 1, INT64_MAX);
    }
    outputs({{"control", control}, {"results", results}}, {{"loss", loss}, {"counts", counts}});
};

}  // namespace fp16engine::checks
