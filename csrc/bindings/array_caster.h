// Python arrays become ArrayViews at the border: type and contiguity are checked once, here, and None is an absent
// array.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "common/array_view.h"

namespace fp16engine {

inline std::optional<DType> dtype_of(const pybind11::dtype& dtype) {
    const char kind = dtype.kind();
    const auto bytes = dtype.itemsize();
    if (kind == 'f' && bytes == 2) return DType::float16;
    if (kind == 'f' && bytes == 4) return DType::float32;
    if (kind == 'u' && bytes == 1) return DType::uint8;
    if (kind == 'i' && bytes == 4) return DType::int32;
    if (kind == 'i' && bytes == 8) return DType::int64;
    return std::nullopt;
}

}  // namespace fp16engine

namespace pybind11::detail {

template <>
struct type_caster<fp16engine::ArrayView> {
    PYBIND11_TYPE_CASTER(fp16engine::ArrayView, const_name("numpy.ndarray"));

    bool load(handle source, bool) {
        if (source.is_none()) {
            value = {};
            return true;
        }
        if (!isinstance<array>(source)) return false;
        const auto a = reinterpret_borrow<array>(source);
        const auto dtype = fp16engine::dtype_of(a.dtype());
        if (!dtype)
            throw value_error("array of dtype " + std::string(str(a.dtype())) +
                              " given, float16, float32, uint8, int32 or int64 wanted");
        if (!(a.flags() & array::c_style)) throw value_error("array with strides given, a C-contiguous one wanted");
        if (a.ndim() > fp16engine::kMaxDims)
            throw value_error("array of " + std::to_string(a.ndim()) + " axes given, at most 8 wanted");
        value.data = const_cast<void*>(a.data());
        value.dtype = *dtype;
        value.ndim = static_cast<int>(a.ndim());
        for (int i = 0; i < value.ndim; i++) value.shape[i] = a.shape(i);
        return true;
    }
};

}  // namespace pybind11::detail
