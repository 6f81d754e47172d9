// Module fp16engine._simt: the GPU's kernels, run by the simulator on NumPy arrays. For tests.
#include "bindings/array_caster.h"
#include "bindings/bind_gpu_ops.h"
#include "bindings/bind_products.h"
#include "bindings/thread_notice.h"
#include "common/parallel.h"
#include "cuda/ops.h"
#include "simt/machine.h"
#include "simt/recording.h"
#include "testing/fake_cuda/fake.h"
#include "testing/planted.h"

namespace ops = fp16engine::gpu;
#include "bindings/bind_ops.h"

namespace py = pybind11;
using namespace py::literals;

namespace {

// A step recorded and replayed, as a captured CUDA graph is: nothing runs while it is recorded.
void bind_recording(py::module_& m) {
    using Release = py::call_guard<py::gil_scoped_release>;
    py::class_<simt::Recording, std::shared_ptr<simt::Recording>>(m, "Recording")
        .def("replay", &simt::Recording::replay, Release())
        .def_property_readonly("kernels", &simt::Recording::kernels)
        .def_property_readonly("names", &simt::Recording::names);
    m.def("begin_recording", &simt::begin_recording);
    m.def("end_recording", &simt::end_recording);
    m.def("recording", [] { return simt::recording() != nullptr; });
    // What a library does on the GPU's stream: a callable without arguments.
    m.def(
        "perform",
        [](const std::string& name, const py::function& work) {
            simt::perform(name.c_str(), true, [work] {
                const py::gil_scoped_acquire lock;
                work();
            });
        },
        py::arg("name"), py::arg("work"));
    // Fresh memory is full of NaN in every replay too.
    m.def("poison", [](const fp16engine::Array& array) {
        const fp16engine::ArrayView& x = array.open("x");
        const auto bytes = static_cast<size_t>(x.size() * fp16engine::item_size(x.dtype));
        simt::perform("poison", false, [data = x.data, bytes] { std::memset(data, 0xff, bytes); });
    });
}

// The products of module _cuda by the fakes of NVIDIA's libraries, and what a test tells those and asks them.
void bind_fakes(py::module_ m) {
    namespace fake = fp16engine::fake;
    fp16engine::bind_products(m);
    m.def("plan_fault", &fake::plan_fault, "function"_a, "first"_a, "times"_a, "status"_a);
    m.def("calls", &fake::calls);
    m.def("objects", &fake::objects);
    m.def("forget", &fake::forget);
    m.def("last_error", [] { return static_cast<int>(cudaGetLastError()); });
    m.def("set_device", &fake::set_device, "device"_a);
    using Release = py::call_guard<py::gil_scoped_release>;
    m.def(
        "library_workspace", [](size_t bytes) { return reinterpret_cast<uintptr_t>(ops::library_workspace(bytes)); },
        "bytes"_a, Release());
    m.def("library_workspace_bytes", &ops::library_workspace_bytes, Release());
}

}  // namespace

PYBIND11_MODULE(_simt, m) {
    m.doc() = "GPU kernels of fp16engine in the simulator; use fp16engine.backend.get('simt').";
    py::register_exception<simt::Error>(m, "SimulationError", PyExc_RuntimeError);
    m.def("set_schedule", &simt::set_schedule, py::arg("schedule"));
    fp16engine::bind_checked(m, "set_num_threads", &fp16engine::set_num_threads, fp16engine::checks::nothing,
                             "count"_a);
    m.def("num_threads", &fp16engine::num_threads);
    m.def("planted_faults", &ops::planted_faults);
    fp16engine::bind_checked(m, "launch_planted", &ops::launch_planted, fp16engine::checks::nothing, "fault"_a, "x"_a,
                             "y"_a);
    bind_recording(m);
    bind_fakes(m.def_submodule("fakes"));
    fp16engine::bind_ops(m);
    fp16engine::bind_gpu_ops(m);
}
