// Module fp16engine._cuda: our kernels, cuBLASLt's products and cuDNN's convolutions on device arrays. It imports
// without a GPU and without NVIDIA's libraries; those are opened at first use.
#include "bindings/cuda_array_caster.h"
#include "cuda/library.h"
#include "cuda/ops.h"
#include "cuda/products.h"
#include "cuda/runtime.h"

namespace ops = fp16engine::gpu;
#include "bindings/bind_gpu_ops.h"
#include "bindings/bind_ops.h"
#include "bindings/bind_products.h"

namespace py = pybind11;
using namespace py::literals;

void fp16engine::after_call() {}

namespace {

using Release = py::call_guard<py::gil_scoped_release>;

void bind_convolutions(py::module_& m) {
    using fp16engine::bind_checked;
    namespace checks = fp16engine::checks;
    const auto tf32 = "tf32"_a = false;
    bind_checked(m, "conv2d_forward", &ops::conv2d_forward, checks::conv2d_forward, "x"_a, "w"_a, "bias"_a, "y"_a,
                 "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "half_accumulator"_a, tf32);
    bind_checked(m, "conv2d_backward", &ops::conv2d_backward, checks::conv2d_backward, "x"_a, "w"_a, "dy"_a, "dx"_a,
                 "dw"_a, "db"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "half_accumulator"_a, tf32);
    m.def("conv2d_implementations", &ops::conv2d_implementations, Release());
}

void bind_machine(py::module_& m) {
    m.def("set_stream", &ops::set_stream, "stream"_a);
    m.def("set_library_path", &ops::set_library_path, "name"_a, "path"_a);
    m.def("cudnn_version", &ops::cudnn_version, Release());
    m.def("cudnn_device_properties", &ops::cudnn_device_properties, Release());
    m.def("compute_capability", &ops::compute_capability);
    m.def("workspace_bytes", [] { return ops::workspace_bytes() + ops::library_workspace_bytes(); }, Release());
    m.def("graph_nodes", &ops::graph_nodes, "graph"_a);
#if defined(FP16ENGINE_CUDA_ARCHS)
    m.attr("architectures") = FP16ENGINE_CUDA_ARCHS;
#endif
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
    m.doc() = "CUDA kernels of fp16engine; use fp16engine.backend.get('cuda').";
    py::register_exception<ops::LibraryMissing>(m, "LibraryMissing",
                                                py::module_::import("fp16engine.errors").attr("BackendUnavailable"));
    bind_machine(m);
    fp16engine::bind_products(m);
    bind_convolutions(m);
    fp16engine::bind_ops(m);
    fp16engine::bind_gpu_ops(m);
}
