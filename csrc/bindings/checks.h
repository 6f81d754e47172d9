// What an operation may ask of its arguments. Every sentence names the argument, what is valid and what came.
#pragma once
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "bindings/dtypes.h"

namespace fp16engine::checks {

// Extents, strides and pads stay below: their sums and the products of two fit an int64.
constexpr int64_t kMaxExtent = (int64_t{1} << 31) - 1;

[[noreturn]] inline void refuse(const std::string& name, const std::string& valid, const std::string& got) {
    fail(name + " must be " + valid + ", got " + got);
}

struct Named {
    const char* name;
    const ArrayView& view;
};

inline void present(const Named& a) {
    if (!a.view) refuse(a.name, "an array", "None");
}

inline void of_dtype(const Named& a, DType dtype) {
    present(a);
    if (a.view.dtype != dtype) refuse(a.name, name(dtype), a.view.describe());
}

inline bool is_float(const ArrayView& view) {
    return view.dtype == DType::float16 || view.dtype == DType::float32 || view.dtype == DType::bfloat16;
}

inline void of_floats(const Named& a) {
    present(a);
    if (!is_float(a.view)) refuse(a.name, kFloats, a.view.describe());
}

inline std::string text(const std::vector<int64_t>& shape) {
    std::string inside;
    for (const int64_t extent : shape) inside += (inside.empty() ? "" : ", ") + std::to_string(extent);
    return "(" + inside + ")";
}

inline void of_shape(const Named& a, const std::vector<int64_t>& shape) {
    present(a);
    bool same = a.view.ndim == static_cast<int>(shape.size());
    for (int i = 0; same && i < a.view.ndim; i++) same = a.view.shape[i] == shape[static_cast<size_t>(i)];
    if (!same) refuse(a.name, "of shape " + text(shape), a.view.describe());
}

inline void of_rank(const Named& a, int least, int most, const char* axes) {
    present(a);
    if (a.view.ndim < least || a.view.ndim > most) refuse(a.name, axes, a.view.describe());
}

inline void of_size(const Named& a, int64_t size) {
    present(a);
    if (a.view.size() != size) refuse(a.name, std::to_string(size) + " values", a.view.describe());
}

// Structs of common/ in the device's memory.
template <class Struct>
void aligned_bytes(const Named& a) {
    of_dtype(a, DType::uint8);
    if (reinterpret_cast<uintptr_t>(a.view.data) % alignof(Struct))
        refuse(a.name, "aligned to " + std::to_string(alignof(Struct)) + " bytes", "an address between");
}

template <class Struct>
void holds(const Named& a) {
    aligned_bytes<Struct>(a);
    of_shape(a, {static_cast<int64_t>(sizeof(Struct))});
}

// A vector of a norm of x: stored as x is, or as float32.
inline void of_norm(const Named& a, const ArrayView& x) {
    present(a);
    if (a.view.dtype != x.dtype && a.view.dtype != DType::float32)
        refuse(a.name, std::string(name(x.dtype)) + (x.dtype == DType::float32 ? "" : " or float32"),
               a.view.describe());
}

// As many values of the same dtype; shapes may differ by axes of one.
inline void of_size_and_dtype(const Named& a, const ArrayView& like) {
    of_dtype(a, like.dtype);
    if (a.view.size() != like.size()) refuse(a.name, "of the size of " + like.describe(), a.view.describe());
}

inline void of_same(const Named& a, const ArrayView& like) {
    of_dtype(a, like.dtype);
    of_shape(a, std::vector<int64_t>(like.shape, like.shape + like.ndim));
}

inline void in_range(const char* name, int64_t value, int64_t least, int64_t most) {
    if (value < least || value > most)
        refuse(name, "an integer in [" + std::to_string(least) + ", " + std::to_string(most) + "]",
               std::to_string(value));
}

inline void finite(const char* name, double value) {
    if (!std::isfinite(value)) refuse(name, "a finite number", std::to_string(value));
}

// The product of extents, none of them negative.
inline int64_t product(const char* name, std::initializer_list<int64_t> extents) {
    int64_t result = 1;
    for (const int64_t extent : extents)
        if (extent < 0 || __builtin_mul_overflow(result, extent, &result))
            refuse(name, "extents >= 0 whose product fits 64 bits", text(extents));
    return result;
}

inline void half_terms(const char* name, const ArrayView& x, bool half_accumulator) {
    if (half_accumulator && x.dtype != DType::float16) refuse(name, "float16 with binary16 accumulators", x.describe());
}

inline bool overlap(const ArrayView& a, const ArrayView& b) {
    const auto from = reinterpret_cast<uintptr_t>(a.data), other = reinterpret_cast<uintptr_t>(b.data);
    const auto bytes = static_cast<uintptr_t>(a.size() * item_size(a.dtype)),
               others = static_cast<uintptr_t>(b.size() * item_size(b.dtype));
    return a && b && bytes && others && from < other + others && other < from + bytes;
}

inline bool same_memory(const ArrayView& a, const ArrayView& b) {
    return a.data == b.data && a.size() == b.size() && a.dtype == b.dtype;
}

enum class Sharing { none, in_place };  // in place: an output may be the very memory of an input

// Absent arrays are left out.
inline void outputs(std::initializer_list<Named> written, std::initializer_list<Named> read,
                    Sharing sharing = Sharing::none) {
    for (const Named* a = written.begin(); a != written.end(); a++) {
        if (a->view && !a->view.writable) refuse(a->name, "writable", "a read-only array");
        for (const Named* b = written.begin(); b != a; b++)
            if (overlap(a->view, b->view)) refuse(a->name, std::string("apart from ") + b->name, "overlapping memory");
        for (const Named& b : read)
            if (overlap(a->view, b.view) && (sharing == Sharing::none || !same_memory(a->view, b.view)))
                refuse(a->name, std::string("apart from ") + b.name, "overlapping memory");
    }
}

inline void present_floats(const char* name, const std::vector<ArrayView>& arrays) {
    for (const ArrayView& view : arrays) of_floats({name, view});
}

inline void all_writable(const char* name, const std::vector<ArrayView>& arrays) {
    for (const ArrayView& view : arrays) outputs({{name, view}}, {});
}

constexpr auto nothing = [](const auto&...) {};

}  // namespace fp16engine::checks
