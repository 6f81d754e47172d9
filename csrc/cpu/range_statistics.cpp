// Where the values of many tensors lie on binary16's number line: integer counts, the same for any number of threads.
#include <cstring>
#include <vector>

#include "cpu/ops.h"
#include "cpu/packed_product.h"
#include "cpu/tensor_slices.h"

namespace fp16engine::cpu {

void range_statistics(const std::vector<ArrayView>& arrays, const ArrayView& counts) {
    for (const ArrayView& view : arrays) with_storage("arrays", view.dtype, [](auto) {});
    std::memset(counts.data, 0, static_cast<size_t>(counts.size() * item_size(counts.dtype)));
    for_slices(arrays, [&](size_t i, int64_t first, int64_t count) {
        int64_t found[kRangeColumns] = {};
        with_storage("arrays", arrays[i].dtype, [&](auto type) {
            using T = decltype(type);
            kernels().range(type).counts(arrays[i].as<T>() + first, count, found);
        });
        int64_t* const row = counts.as<int64_t>() + static_cast<int64_t>(i) * kRangeColumns;
        for (int c = 0; c < kRangeColumns; c++)
            if (found[c]) __atomic_fetch_add(row + c, found[c], __ATOMIC_RELAXED);
    });
}

}  // namespace fp16engine::cpu
