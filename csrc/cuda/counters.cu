// Launches the range statistics of kernels/counters.cuh.
#include "kernels/counters.cuh"

#include "cuda/ops.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

template <class T>
void count(const std::vector<ArrayView>& arrays, Ptr<unsigned long long> counts) {
    using Tensor = RangedTensor<T>;
    const auto entry = [&](size_t i) {
        return Tensor{pointer<const T>(arrays[i]), arrays[i].size(), static_cast<int>(i), aligned(arrays[i])};
    };
    for_tables<T, Tensor>(arrays, kRangeSlice, entry, [&](const TensorTable<Tensor>& table, unsigned slices) {
        FP16_LAUNCH((range_statistics_kernel<T>), slices, kBlock, table, counts);
    });
}

}  // namespace

void range_statistics(const std::vector<ArrayView>& arrays, const ArrayView& counts) {
    expect_floats("arrays", arrays);
    expect_dtype("counts", counts, DType::int64);
    expect_shape("counts", counts, {static_cast<int64_t>(arrays.size()), kRangeColumns});
    if (arrays.empty()) return;
    set_zero(counts.data, static_cast<size_t>(counts.size() * item_size(counts.dtype)));
    const auto totals = pointer<unsigned long long>(counts);
    count<__half>(arrays, totals);
    count<float>(arrays, totals);
}

}  // namespace fp16engine::gpu
