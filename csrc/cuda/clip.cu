// Launches the global norm and the clipping of kernels/clip.cuh.
#include "kernels/clip.cuh"

#include <cmath>

#include "cuda/ops.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

using Arrays = std::vector<ArrayView>;

// launch(table, slices) over all tensors of type T.
template <class T, class Launch>
void for_norm_tables(const Arrays& arrays, Launch launch) {
    using Tensor = NormTensor<T>;
    const auto entry = [&](size_t i) { return Tensor{pointer<T>(arrays[i]), arrays[i].size(), aligned(arrays[i])}; };
    for_tables<T, Tensor>(arrays, kNormSlice, entry, launch);
}

// One value per slice into partial from `first` on; returns the first that is left.
template <class T, bool kSquares>
int64_t launch_slices(const Arrays& arrays, Ptr<const float> scale, Ptr<float> partial, int64_t first) {
    for_norm_tables<T>(arrays, [&](const TensorTable<NormTensor<T>>& table, unsigned slices) {
        const Ptr<float> results = partial + first;
        FP16_LAUNCH((norm_slice_kernel<T, kSquares>), slices, kBlock, table, scale, results);
        first += slices;
    });
    return first;
}

template <bool kSquares>
void launch_norm(const Arrays& arrays, Ptr<float> norm, Ptr<float> partial) {
    int64_t slices = launch_slices<__half, kSquares>(arrays, norm, partial, 0);
    slices = launch_slices<float, kSquares>(arrays, norm, partial, slices);
    FP16_LAUNCH((norm_finish_kernel<kSquares>), 1, kBlock, partial, slices, norm);
}

}  // namespace

void global_norm(const Arrays& arrays, const ArrayView& norm) {
    int64_t slices = 0;
    for (const ArrayView& view : arrays) slices += ceil_divide(view.size(), kNormSlice);
    const Workspace workspace(slices + 1);
    launch_norm<false>(arrays, pointer<float>(norm), workspace.get());
    launch_norm<true>(arrays, pointer<float>(norm), workspace.get());
}

void clip_to_norm(const Arrays& arrays, const ArrayView& norm, double max_norm) {
    const auto scale_and_root = pointer<const float>(norm);
    const float limit = static_cast<float>(max_norm);
    for_norm_tables<__half>(arrays, [&](const auto& table, unsigned slices) {
        FP16_LAUNCH((clip_kernel<__half>), slices, kBlock, table, scale_and_root, limit);
    });
    for_norm_tables<float>(arrays, [&](const auto& table, unsigned slices) {
        FP16_LAUNCH((clip_kernel<float>), slices, kBlock, table, scale_and_root, limit);
    });
}

}  // namespace fp16engine::gpu
