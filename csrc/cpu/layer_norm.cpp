// Layer normalisation over the last axis: mean and variance by two passes over a row, rounded to the statistics' dtype
// before use.
#include <cmath>
#include <vector>

#include "cpu/ops.h"
#include "cpu/row_groups.h"

namespace fp16engine::cpu {
namespace {

struct Rows {
    int64_t count, K;
    explicit Rows(const ArrayView& x) : count(x.dim(-1) ? x.size() / x.dim(-1) : 0), K(x.dim(-1)) {}
};

std::vector<float> floats(const ArrayView& v) {
    std::vector<float> values(static_cast<size_t>(v.size()));
    with_storage("statistics", v.dtype, [&](auto type) { to_floats(v.as<decltype(type)>(), values.data(), v.size()); });
    return values;
}

float rounded(float value, DType dtype) {
    with_storage("statistics", dtype, [&](auto type) { value = to_float(from_float<decltype(type)>(value)); });
    return value;
}

void store_floats(const std::vector<float>& values, const ArrayView& v) {
    with_storage("statistics", v.dtype,
                 [&](auto type) { from_floats(values.data(), v.as<decltype(type)>(), v.size()); });
}

// dbeta and dgamma as sums over the rows, slice by slice, merged in the order of the slices.
template <class T>
void parameter_gradients(const T* x, const T* dy, const Rows& r, const std::vector<float>& mean,
                         const std::vector<float>& inv_std, bool half_accumulator, std::vector<float>& dbeta,
                         std::vector<float>& dgamma) {
    const int64_t slice = half_accumulator ? kStrictBlock : std::max<int64_t>(32, 16384 / std::max<int64_t>(r.K, 1));
    const int64_t slices = (r.count + slice - 1) / slice;
    const Scratch scratch(2 * slices * r.K);
    float* const shifts = scratch.get();
    float* const slopes = shifts + slices * r.K;
    parallel_for(slices, [&](int64_t i, int) {
        const int64_t first = i * slice;
        kernels().layer_norm(T{}).column_sums(x + first * r.K, dy + first * r.K, std::min(slice, r.count - first), r.K,
                                              &mean[first], &inv_std[first], half_accumulator, shifts + i * r.K,
                                              slopes + i * r.K);
    });
    if (!half_accumulator) {
        for (int64_t i = 0; i < slices; i++) {
            kernels().sums.accumulate(shifts + i * r.K, dbeta.data(), r.K);
            kernels().sums.accumulate(slopes + i * r.K, dgamma.data(), r.K);
        }
        return;
    }
    const Scratch levels(2 * strict_levels(r.count) * r.K);
    StrictSum shift(levels.get(), r.K), slope(levels.get() + strict_levels(r.count) * r.K, r.K);
    for (int64_t i = 0; i < slices; i++) {
        shift.add(shifts + i * r.K);
        slope.add(slopes + i * r.K);
    }
    shift.finish(dbeta.data());
    slope.finish(dgamma.data());
}

}  // namespace

void layer_norm_forward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double eps, bool half_accumulator) {
    const Rows r(x);
    const std::vector<float> g = floats(gamma), b = floats(beta);
    std::vector<float> means(r.count), deviations(r.count);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const auto& loops = kernels().layer_norm(T{});
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            const T* const rows = x.as<T>() + first * r.K;
            float sums[kGroup];
            to_floats(rows, terms, count * r.K);
            average_terms(terms, count, r.K, half_accumulator, 1.0f, sums);
            for (int64_t i = 0; i < count; i++) {
                if (half_accumulator) sums[i] = rounded(sums[i], DType::float16);
                means[first + i] = rounded(sums[i], mean.dtype);
                loops.squared_distances(rows + i * r.K, r.K, sums[i], terms + i * r.K);
            }
            average_terms(terms, count, r.K, half_accumulator, 1.0f / kStrictBlock, sums);
            for (int64_t i = 0; i < count; i++) {
                deviations[first + i] = rounded(1.0f / std::sqrt(sums[i] + static_cast<float>(eps)), inv_std.dtype);
                loops.normalize_row(rows + i * r.K, r.K, means[first + i], deviations[first + i], g.data(), b.data(),
                                    y.as<T>() + (first + i) * r.K);
            }
        });
    });
    store_floats(means, mean);
    store_floats(deviations, inv_std);
}

void layer_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& mean, const ArrayView& inv_std,
                         const ArrayView& dy, const ArrayView& dx, const ArrayView& dgamma, const ArrayView& dbeta,
                         bool half_accumulator) {
    const Rows r(x);
    const std::vector<float> g = floats(gamma), m = floats(mean), s = floats(inv_std);
    std::vector<float> shift(r.K), slope(r.K);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const auto& loops = kernels().layer_norm(T{});
        parameter_gradients(x.as<T>(), dy.as<T>(), r, m, s, half_accumulator, shift, slope);
        for_row_groups(r.count, r.K, half_accumulator, 2, [&](int64_t first, int64_t count, float* scaled) {
            float* const weighted = scaled + count * r.K;
            float offsets[kGroup], slopes[kGroup];
            for (int64_t i = 0; i < count; i++) {
                const int64_t row = (first + i) * r.K;
                loops.gradient_terms(x.as<T>() + row, dy.as<T>() + row, r.K, m[first + i], s[first + i], g.data(),
                                     scaled + i * r.K, weighted + i * r.K);
            }
            sum_terms(scaled, count, r.K, half_accumulator, false, offsets);
            sum_terms(weighted, count, r.K, half_accumulator, false, slopes);
            for (int64_t i = 0; i < count; i++) {
                const int64_t row = (first + i) * r.K;
                const float terms = static_cast<float>(r.K);
                loops.gradient_row(x.as<T>() + row, scaled + i * r.K, r.K, m[first + i], s[first + i],
                                   offsets[i] / terms, slopes[i] / terms, dx.as<T>() + row);
            }
        });
    });
    store_floats(shift, dbeta);
    store_floats(slope, dgamma);
}

}  // namespace fp16engine::cpu
