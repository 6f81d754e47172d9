// Python arrays become Arrays at the boundary: type and contiguity are checked once, here, and None is an absent array.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/array.h"

namespace fp16engine {

inline std::optional<DType> dtype_of(const pybind11::dtype& dtype) {
    const char kind = dtype.kind();
    const auto bytes = dtype.itemsize();
    if (kind == 'f' && bytes == 2) return DType::float16;
    // the type that the package ml_dtypes adds to NumPy; a record of two bytes has the character 'V'
    if (kHasBfloat16 && kind == 'V' && bytes == 2 && dtype.char_() == 'E') return DType::bfloat16;
    if (kind == 'f' && bytes == 4) return DType::float32;
    if (kind == 'u' && bytes == 1) return DType::uint8;
    if (kind == 'i' && bytes == 4) return DType::int32;
    if (kind == 'i' && bytes == 8) return DType::int64;
    return std::nullopt;
}

}  // namespace fp16engine

namespace pybind11::detail {

template <>
struct type_caster<fp16engine::Array> {
    PYBIND11_TYPE_CASTER(fp16engine::Array, const_name("numpy.ndarray"));

    bool load(handle source, bool) {
        value = {};
        if (source.is_none()) return true;
        if (!isinstance<array>(source)) return false;
        const auto a = reinterpret_borrow<array>(source);
        const auto dtype = fp16engine::dtype_of(a.dtype());
        if (!dtype) {
            value.fault = std::string(fp16engine::kDTypes) + ", got " + std::string(str(a.dtype()));
        } else if (!(a.flags() & array::c_style)) {
            value.fault = "C-contiguous, got an array with strides";
        } else if (reinterpret_cast<uintptr_t>(a.data()) % static_cast<size_t>(a.dtype().alignment())) {
            value.fault = "aligned to its dtype, got an address between";
        } else if (a.ndim() > fp16engine::kMaxDims) {
            value.fault = "an array of at most 8 axes, got " + std::to_string(a.ndim());
        } else {
            fp16engine::ArrayView& view = value.view;
            view.data = const_cast<void*>(a.data());
            view.dtype = *dtype;
            view.writable = a.writeable();
            view.ndim = static_cast<int>(a.ndim());
            for (int i = 0; i < view.ndim; i++) view.shape[i] = a.shape(i);
        }
        return true;
    }
};

}  // namespace pybind11::detail
