// Launches the kernels of kernels/control.cuh.
#include "kernels/control.cuh"

#include "cuda/ops.h"
#include "cuda/structs.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

void expect_one(const char* argument, const ArrayView& view) {
    expect(view.size() == 1, std::string(argument) + " must be one number, got " + view.describe());
}

// Counters (n,), int64, as twice as many floats: moving those changes no bit.
std::vector<ArrayView> as_floats(std::vector<ArrayView> arrays) {
    for (ArrayView& array : arrays) {
        if (array.dtype != DType::int64 || array.ndim == 0) continue;
        array.dtype = DType::float32;
        array.shape[array.ndim - 1] *= 2;
    }
    return arrays;
}

}  // namespace

void batch_indices(const ArrayView& control, const ArrayView& order, const ArrayView& indices) {
    expect_dtype("order", order, DType::int64);
    expect_dtype("indices", indices, DType::int64);
    const auto c = Ptr<const StepControl>(control_block(control));
    const auto from = pointer<const int64_t>(order);
    const auto to = pointer<int64_t>(indices);
    const int64_t count = order.size(), n = indices.size();
    FP16_LAUNCH(batch_indices_kernel, grid_for(n), kBlock, c, from, to, count, n);
}

void loss_seed(const ArrayView& control, const ArrayView& dy) {
    expect_one("dy", dy);
    const auto c = Ptr<const StepControl>(control_block(control));
    with_storage("dy", dy.dtype, [&](auto type) {
        using T = decltype(type);
        const auto y = pointer<T>(dy);
        FP16_LAUNCH((loss_seed_kernel<T>), 1, 1, c, y);
    });
}

void count_correct(const ArrayView& logits, const ArrayView& labels, const ArrayView& control) {
    expect(logits.ndim == 2 && logits.shape[1] > 0, "logits must be (N, K), got " + logits.describe());
    expect_dtype("labels", labels, DType::int64);
    expect_shape("labels", labels, {logits.shape[0]});
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
    expect(ranks.size() == arrays.size(),
           "ranks must be " + std::to_string(arrays.size()) + " as in arrays, got " + std::to_string(ranks.size()));
    expect_floats("arrays", arrays);
    expect_one("loss", loss);
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

void decide_step(const ArrayView& control, const ArrayView& loss, const ArrayView& norm, double most,
                 const ArrayView& table, const ArrayView& scalars) {
    expect_one("loss", loss);
    if (norm) {
        expect_dtype("norm", norm, DType::float32);
        expect_shape("norm", norm, {2});
    }
    const auto c = Ptr<const StepControl>(control_block(control));
    const auto rows_of = Ptr<const StepScalars>(structs<StepScalars>("table", table, 0));
    const auto now = structs<StepScalars>("scalars", scalars, 1);
    const auto length = norm ? pointer<const float>(norm) : Ptr<const float>();
    const int64_t rows = table.size() / static_cast<int64_t>(sizeof(StepScalars));
    with_storage("loss", loss.dtype, [&](auto type) {
        using L = decltype(type);
        const auto value = pointer<const L>(loss);
        FP16_LAUNCH((decide_step_kernel<L>), 1, 1, c, value, length, most, rows_of, now, rows);
    });
}

void replace(const std::vector<ArrayView>& given_arrays, const std::vector<ArrayView>& given_values,
             const ArrayView& scalars, bool applied) {
    const std::vector<ArrayView> arrays = as_floats(given_arrays), values = as_floats(given_values);
    expect(values.size() == arrays.size(),
           "values must be " + std::to_string(arrays.size()) + " as in arrays, got " + std::to_string(values.size()));
    expect_floats("arrays", arrays);
    for (size_t i = 0; i < arrays.size(); i++) {
        expect_dtype("values", values[i], arrays[i].dtype);
        expect(values[i].size() == arrays[i].size(),
               "values must be like the arrays' " + arrays[i].describe() + ", got " + values[i].describe());
    }
    const auto now = Ptr<const StepScalars>(structs<StepScalars>("scalars", scalars, 1));
    const auto put = [&](auto type) {
        using T = decltype(type);
        using Tensor = ReplacedTensor<T>;
        const auto entry = [&](size_t i) {
            return Tensor{pointer<T>(arrays[i]), pointer<const T>(values[i]), arrays[i].size(),
                          aligned(arrays[i]) && aligned(values[i])};
        };
        for_tables<T, Tensor>(arrays, kBlock * kEight, entry, [&](const TensorTable<Tensor>& table, unsigned slices) {
            FP16_LAUNCH((replace_kernel<T>), slices, kBlock, table, now, applied);
        });
    };
    put(__half{});
    put(float{});
}

void advance_step(const ArrayView& control, const ArrayView& loss, const ArrayView& results, const ArrayView& counts,
                  double growth, double backoff, double floor, double cap, int64_t interval, int64_t patience,
                  int64_t max_bad_steps, int64_t dropout, int64_t forward_dropout, bool scaled, bool dynamic,
                  bool automatic, int64_t settling, int64_t every, int64_t top) {
    expect_one("loss", loss);
    expect_dtype("results", results, DType::int32);
    expect(results.ndim == 2 && results.shape[1] == kStepResults,
           "results must be (rows, 4), got " + results.describe());
    expect(bool(counts) == automatic,
           std::string("counts must be given with an automatic loss scale only, got ") + (counts ? "counts" : "None"));
    if (counts) {
        expect_dtype("counts", counts, DType::int64);
        expect_shape("counts", counts, {results.shape[0], kRangeColumns});
        expect(every > 0, "every must be at least 1 step, got " + std::to_string(every));
    }
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
