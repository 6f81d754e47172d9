// The tuple that backend/compiled/optim.py makes of a step's common arguments becomes a WeightUpdate. After the
// device's array caster.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/array.h"
#include "common/weight_update.h"

namespace pybind11::detail {

// StepScalars of backend/base.py, a tuple, or an array that holds one.
template <>
struct type_caster<fp16engine::StepSource> {
    PYBIND11_TYPE_CASTER(fp16engine::StepSource, const_name("StepScalars"));

    bool load(handle source, bool convert) {
        if (isinstance<tuple>(source)) {
            const auto t = reinterpret_borrow<tuple>(source);
            if (t.size() != 7) return false;
            value.values = {static_cast<float>(t[0].cast<double>()),
                            static_cast<float>(t[1].cast<double>()),
                            static_cast<float>(t[2].cast<double>()),
                            static_cast<float>(t[3].cast<double>()),
                            t[4].cast<uint64_t>(),
                            t[5].cast<uint32_t>(),
                            t[6].cast<bool>() ? 1u : 0u};
            return true;
        }
        make_caster<fp16engine::Array> memory;
        if (source.is_none() || !memory.load(source, convert)) return false;
        value.memory = cast_op<fp16engine::Array&>(memory).open("scalars");
        return true;
    }
};

template <>
struct type_caster<fp16engine::WeightUpdate> {
    PYBIND11_TYPE_CASTER(fp16engine::WeightUpdate, const_name("tuple"));

    bool load(handle source, bool) {
        if (!isinstance<tuple>(source)) return false;
        const auto t = reinterpret_borrow<tuple>(source);
        if (t.size() != 9) return false;
        const auto arrays = [&](const char* name, size_t i) {
            return fp16engine::views(name, t[i].cast<std::vector<fp16engine::Array>>());
        };
        value.params = arrays("params", 0);
        value.grads = arrays("grads", 1);
        value.masters = arrays("masters", 2);
        value.compensations = arrays("compensations", 3);
        value.weight_decay = t[4].cast<std::vector<double>>();
        value.stochastic = t[5].cast<bool>();
        value.indices = t[6].cast<std::vector<int64_t>>();
        value.step = t[7].cast<fp16engine::StepSource>();
        value.counts = t[8].cast<fp16engine::Array>().open("counts");
        return true;
    }
};

}  // namespace pybind11::detail
