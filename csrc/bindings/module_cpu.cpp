// Module fp16engine._cpu. One function a line; the GIL is released around every call.
#include "bindings/array_caster.h"
#include "cpu/conv.h"
#include "cpu/ops.h"
#include "cpu/parallel.h"
#include "cpu/pool.h"
#include "cpu/simd/kernels.h"

namespace py = pybind11;
namespace fp = fp16engine;
namespace cpu = fp16engine::cpu;

namespace {

py::array empty(const std::vector<py::ssize_t>& shape, const py::dtype& dtype) {
    size_t bytes = static_cast<size_t>(dtype.itemsize());
    for (const py::ssize_t extent : shape) bytes *= static_cast<size_t>(extent);
    void* const block = cpu::pool_allocate(bytes, cpu::Use::array);
    return py::array(dtype, shape, block, py::capsule(block, [](void* p) { cpu::pool_release(p); }));
}

py::dict memory() {
    const cpu::MemoryStats stats = cpu::pool_stats();
    py::dict result;
    result["current"] = stats.current;
    result["peak"] = stats.peak;
    result["scratch"] = stats.scratch;
    result["reserved"] = stats.reserved;
    return result;
}

std::string select_isa(const std::string& isa) {
    const char* const chosen = cpu::select_isa(isa.c_str());
    if (!chosen) throw py::value_error("isa: '" + isa + "' given, which this machine cannot run; 'auto', 'avx512', 'avx2' or 'portable' wanted");
    return chosen;
}

using Release = py::call_guard<py::gil_scoped_release>;

void bind_memory(py::module_& m) {
    m.def("empty", &empty, py::arg("shape"), py::arg("dtype"));
    m.def("memory", &memory);
    m.def("reset_peak", &cpu::pool_reset_peak);
    m.def("trim", &cpu::pool_trim);
}

void bind_machine(py::module_& m) {
    m.def("num_threads", &cpu::num_threads);
    m.def("set_num_threads", &cpu::set_num_threads, py::arg("count"));
    m.def("isa", [] { return std::string(cpu::kernels().isa); });
    m.def("select_isa", &select_isa, py::arg("isa"));
    m.def("onednn_version", &cpu::onednn_version);
    m.def("conv2d_implementations", &cpu::conv2d_implementations);
}

void bind_dot_products(py::module_& m) {
    m.def("matmul", &cpu::matmul, Release());
    m.def("conv2d_forward", &cpu::conv2d_forward, Release());
    m.def("conv2d_backward", &cpu::conv2d_backward, Release());
}

void bind_norms(py::module_& m) {
    m.def("batch_norm_forward", &cpu::batch_norm_forward, Release());
    m.def("batch_norm_inference", &cpu::batch_norm_inference, Release());
    m.def("batch_norm_backward", &cpu::batch_norm_backward, Release());
    m.def("layer_norm_forward", &cpu::layer_norm_forward, Release());
    m.def("layer_norm_backward", &cpu::layer_norm_backward, Release());
}

void bind_softmax(py::module_& m) {
    m.def("softmax", &cpu::softmax, Release());
    m.def("softmax_backward", &cpu::softmax_backward, Release());
    m.def("log_softmax", &cpu::log_softmax, Release());
    m.def("log_softmax_backward", &cpu::log_softmax_backward, Release());
    m.def("cross_entropy_forward", &cpu::cross_entropy_forward, Release());
    m.def("cross_entropy_backward", &cpu::cross_entropy_backward, Release());
}

void bind_pooling(py::module_& m) {
    m.def("max_pool_forward", &cpu::max_pool_forward, Release());
    m.def("max_pool_backward", &cpu::max_pool_backward, Release());
    m.def("avg_pool_forward", &cpu::avg_pool_forward, Release());
    m.def("avg_pool_backward", &cpu::avg_pool_backward, Release());
}

void bind_sparse(py::module_& m) {
    m.def("take_rows", &cpu::take_rows, Release());
    m.def("scatter_rows", &cpu::scatter_rows, Release());
    m.def("dropout", &cpu::dropout, Release());
    m.def("scaled_product", &cpu::scaled_product, Release());
}

void bind_optimizers(py::module_& m) {
    m.def("sgd", &cpu::sgd, Release());
    m.def("adam", &cpu::adam, Release());
    m.def("rmsprop", &cpu::rmsprop, Release());
    m.def("all_finite", &cpu::all_finite, Release());
}

void bind_elementwise(py::module_& m) {
    m.def("binary", &cpu::binary, Release());
    m.def("binary_number", &cpu::binary_number, Release());
    m.def("unary", &cpu::unary, Release());
    m.def("unary_backward", &cpu::unary_backward, Release());
    m.def("power", &cpu::power, Release());
    m.def("cast", &cpu::cast, Release());
}

void bind_reductions(py::module_& m) {
    m.def("reduce", &cpu::reduce, Release());
    m.def("max_backward", &cpu::max_backward, Release());
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "CPU kernels of fp16engine; use fp16engine.backend.get('cpu').";
    bind_memory(m);
    bind_machine(m);
    bind_dot_products(m);
    bind_norms(m);
    bind_softmax(m);
    bind_pooling(m);
    bind_sparse(m);
    bind_optimizers(m);
    bind_elementwise(m);
    bind_reductions(m);
}
