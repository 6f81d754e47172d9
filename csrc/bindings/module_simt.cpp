// Module fp16engine._simt: the GPU's kernels, run by the simulator on NumPy arrays. For tests.
#include "bindings/array_caster.h"
#include "bindings/bind_gpu_ops.h"
#include "cpu/parallel.h"
#include "cuda/ops.h"
#include "simt/machine.h"
#include "simt/planted.h"

namespace ops = fp16engine::gpu;
#include "bindings/bind_ops.h"

namespace py = pybind11;

PYBIND11_MODULE(_simt, m) {
    m.doc() = "GPU kernels of fp16engine in the simulator; use fp16engine.backend.get('simt').";
    py::register_exception<simt::Error>(m, "SimulationError", PyExc_RuntimeError);
    m.def("set_schedule", &simt::set_schedule, py::arg("schedule"));
    m.def("set_num_threads", &fp16engine::cpu::set_num_threads, py::arg("count"));
    m.def("num_threads", &fp16engine::cpu::num_threads);
    m.def("planted_faults", &ops::planted_faults);
    m.def("launch_planted", &ops::launch_planted, py::arg("fault"), py::arg("x"), py::arg("y"),
          py::call_guard<py::gil_scoped_release>());
    fp16engine::bind_ops(m);
    fp16engine::bind_gpu_ops(m);
}
