// Binds what the GPU has besides bind_ops.h, on the GPU and in the simulator.
#pragma once
#include <pybind11/pybind11.h>

#include "cuda/ops.h"

namespace fp16engine {

static void bind_gpu_ops(pybind11::module_& m) {
    using Release = pybind11::call_guard<pybind11::gil_scoped_release>;

    m.def("attention_forward", &gpu::attention_forward, Release());
    m.def("attention_backward", &gpu::attention_backward, Release());
    m.def("depthwise_forward", &gpu::depthwise_forward, Release());
    m.def("depthwise_backward", &gpu::depthwise_backward, Release());
    m.def("strict_matmul", &gpu::strict_matmul, Release());
    m.def("strict_conv2d_forward", &gpu::strict_conv2d_forward, Release());
    m.def("strict_conv2d_backward", &gpu::strict_conv2d_backward, Release());
    m.def("nonfinite", &gpu::nonfinite, Release());
    m.def("move", &gpu::move, Release());
    m.def("fill", &gpu::fill, Release());
    m.def("dropout_counted", &gpu::dropout_counted, Release());
    m.def("quantize_counted", &gpu::quantize_counted, Release());
    m.def("batch_places", &gpu::batch_places, Release());
    m.def("loss_seed", &gpu::loss_seed, Release());
    m.def("count_correct", &gpu::count_correct, Release());
    m.def("rank_nonfinite", &gpu::rank_nonfinite, Release());
    m.def("decide_step", &gpu::decide_step, Release());
    m.def("replace", &gpu::replace, Release());
    m.def("measure_gradients", &gpu::measure_gradients, Release());
    m.def("advance_step", &gpu::advance_step, Release());
}

}  // namespace fp16engine
