// The matrix products of the GPU's modules, by cuBLASLt, with what they need of the runtime.
#pragma once
#include "bindings/bind.h"
#include "bindings/check_products.h"
#include "cuda/products.h"
#include "cuda/runtime.h"
#include "cuda/scratch.h"

namespace fp16engine {

inline void bind_products(pybind11::module_& m) {
    namespace py = pybind11;
    using namespace py::literals;
    using Release = py::call_guard<py::gil_scoped_release>;  // an operation that waits for the GIL may hold the lock
    const auto tf32 = "tf32"_a = false;
    bind_checked(m, "matmul", &gpu::matmul, checks::matmul, "a"_a, "b"_a, "bias"_a, "c"_a, "transpose_a"_a,
                 "transpose_b"_a, "half_accumulator"_a, tf32);
    bind_checked(m, "scaled_product", &gpu::scaled_product, checks::scaled_product, "a"_a, "b"_a, "c"_a, "scale"_a,
                 "half_accumulator"_a, tf32);
    bind_checked(m, "linear_weight_gradient", &gpu::linear_weight_gradient, checks::linear_weight_gradient, "x"_a,
                 "dy"_a, "dw"_a, "db"_a, "half_accumulator"_a, tf32);
    m.def("matmul_implementations", &gpu::matmul_implementations, Release());
    m.def("cublaslt_version", &gpu::cublaslt_version, Release());
    m.def("autotune", &gpu::autotune);
    m.def("set_autotune", &gpu::set_autotune, "enabled"_a);
    m.def(
        "set_memory_release",
        [](const py::function& release) {
            auto* const kept = new py::function(release);  // for the process: at its end the interpreter may be gone
            gpu::set_memory_release([kept] {
                const py::gil_scoped_acquire lock;
                (*kept)();
            });
        },
        "release"_a);
    py::register_exception_translator([](std::exception_ptr error) {
        try {
            if (error) std::rethrow_exception(error);
        } catch (const gpu::OutOfMemory& full) {
            PyErr_SetString(PyExc_MemoryError, full.what());
        }
    });
}

}  // namespace fp16engine
