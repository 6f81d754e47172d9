// Binds every operation of common/shared_ops.h, each with its check.
// To be included where `ops` is an alias of the namespace they are taken from.
#pragma once
#include <pybind11/pybind11.h>

#include "bindings/bind.h"
#include "bindings/check_batch_norm.h"
#include "bindings/check_ops.h"
#include "bindings/check_updates.h"
#include "bindings/update_caster.h"

namespace fp16engine {

static void bind_ops(pybind11::module_& m) {
    using namespace pybind11::literals;

    bind_checked(m, "binary", &ops::binary, checks::binary, "op"_a, "a"_a, "b"_a, "y"_a);
    bind_checked(m, "binary_number", &ops::binary_number, checks::binary_number, "op"_a, "x"_a, "number"_a,
                 "number_first"_a, "y"_a);
    bind_checked(m, "unary", &ops::unary, checks::unary, "op"_a, "x"_a, "y"_a);
    bind_checked(m, "unary_backward", &ops::unary_backward, checks::unary_backward, "op"_a, "saved"_a, "dy"_a, "dx"_a);
    bind_checked(m, "power", &ops::power, checks::power, "x"_a, "exponent"_a, "y"_a);
    bind_checked(m, "cast", &ops::cast, checks::cast, "x"_a, "y"_a);

    bind_checked(m, "reduce", &ops::reduce, checks::reduce, "op"_a, "x"_a, "y"_a, "outer"_a, "terms"_a, "inner"_a,
                 "half_accumulator"_a);
    bind_checked(m, "max_backward", &ops::max_backward, checks::max_backward, "x"_a, "y"_a, "dy"_a, "dx"_a, "outer"_a,
                 "terms"_a, "inner"_a);

    bind_checked(m, "batch_norm_forward", &ops::batch_norm_forward, checks::batch_norm_forward, "x"_a, "addend"_a,
                 "gamma"_a, "beta"_a, "running_mean"_a, "running_var"_a, "updates"_a, "rest"_a, "residual"_a, "sum"_a,
                 "y"_a, "mean"_a, "inv_std"_a, "momentum"_a, "eps"_a, "activation"_a, "half_accumulator"_a);
    bind_checked(m, "batch_norm_inference", &ops::batch_norm_inference, checks::batch_norm_inference, "x"_a, "gamma"_a,
                 "beta"_a, "running_mean"_a, "running_var"_a, "residual"_a, "y"_a, "eps"_a, "activation"_a,
                 "deviation"_a);
    bind_checked(m, "batch_norm_backward", &ops::batch_norm_backward, checks::batch_norm_backward, "x"_a, "gamma"_a,
                 "beta"_a, "mean"_a, "inv_std"_a, "y"_a, "dy"_a, "pending_grad"_a, "dx"_a, "dgamma"_a, "dbeta"_a,
                 "dr"_a, "db"_a, "activation"_a, "half_accumulator"_a);
    bind_checked(m, "layer_norm_forward", &ops::layer_norm_forward, checks::layer_norm_forward, "x"_a, "gamma"_a,
                 "beta"_a, "y"_a, "mean"_a, "inv_std"_a, "eps"_a, "half_accumulator"_a);
    bind_checked(m, "layer_norm_backward", &ops::layer_norm_backward, checks::layer_norm_backward, "x"_a, "gamma"_a,
                 "mean"_a, "inv_std"_a, "dy"_a, "dx"_a, "dgamma"_a, "dbeta"_a, "half_accumulator"_a);

    bind_checked(m, "softmax", &ops::softmax, checks::softmax, "x"_a, "y"_a, "causal_rows"_a, "lengths"_a,
                 "half_accumulator"_a);
    bind_checked(m, "softmax_backward", &ops::softmax_backward, checks::softmax_backward, "y"_a, "dy"_a, "dx"_a,
                 "half_accumulator"_a);
    bind_checked(m, "log_softmax", &ops::log_softmax, checks::log_softmax, "x"_a, "y"_a, "half_accumulator"_a);
    bind_checked(m, "log_softmax_backward", &ops::log_softmax_backward, checks::softmax_backward, "y"_a, "dy"_a, "dx"_a,
                 "half_accumulator"_a);
    bind_checked(m, "cross_entropy_forward", &ops::cross_entropy_forward, checks::cross_entropy_forward, "logits"_a,
                 "labels"_a, "loss"_a, "smoothing"_a, "half_accumulator"_a);
    bind_checked(m, "cross_entropy_backward", &ops::cross_entropy_backward, checks::cross_entropy_backward, "logits"_a,
                 "labels"_a, "dy"_a, "dlogits"_a, "smoothing"_a, "half_accumulator"_a);

    bind_checked(m, "max_pool_forward", &ops::max_pool_forward, checks::max_pool_forward, "x"_a, "y"_a, "index"_a,
                 "kh"_a, "kw"_a, "stride_h"_a, "stride_w"_a, "pads"_a);
    bind_checked(m, "max_pool_backward", &ops::max_pool_backward, checks::max_pool_backward, "index"_a, "dy"_a, "dx"_a,
                 "kh"_a, "kw"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "half_accumulator"_a);
    bind_checked(m, "avg_pool_forward", &ops::avg_pool_forward, checks::avg_pool_forward, "x"_a, "y"_a, "kh"_a, "kw"_a,
                 "stride_h"_a, "stride_w"_a, "pads"_a, "half_accumulator"_a);
    bind_checked(m, "avg_pool_backward", &ops::avg_pool_backward, checks::avg_pool_backward, "dy"_a, "dx"_a, "kh"_a,
                 "kw"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "half_accumulator"_a);

    bind_checked(m, "take_rows", &ops::take_rows, checks::take_rows, "table"_a, "ids"_a, "y"_a);
    bind_checked(m, "scatter_rows", &ops::scatter_rows, checks::scatter_rows, "ids"_a, "dy"_a, "dtable"_a,
                 "half_accumulator"_a);
    bind_checked(m, "dropout", &ops::dropout, checks::dropout, "x"_a, "y"_a, "p"_a, "seed"_a, "offset"_a);
    bind_checked(m, "augment", &ops::augment, checks::augment, "data"_a, "index"_a, "clock"_a, "y"_a, "seed"_a,
                 "epoch"_a, "flip_lr"_a, "flip_ud"_a, "rotation"_a, "shift"_a, "brightness"_a, "low"_a, "high"_a,
                 "mirrored"_a, "fill"_a, "alternating"_a);

    bind_checked(m, "quantize", &ops::quantize, checks::quantize, "x"_a, "y"_a, "outer"_a, "length"_a, "inner"_a,
                 "block_length"_a, "block_inner"_a, "mantissa"_a, "exponent_bits"_a, "stochastic"_a, "seed"_a,
                 "offset"_a);

    bind_checked(m, "sgd", &ops::sgd, checks::sgd, "update"_a, "momenta"_a, "momentum"_a, "nesterov"_a);
    bind_checked(m, "adam", &ops::adam, checks::adam, "update"_a, "m"_a, "v"_a, "beta1"_a, "beta2"_a, "eps"_a,
                 "native"_a, "decoupled"_a);
    bind_checked(m, "rmsprop", &ops::rmsprop, checks::rmsprop, "update"_a, "v"_a, "momenta"_a, "alpha"_a, "eps"_a,
                 "momentum"_a, "native"_a);
    bind_checked(m, "all_finite", &ops::all_finite, checks::all_finite, "arrays"_a);
    bind_checked(m, "global_norm", &ops::global_norm, checks::global_norm, "arrays"_a, "norm"_a);
    bind_checked(m, "clip_to_norm", &ops::clip_to_norm, checks::clip_to_norm, "arrays"_a, "norm"_a, "max_norm"_a);
    bind_checked(m, "range_statistics", &ops::range_statistics, checks::range_statistics, "arrays"_a, "counts"_a);
}

}  // namespace fp16engine
