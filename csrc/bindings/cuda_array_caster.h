// Device arrays become ArrayViews at the border, through the __cuda_array_interface__ that CuPy, PyTorch and Numba
// share: type and contiguity are checked once, here, and None is an absent array.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "common/array_view.h"

namespace fp16engine {

// From a typestr such as "<f2".
inline std::optional<DType> dtype_of(const std::string& type) {
    if (type == "<f2") return DType::float16;
    if (type == "<f4") return DType::float32;
    if (type == "|u1") return DType::uint8;
    if (type == "<i4") return DType::int32;
    if (type == "<i8") return DType::int64;
    return std::nullopt;
}

inline bool c_contiguous(const ArrayView& view, const pybind11::tuple& strides) {
    int64_t expected = item_size(view.dtype);
    for (int i = view.ndim - 1; i >= 0; i--) {
        if (view.shape[i] != 1 && strides[static_cast<size_t>(i)].cast<int64_t>() != expected) return false;
        expected *= view.shape[i];
    }
    return true;
}

}  // namespace fp16engine

namespace pybind11::detail {

template <>
struct type_caster<fp16engine::ArrayView> {
    PYBIND11_TYPE_CASTER(fp16engine::ArrayView, const_name("cupy.ndarray"));

    bool load(handle source, bool) {
        if (source.is_none()) {
            value = {};
            return true;
        }
        if (!hasattr(source, "__cuda_array_interface__")) return false;
        const dict interface = source.attr("__cuda_array_interface__");
        const auto type = interface["typestr"].cast<std::string>();
        const auto dtype = fp16engine::dtype_of(type);
        if (!dtype)
            throw value_error("array of type " + type + " given, float16, float32, uint8, int32 or int64 wanted");
        const tuple shape = interface["shape"];
        if (shape.size() > static_cast<size_t>(fp16engine::kMaxDims))
            throw value_error("array of " + std::to_string(shape.size()) + " axes given, at most 8 wanted");
        value.dtype = *dtype;
        value.ndim = static_cast<int>(shape.size());
        for (int i = 0; i < value.ndim; i++) value.shape[i] = shape[static_cast<size_t>(i)].cast<int64_t>();
        if (interface.contains("strides") && !interface["strides"].is_none() && value.size() > 0 &&
            !fp16engine::c_contiguous(value, interface["strides"]))
            throw value_error("array with strides given, a C-contiguous one wanted");
        value.data = reinterpret_cast<void*>(tuple(interface["data"])[0].cast<uintptr_t>());
        // An empty array has no memory, but it is not an absent one; nothing reads or writes through this.
        if (!value.data) value.data = reinterpret_cast<void*>(uintptr_t{256});
        return true;
    }
};

}  // namespace pybind11::detail
