// Binds every operation that cpu/ops.h and cuda/ops.h share, one a line; the GIL is released around each call.
// To be included where `ops` is an alias of the namespace they are taken from.
#pragma once
#include <pybind11/pybind11.h>

#include "bindings/update_caster.h"

namespace fp16engine {

static void bind_ops(pybind11::module_& m) {
    using Release = pybind11::call_guard<pybind11::gil_scoped_release>;

    m.def("binary", &ops::binary, Release());
    m.def("binary_number", &ops::binary_number, Release());
    m.def("unary", &ops::unary, Release());
    m.def("unary_backward", &ops::unary_backward, Release());
    m.def("power", &ops::power, Release());
    m.def("cast", &ops::cast, Release());

    m.def("reduce", &ops::reduce, Release());
    m.def("max_backward", &ops::max_backward, Release());

    m.def("batch_norm_forward", &ops::batch_norm_forward, Release());
    m.def("batch_norm_inference", &ops::batch_norm_inference, Release());
    m.def("batch_norm_backward", &ops::batch_norm_backward, Release());
    m.def("layer_norm_forward", &ops::layer_norm_forward, Release());
    m.def("layer_norm_backward", &ops::layer_norm_backward, Release());

    m.def("softmax", &ops::softmax, Release());
    m.def("softmax_backward", &ops::softmax_backward, Release());
    m.def("log_softmax", &ops::log_softmax, Release());
    m.def("log_softmax_backward", &ops::log_softmax_backward, Release());
    m.def("cross_entropy_forward", &ops::cross_entropy_forward, Release());
    m.def("cross_entropy_backward", &ops::cross_entropy_backward, Release());

    m.def("max_pool_forward", &ops::max_pool_forward, Release());
    m.def("max_pool_backward", &ops::max_pool_backward, Release());
    m.def("avg_pool_forward", &ops::avg_pool_forward, Release());
    m.def("avg_pool_backward", &ops::avg_pool_backward, Release());

    m.def("take_rows", &ops::take_rows, Release());
    m.def("scatter_rows", &ops::scatter_rows, Release());
    m.def("dropout", &ops::dropout, Release());
    m.def("augment", &ops::augment, Release());

    m.def("quantize", &ops::quantize, Release());

    m.def("sgd", &ops::sgd, Release());
    m.def("adam", &ops::adam, Release());
    m.def("rmsprop", &ops::rmsprop, Release());
    m.def("all_finite", &ops::all_finite, Release());
    m.def("global_norm", &ops::global_norm, Release());
    m.def("clip_to_norm", &ops::clip_to_norm, Release());
    m.def("range_statistics", &ops::range_statistics, Release());
}

}  // namespace fp16engine
