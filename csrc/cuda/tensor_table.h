// Cuts a list of tensors into tables of bounded size: as few launches as a kernel's argument space allows.
#pragma once
#include <climits>
#include <initializer_list>
#include <vector>

#include "cuda/launch.h"
#include "kernels/tensor_table.cuh"

namespace fp16engine::gpu {

// For every table over the tensors of type T: launch(table, slices), each slice of at most `slice` elements;
// entry(i) is the table's line for tensors[i]. Tensors without elements are left out.
template <class T, class Entry, class MakeEntry, class Launch>
void for_tables(const std::vector<ArrayView>& tensors, int64_t slice, MakeEntry entry, Launch launch) {
    constexpr DType dtype = sizeof(T) == 2 ? DType::float16 : DType::float32;
    TensorTable<Entry> table{};
    const auto flush = [&] {
        if (table.count > 0) launch(table, static_cast<unsigned>(table.first_slice[table.count]));
        table.count = 0;
    };
    for (size_t i = 0; i < tensors.size(); i++) {
        const int64_t slices = ceil_divide(tensors[i].size(), slice);
        if (tensors[i].dtype != dtype || slices == 0) continue;
        expect(slices <= INT_MAX, "tensors must need fewer than 2^31 slices, got " + tensors[i].describe());
        if (table.count == kTableTensors || table.first_slice[table.count] + slices > INT_MAX) flush();
        table.entries[table.count] = entry(i);
        table.first_slice[table.count + 1] = table.first_slice[table.count] + static_cast<int>(slices);
        table.count++;
    }
    flush();
}

}  // namespace fp16engine::gpu
