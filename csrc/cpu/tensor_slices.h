// Many tensors in one parallel region: slices of their concatenation, so that small tensors share a task.
#pragma once
#include <algorithm>
#include <vector>

#include "common/array_view.h"
#include "common/parallel.h"

namespace fp16engine::cpu {

constexpr int64_t kSlice = 1 << 14;  // elements of one task

// body(tensor, first element, count) over slices that cover every tensor, `first` a multiple of `align`, which divides
// kSlice.
template <class Body>
void for_slices(const std::vector<ArrayView>& tensors, Body body, int64_t align = 1) {
    std::vector<int64_t> starts(tensors.size() + 1);
    for (size_t i = 0; i < tensors.size(); i++)
        starts[i + 1] = starts[i] + (tensors[i].size() + align - 1) / align * align;
    parallel_slices(starts.back(), kSlice, [&](int64_t begin, int64_t end) {
        size_t i = static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), begin) - starts.begin()) - 1;
        for (; i < tensors.size() && starts[i] < end; i++) {
            const int64_t first = std::max(begin, starts[i]) - starts[i];
            const int64_t last = std::min(end - starts[i], tensors[i].size());
            if (first < last) body(i, first, last - first);
        }
    });
}

}  // namespace fp16engine::cpu
