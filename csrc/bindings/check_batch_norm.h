// The checks of batch normalisation.
#pragma once
#include "bindings/checks.h"

namespace fp16engine::checks {

// x (..., C), and vectors (C,) of one dtype: that of x, or float32.
inline void channels(const ArrayView& x, std::initializer_list<Named> vectors) {
    of_floats({"x", x});
    of_rank({"x", x}, 1, kMaxDims, "(..., C)");
    for (const Named& v : vectors) {
        of_norm(v, x);
        of_dtype(v, vectors.begin()->view.dtype);
        of_shape(v, {x.dim(-1)});
    }
}

inline void like_x(const ArrayView& x, std::initializer_list<Named> arrays) {
    for (const Named& a : arrays)
        if (a.view) of_size_and_dtype(a, x);
}

// Running averages as they are kept: a count, and what rounding takes from the two of them.
inline void counted(const ArrayView& x, const ArrayView& updates, const ArrayView& rest, const ArrayView& average) {
    if (updates) {
        of_dtype({"updates", updates}, DType::int64);
        of_shape({"updates", updates}, {1});
    }
    if (rest) {
        of_dtype({"rest", rest}, average.dtype);
        of_shape({"rest", rest}, {2, x.dim(-1)});
    }
}

constexpr auto batch_norm_forward =
    [](const ArrayView& x, const ArrayView& addend, const ArrayView& gamma, const ArrayView& beta,
       const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& updates, const ArrayView& rest,
       const ArrayView& residual, const ArrayView& sum, const ArrayView& y, const ArrayView& mean,
       const ArrayView& inv_std, double, double, const std::string&, bool half_accumulator) {
        channels(x, {{"gamma", gamma},
                     {"beta", beta},
                     {"running_mean", running_mean},
                     {"running_var", running_var},
                     {"mean", mean},
                     {"inv_std", inv_std}});
        counted(x, updates, rest, running_mean);
        if (x.size() == 0) refuse("x", "at least one sample", x.describe());
        if (static_cast<bool>(addend) != static_cast<bool>(sum))
            refuse("sum", "given with an addend alone", "one of the two");
        present({"y", y});
        like_x(x, {{"addend", addend}, {"residual", residual}, {"sum", sum}, {"y", y}});
        half_terms("x", x, half_accumulator);
        outputs({{"running_mean", running_mean},
                 {"running_var", running_var},
                 {"updates", updates},
                 {"rest", rest},
                 {"sum", sum},
                 {"y", y},
                 {"mean", mean},
                 {"inv_std", inv_std}},
                {{"x", x}, {"addend", addend}, {"gamma", gamma}, {"beta", beta}, {"residual", residual}});
    };

constexpr auto batch_norm_inference =
    [](const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& running_mean,
       const ArrayView& running_var, const ArrayView& residual, const ArrayView& y, double, const std::string&, bool) {
        channels(x, {{"gamma", gamma}, {"beta", beta}, {"running_mean", running_mean}, {"running_var", running_var}});
        present({"y", y});
        like_x(x, {{"residual", residual}, {"y", y}});
        outputs({{"y", y}}, {{"x", x},
                             {"gamma", gamma},
                             {"beta", beta},
                             {"running_mean", running_mean},
                             {"running_var", running_var},
                             {"residual", residual}});
    };

constexpr auto batch_norm_backward = [](const ArrayView& x, const ArrayView& gamma, const ArrayView& beta,
                                        const ArrayView& mean, const ArrayView& inv_std, const ArrayView& y,
                                        const ArrayView& dy, const ArrayView& pending_grad, const ArrayView& dx,
                                        const ArrayView& dgamma, const ArrayView& dbeta, const ArrayView& dr,
                                        const ArrayView& db, const std::string&, bool half_accumulator) {
    channels(
        x,
        {{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"inv_std", inv_std}, {"dgamma", dgamma}, {"dbeta", dbeta}});
    present({"dy", dy});
    if (static_cast<bool>(y) != static_cast<bool>(dr)) refuse("dr", "given with y alone", "one of the two");
    if (!dx && (pending_grad || db)) refuse("dx", "given where something is added to it or it is summed", "None");
    like_x(x, {{"y", y}, {"dy", dy}, {"pending_grad", pending_grad}, {"dx", dx}, {"dr", dr}});
    // The driver masks dy by y, one shape for all three.
    if (y)
        for (const Named& a : {Named{"y", y}, Named{"dr", dr}}) of_same(a, dy);
    if (db) {
        of_dtype({"db", db}, x.dtype);
        of_shape({"db", db}, {x.dim(-1)});
    }
    half_terms("x", x, half_accumulator);
    outputs({{"dx", dx}, {"dgamma", dgamma}, {"dbeta", dbeta}, {"dr", dr}, {"db", db}},
            {{"x", x},
             {"gamma", gamma},
             {"beta", beta},
             {"mean", mean},
             {"inv_std", inv_std},
             {"y", y},
             {"dy", dy},
             {"pending_grad", pending_grad}});
};

}  // namespace fp16engine::checks
