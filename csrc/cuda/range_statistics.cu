// Launches the range statistics of kernels/range_statistics.cuh.
#include "kernels/range_statistics.cuh"

#include "cuda/ops.h"
#include "cuda/structs.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

template <class T>
void count(const std::vector<ArrayView>& arrays, Ptr<unsigned long long> counts, Ptr<const StepControl> control) {
    using Tensor = RangedTensor<T>;
    const auto entry = [&](size_t i) {
        return Tensor{pointer<const T>(arrays[i]), arrays[i].size(), static_cast<int>(i), aligned(arrays[i])};
    };
    for_tables<T, Tensor>(arrays, kRangeSlice, entry, [&](const TensorTable<Tensor>& table, unsigned slices) {
        FP16_LAUNCH((range_statistics_kernel<T>), slices, kBlock, table, counts, control);
    });
}

void count_all(const std::vector<ArrayView>& arrays, const ArrayView& counts, Ptr<const StepControl> control) {
    const auto totals = pointer<unsigned long long>(counts);
    count<__half>(arrays, totals, control);
    count<float>(arrays, totals, control);
}

}  // namespace

void range_statistics(const std::vector<ArrayView>& arrays, const ArrayView& counts) {
    if (arrays.empty()) return;
    set_zero(counts.data, static_cast<size_t>(counts.size() * item_size(counts.dtype)));
    count_all(arrays, counts, {});
}

void measure_gradients(const std::vector<ArrayView>& arrays, const ArrayView& control, const ArrayView& counts) {
    count_all(arrays, counts, Ptr<const StepControl>(control_block(control)));
}

}  // namespace fp16engine::gpu
