// Module fp16engine._cpu: the shared operations, and what only the processor has: its pool, threads and products.
#include "bindings/array_caster.h"
#include "cpu/conv.h"
#include "cpu/ops.h"
#include "cpu/parallel.h"
#include "cpu/pool.h"
#include "cpu/simd/kernels.h"

namespace ops = fp16engine::cpu;
#include "bindings/bind_ops.h"

namespace py = pybind11;
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
    if (!chosen)
        throw py::value_error("isa: '" + isa +
                              "' given, which this machine cannot run; 'auto', 'avx512', 'avx2' or 'portable' wanted");
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
    m.def("onednn_isa", &cpu::onednn_isa);
    m.def("conv2d_implementations", &cpu::conv2d_implementations);
}

void bind_dot_products(py::module_& m) {
    m.def("matmul", &cpu::matmul, Release());
    m.def("linear_weight_gradient", &cpu::linear_weight_gradient, Release());
    m.def("conv2d_forward", &cpu::conv2d_forward, Release());
    m.def("conv2d_backward", &cpu::conv2d_backward, Release());
    m.def("scaled_product", &cpu::scaled_product, Release());
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "CPU kernels of fp16engine; use fp16engine.backend.get('cpu').";
    bind_memory(m);
    bind_machine(m);
    bind_dot_products(m);
    fp16engine::bind_ops(m);
}
