// Binds what the GPU has in addition to bind_ops.h, on the GPU and in the simulator.
#pragma once
#include <pybind11/pybind11.h>

#include "bindings/bind.h"
#include "bindings/check_gpu_ops.h"
#include "cuda/ops.h"

namespace fp16engine {

static void bind_gpu_ops(pybind11::module_& m) {
    using namespace pybind11::literals;

    bind_checked(m, "attention_forward", &gpu::attention_forward, checks::attention_forward, "q"_a, "k"_a, "v"_a, "y"_a,
                 "probs"_a, "causal"_a, "lengths"_a, "half_accumulator"_a);
    bind_checked(m, "attention_backward", &gpu::attention_backward, checks::attention_backward, "q"_a, "k"_a, "v"_a,
                 "probs"_a, "dy"_a, "dq"_a, "dk"_a, "dv"_a, "half_accumulator"_a);
    bind_checked(m, "batch_norm_of_cat_forward", &gpu::batch_norm_of_cat_forward, checks::batch_norm_of_cat_forward,
                 "x"_a, "joined"_a, "gamma"_a, "beta"_a, "running_mean"_a, "running_var"_a, "updates"_a, "rest"_a,
                 "s"_a, "y"_a, "mean"_a, "inv_std"_a, "momentum"_a, "eps"_a, "activation"_a);
    bind_checked(m, "batch_norm_of_cat_backward", &gpu::batch_norm_of_cat_backward, checks::batch_norm_of_cat_backward,
                 "s"_a, "gamma"_a, "beta"_a, "mean"_a, "inv_std"_a, "dy"_a, "pending_grad"_a, "dx"_a, "djoined"_a,
                 "dgamma"_a, "dbeta"_a, "activation"_a);
    bind_checked(m, "relu_bias_backward", &gpu::relu_bias_backward, checks::relu_bias_backward, "y"_a, "dy"_a, "dx"_a,
                 "db"_a);
    bind_checked(m, "relu_add_backward", &gpu::relu_add_backward, checks::relu_add_backward, "y"_a, "dy"_a,
                 "pending_grad"_a, "dx"_a);
    bind_checked(m, "depthwise_forward", &gpu::depthwise_forward, checks::conv2d_forward, "x"_a, "w"_a, "bias"_a, "y"_a,
                 "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "half_accumulator"_a);
    bind_checked(m, "depthwise_backward", &gpu::depthwise_backward, checks::conv2d_backward, "x"_a, "w"_a, "dy"_a,
                 "dx"_a, "dw"_a, "db"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "half_accumulator"_a);
    bind_checked(m, "strict_matmul", &gpu::strict_matmul, checks::matmul, "a"_a, "b"_a, "bias"_a, "c"_a,
                 "transpose_a"_a, "transpose_b"_a, "scale"_a, "accumulator"_a);
    bind_checked(m, "strict_conv2d_forward", &gpu::strict_conv2d_forward, checks::conv2d_forward, "x"_a, "w"_a,
                 "bias"_a, "y"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "accumulator"_a);
    bind_checked(m, "strict_conv2d_backward", &gpu::strict_conv2d_backward, checks::conv2d_backward, "x"_a, "w"_a,
                 "dy"_a, "dx"_a, "dw"_a, "db"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "accumulator"_a);
    bind_checked(m, "nonfinite", &gpu::nonfinite, checks::nonfinite, "arrays"_a, "flag"_a);
    bind_checked(m, "move", &gpu::move, checks::move, "source"_a, "target"_a, "item"_a, "shape"_a, "source_strides"_a,
                 "target_strides"_a);
    bind_checked(m, "fill", &gpu::fill, checks::fill, "x"_a, "bits"_a);
    bind_checked(m, "dropout_counted", &gpu::dropout_counted, checks::dropout_counted, "x"_a, "y"_a, "p"_a, "seed"_a,
                 "offset"_a, "control"_a);
    bind_checked(m, "quantize_counted", &gpu::quantize_counted, checks::quantize_counted, "x"_a, "y"_a, "outer"_a,
                 "length"_a, "inner"_a, "block_length"_a, "block_inner"_a, "mantissa"_a, "exponent_bits"_a,
                 "stochastic"_a, "seed"_a, "offset"_a, "control"_a);
    bind_checked(m, "batch_indices", &gpu::batch_indices, checks::batch_indices, "control"_a, "order"_a, "indices"_a);
    bind_checked(m, "loss_seed", &gpu::loss_seed, checks::loss_seed, "control"_a, "dy"_a);
    bind_checked(m, "count_correct", &gpu::count_correct, checks::count_correct, "logits"_a, "labels"_a, "control"_a);
    bind_checked(m, "rank_nonfinite", &gpu::rank_nonfinite, checks::rank_nonfinite, "arrays"_a, "ranks"_a, "loss"_a,
                 "origin"_a, "control"_a);
    bind_checked(m, "decide_step", &gpu::decide_step, checks::decide_step, "control"_a, "loss"_a, "norm"_a,
                 "max_norm"_a, "table"_a, "scalars"_a);
    bind_checked(m, "replace", &gpu::replace, checks::replace, "arrays"_a, "values"_a, "scalars"_a, "applied"_a);
    bind_checked(m, "measure_gradients", &gpu::measure_gradients, checks::measure_gradients, "arrays"_a, "control"_a,
                 "counts"_a);
    bind_checked(m, "advance_step", &gpu::advance_step, checks::advance_step, "control"_a, "loss"_a, "results"_a,
                 "counts"_a, "growth"_a, "backoff"_a, "floor"_a, "cap"_a, "interval"_a, "patience"_a, "max_bad_steps"_a,
                 "dropout"_a, "forward_dropout"_a, "scaled"_a, "dynamic"_a, "automatic"_a, "settling"_a, "every"_a,
                 "top"_a);
}

}  // namespace fp16engine
