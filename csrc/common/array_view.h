// A borrowed, C-contiguous array: pointer, type and shape. The binding makes it; kernels and drivers only read it.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "common/check.h"

namespace fp16engine {

enum class DType : uint8_t { float16, bfloat16, float32, uint8, int32, int64 };

inline const char* name(DType dtype) {
    switch (dtype) {
        case DType::float16:
            return "float16";
        case DType::bfloat16:
            return "bfloat16";
        case DType::float32:
            return "float32";
        case DType::uint8:
            return "uint8";
        case DType::int32:
            return "int32";
        case DType::int64:
            return "int64";
    }
    return "unknown";
}

inline int64_t item_size(DType dtype) {
    switch (dtype) {
        case DType::uint8:
            return 1;
        case DType::float16:
        case DType::bfloat16:
            return 2;
        case DType::float32:
        case DType::int32:
            return 4;
        case DType::int64:
            return 8;
    }
    return 0;
}

constexpr int kMaxDims = 8;

struct ArrayView {
    void* data = nullptr;  // nullptr stands for an absent optional array
    DType dtype = DType::float32;
    bool writable = true;
    int ndim = 0;
    int64_t shape[kMaxDims] = {};

    explicit operator bool() const { return data != nullptr; }

    int64_t size() const {
        int64_t n = 1;
        for (int i = 0; i < ndim; i++) n *= shape[i];
        return n;
    }

    // Negative axes count from the end.
    int64_t dim(int axis) const { return shape[axis < 0 ? axis + ndim : axis]; }

    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }

    std::string describe() const {
        std::string text = std::string(name(dtype)) + " (";
        for (int i = 0; i < ndim; i++) text += (i ? ", " : "") + std::to_string(shape[i]);
        return text + ")";
    }
};

inline void expect_shape(const char* argument, const ArrayView& view, std::initializer_list<int64_t> expected) {
    bool same = view.ndim == static_cast<int>(expected.size());
    int axis = 0;
    for (int64_t extent : expected) same = same && view.shape[axis++] == extent;
    if (same) return;
    std::string text;
    for (int64_t extent : expected) text += (text.empty() ? "" : ", ") + std::to_string(extent);
    fail(std::string(argument) + " must be of shape (" + text + "), got " + view.describe());
}

inline void expect_dtype(const char* argument, const ArrayView& view, DType expected) {
    if (view.dtype != expected) fail(std::string(argument) + " must be " + name(expected) + ", got " + view.describe());
}

}  // namespace fp16engine
