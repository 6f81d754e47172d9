// Module fp16engine._cpu: the shared operations, and what only the processor has: its allocator, threads and products.
#include "bindings/array_caster.h"
#include "bindings/bind.h"
#include "bindings/check_products.h"
#include "bindings/thread_notice.h"
#include "common/parallel.h"
#include "cpu/allocator.h"
#include "cpu/conv.h"
#include "cpu/ops.h"
#include "cpu/simd/kernels.h"

namespace ops = fp16engine::cpu;
#include "bindings/bind_ops.h"

namespace py = pybind11;
namespace cpu = fp16engine::cpu;
using namespace py::literals;

namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 48;  // what a processor addresses

py::array empty(const std::vector<py::ssize_t>& shape, const py::dtype& dtype) {
    if (!fp16engine::dtype_of(dtype))
        fp16engine::checks::refuse("dtype", fp16engine::kDTypes, std::string(py::str(dtype)));
    int64_t size = dtype.itemsize();
    for (const py::ssize_t extent : shape)
        if (extent < 0 || __builtin_mul_overflow(size, extent, &size) || size > kMaxBytes)
            fp16engine::checks::refuse("shape", "extents >= 0 of at most 2^48 bytes",
                                       fp16engine::checks::text({shape.begin(), shape.end()}));
    const auto bytes = static_cast<size_t>(size);
    void* const block = cpu::allocate(bytes, cpu::Use::array);
    return py::array(dtype, shape, block, py::capsule(block, [](void* p) { cpu::release(p); }));
}

py::dict memory() {
    const cpu::MemoryStats stats = cpu::memory_stats();
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
        fp16engine::checks::refuse("isa", "'auto', 'avx512', 'avx2' or 'portable', of this build and machine",
                                   "'" + isa + "'");
    return chosen;
}

void bind_memory(py::module_& m) {
    m.def("empty", &empty, py::arg("shape"), py::arg("dtype"));
    m.def("memory", &memory);
    m.def("reset_peak", &cpu::reset_peak_memory);
    m.def("trim", &cpu::trim_memory);
}

void bind_machine(py::module_& m) {
    using fp16engine::bind_checked;
    m.def("num_threads", &fp16engine::num_threads);
    bind_checked(m, "set_num_threads", &fp16engine::set_num_threads, fp16engine::checks::nothing, "count"_a);
    bind_checked(m, "multiply_adds", &cpu::multiply_adds, fp16engine::checks::nothing, "steps"_a);
    m.def("isa", [] { return std::string(cpu::kernels().isa); });
    m.def("select_isa", &select_isa, py::arg("isa"));
}

void bind_dot_products(py::module_& m) {
    using fp16engine::bind_checked;
    namespace checks = fp16engine::checks;
    bind_checked(m, "matmul", &cpu::matmul, checks::matmul, "a"_a, "b"_a, "bias"_a, "c"_a, "transpose_a"_a,
                 "transpose_b"_a, "accumulator"_a);
    bind_checked(m, "linear_weight_gradient", &cpu::linear_weight_gradient, checks::linear_weight_gradient, "x"_a,
                 "dy"_a, "dw"_a, "db"_a, "accumulator"_a);
    bind_checked(m, "conv2d_forward", &cpu::conv2d_forward, checks::conv2d_forward, "x"_a, "w"_a, "bias"_a, "y"_a,
                 "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "accumulator"_a, "winograd"_a = false);
    bind_checked(m, "conv2d_backward", &cpu::conv2d_backward, checks::conv2d_backward, "x"_a, "w"_a, "dy"_a, "dx"_a,
                 "dw"_a, "db"_a, "stride_h"_a, "stride_w"_a, "pads"_a, "groups"_a, "accumulator"_a,
                 "winograd"_a = false);
    bind_checked(m, "scaled_product", &cpu::scaled_product, checks::scaled_product, "a"_a, "b"_a, "c"_a, "scale"_a,
                 "accumulator"_a);
}

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "CPU kernels of fp16engine; use fp16engine.backend.get('cpu').";
    bind_memory(m);
    bind_machine(m);
    bind_dot_products(m);
    fp16engine::bind_ops(m);
}
