// An array as it came from Python: a view, or what is wrong with it, said once the argument's name is known.
#pragma once
#include <string>
#include <vector>

#include "bindings/dtypes.h"

namespace fp16engine {

struct Array {
    ArrayView view;
    std::string fault;

    const ArrayView& open(const char* name) const {
        if (!fault.empty()) fail(name + (" must be " + fault));
        return view;
    }
};

inline std::vector<ArrayView> views(const char* name, const std::vector<Array>& arrays) {
    std::vector<ArrayView> opened;
    for (const Array& array : arrays) {
        opened.push_back(array.open(name));
        if (!opened.back()) fail(std::string(name) + " must be a list of arrays, got None in it");
    }
    return opened;
}

}  // namespace fp16engine
