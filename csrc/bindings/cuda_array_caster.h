// Device arrays become Arrays at the boundary, through the __cuda_array_interface__ that CuPy, PyTorch and Numba
// share: type and contiguity are checked once, here, and None is an absent array.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/array.h"

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
struct type_caster<fp16engine::Array> {
    PYBIND11_TYPE_CASTER(fp16engine::Array, const_name("cupy.ndarray"));

    bool load(handle source, bool) {
        value = {};
        if (source.is_none()) return true;
        if (!hasattr(source, "__cuda_array_interface__")) return false;
        const dict interface = source.attr("__cuda_array_interface__");
        const auto type = interface["typestr"].cast<std::string>();
        const auto dtype = fp16engine::dtype_of(type);
        const tuple shape = interface["shape"], data = interface["data"];
        if (!dtype) {
            value.fault = std::string(fp16engine::kDTypes) + ", got type " + type;
            return true;
        }
        if (shape.size() > static_cast<size_t>(fp16engine::kMaxDims)) {
            value.fault = "an array of at most 8 axes, got " + std::to_string(shape.size());
            return true;
        }
        fp16engine::ArrayView& view = value.view;
        view.dtype = *dtype;
        view.ndim = static_cast<int>(shape.size());
        view.writable = !data[1].cast<bool>();
        for (int i = 0; i < view.ndim; i++) view.shape[i] = shape[static_cast<size_t>(i)].cast<int64_t>();
        if (interface.contains("strides") && !interface["strides"].is_none() && view.size() > 0 &&
            !fp16engine::c_contiguous(view, interface["strides"]))
            value.fault = "C-contiguous, got an array with strides";
        view.data = reinterpret_cast<void*>(data[0].cast<uintptr_t>());
        // An empty array has no memory, but it is not an absent one; nothing reads or writes through this.
        if (!view.data) view.data = reinterpret_cast<void*>(uintptr_t{256});
        return true;
    }
};

}  // namespace pybind11::detail
