// Launches the kernels of kernels/control.cuh.
#include "kernels/control.cuh"

#include "cuda/ops.h"
#include "cuda/structs.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

// Arrays of any type as halves, which are moved and not read.
std::vector<ArrayView> as_halves(std::vector<ArrayView> arrays) {
    for (ArrayView& array : arrays) {
        array.shape[0] = array.size() * (item_size(array.dtype) / item_size(DType::float16));
        array.ndim = 1;
        array.dtype = DType::float16;
    }
    return arrays;
}

}  // namespace

void batch_indices(const ArrayView& control, const ArrayView& order, const ArrayView& indices) {
    const auto c = Ptr<const StepControl>(control_block(control));
    const auto from = pointer<const int64_t>(order);
    const auto to = pointer<int64_t>(indices);
    const int64_t count = order.size(), n = indices.size();
    FP16_LAUNCH(batch_indices_kernel, grid_for(n), kBlock, c, from, to, count, n);
}

void loss_seed(const ArrayView& control, const ArrayView& dy) {
    const auto c = Ptr<const StepControl>(control_block(control));
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        const auto y = pointer<T>(dy);
        FP16_LAUNCH((loss_seed_kernel<T>), 1, 1, c, y);
    });
}

void count_correct(const ArrayView& logits, const ArrayView& labels, const ArrayView& control) {
    const auto c = control_block(control);
    const int64_t N = logits.shape[0], K = logits.shape[1];
    with_storage("logits", logits.dtype, [&](auto type) {
        using T = decltype(type);
        const auto z = pointer<const T>(logits);
        const auto y = pointer<const int64_t>(labels);
        const auto blocks = static_cast<unsigned>(ceil_divide(N, kBlock));
        FP16_LAUNCH((count_correct_kernel<T>), blocks, kBlock, z, y, c, N, K);
    });
}

void rank_nonfinite(const std::vector<ArrayView>& arrays, const std::vector<int64_t>& ranks, const ArrayView& loss,
                    bool origin, const ArrayView& control) {
    const auto c = control_block(control);
    with_storage("loss", loss.dtype, [&](auto loss_type) {
        using L = decltype(loss_type);
        const auto value = pointer<const L>(loss);
        const auto look = [&](auto type) {
            using T = decltype(type);
            using Tensor = RankedTensor<T>;
            const auto entry = [&](size_t i) {
                return Tensor{pointer<const T>(arrays[i]), arrays[i].size(), static_cast<int>(ranks[i]),
                              aligned(arrays[i])};
            };
            for_tables<T, Tensor>(arrays, kRankSlice, entry, [&](const TensorTable<Tensor>& table, unsigned slices) {
                FP16_LAUNCH((rank_nonfinite_kernel<T, L>), slices, kBlock, table, value, origin, c);
            });
        };
        look(__half{});
        look(float{});
    });
}

void decide_step(const ArrayView& control, const ArrayView& loss, const ArrayView& norm, double max_norm,
                 const ArrayView& table, const ArrayView& scalars) {
    const auto c = Ptr<const StepControl>(control_block(control));
    const auto rows_of = Ptr<const StepScalars>(structs<StepScalars>(table));
    const auto now = structs<StepScalars>(scalars);
    const auto length = norm ? pointer<const float>(norm) : Ptr<const float>();
    const int64_t rows = table.size() / static_cast<int64_t>(sizeof(StepScalars));
    with_storage("loss", loss.dtype, [&](auto type) {
        using L = decltype(type);
        const auto value = pointer<const L>(loss);
        FP16_LAUNCH((decide_step_kernel<L>), 1, 1, c, value, length, max_norm, rows_of, now, rows);
    });
}

void replace(const std::vector<ArrayView>& given_arrays, const std::vector<ArrayView>& given_values,
             const ArrayView& scalars, bool applied) {
    const std::vector<ArrayView> arrays = as_halves(given_arrays), values = as_halves(given_values);
    const auto now = Ptr<const StepScalars>(structs<StepScalars>(scalars));
    const auto entry = [&](size_t i) {
        return ReplacedTensor{pointer<__half>(arrays[i]), pointer<const __half>(values[i]), arrays[i].size(),
                              aligned(arrays[i]) && aligned(values[i])};
    };
    for_tables<__half, ReplacedTensor>(arrays, kBlock * kEight, entry,
                                       [&](const TensorTable<ReplacedTensor>& table, unsigned slices) {
                                           FP16_LAUNCH(replace_kernel, slices, kBlock, table, now, applied);
                                       });
}

void advance_step(const ArrayView& control, const ArrayView& loss, const ArrayView& results, const ArrayView& counts,
                  double growth, double backoff, double floor, double cap, int64_t interval, int64_t patience,
                  int64_t max_bad_steps, int64_t dropout, int64_t forward_dropout, bool scaled, bool dynamic,
                  bool automatic, int64_t settling, int64_t every, int64_t top) {
    const auto c = control_block(control);
    const auto to = pointer<int32_t>(results);
    const auto ranges = counts ? pointer<const unsigned long long>(counts) : Ptr<const unsigned long long>();
    const int64_t rows = results.shape[0];
    const StepPolicy policy = {growth,  backoff,         floor,  cap,     interval,  patience, max_bad_steps,
                               dropout, forward_dropout, scaled, dynamic, automatic, settling, every,
                               top};
    with_storage("loss", loss.dtype, [&](auto type) {
        using L = decltype(type);
        const auto value = pointer<const L>(loss);
        FP16_LAUNCH((advance_step_kernel<L>), 1, 1, c, value, to, ranges, rows, policy);
    });
}

}  // namespace fp16engine::gpu
