// Binds one operation: its arguments by name, checked before it runs, without the GIL. After the device's array caster.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <type_traits>
#include <vector>

#include "bindings/array.h"

namespace fp16engine {

// What a module has to say once a call is over: each one defines it.
void after_call();

// How an argument comes from Python, and what the operation gets of it.
template <class T>
struct Bound {
    using type = T;
    static const T& open(const char*, const T& value) { return value; }
};

template <>
struct Bound<ArrayView> {
    using type = Array;
    static const ArrayView& open(const char* name, const Array& array) { return array.open(name); }
};

template <>
struct Bound<std::vector<ArrayView>> {
    using type = std::vector<Array>;
    static std::vector<ArrayView> open(const char* name, const std::vector<Array>& arrays) {
        return views(name, arrays);
    }
};

// Not called bind: std::bind would be found for arguments of namespace std. check(arguments...) throws where
// op(arguments...) must not run.
template <class R, class... A, class Check, class... Names>
void bind_checked(pybind11::module_& m, const char* name, R (*op)(A...), Check check, const Names&... names) {
    static_assert(sizeof...(A) == sizeof...(Names));
    const auto run = [op, check](const std::decay_t<A>&... a) {
        check(a...);
        return op(a...);
    };
    const auto call = [run, names...](const typename Bound<std::decay_t<A>>::type&... a) {
        const pybind11::gil_scoped_release release;
        return run(Bound<std::decay_t<A>>::open(names.name, a)...);
    };
    m.def(
        name,
        [call](const typename Bound<std::decay_t<A>>::type&... a) {
            if constexpr (std::is_void_v<R>) {
                call(a...);
                after_call();
            } else {
                R result = call(a...);
                after_call();
                return result;
            }
        },
        names...);
}

}  // namespace fp16engine
