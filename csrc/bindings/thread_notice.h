// Says after a call, as a Python warning, what the user should know about the threads. For one source of a module.
#pragma once
#include <pybind11/pybind11.h>

#include "bindings/bind.h"
#include "common/parallel.h"

namespace fp16engine {

void after_call() {
    const std::string notice = take_notice();
    if (!notice.empty() && PyErr_WarnEx(PyExc_RuntimeWarning, notice.c_str(), 1)) throw pybind11::error_already_set();
}

}  // namespace fp16engine
