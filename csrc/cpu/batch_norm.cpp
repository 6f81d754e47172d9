// Batch normalisation whose statistics live in the policy's dtype. Batch mean and variance are found slice by slice in
// float32 registers and merged in a fixed order (Chan et al. 1979), never as E[x^2] - E[x]^2; then they are rounded to
// the statistics' dtype, and those rounded values are what forward and backward use. Passes over memory: forward 2
// reads + 1 write, backward 4 reads + 1 write; what is added or masked on the way is one more for each array.
#include <cmath>
#include <vector>

#include "common/rectifier.h"
#include "common/running_average.h"
#include "cpu/ops.h"
#include "cpu/packed_product.h"

namespace fp16engine::cpu {
namespace {

constexpr int kSumX = 0, kSumSquaredDistance = 1, kSumGradient = 2, kSumGradientXhat = 3;

std::vector<float> floats(const ArrayView& v) {
    std::vector<float> values(static_cast<size_t>(v.size()));
    with_storage("statistics", v.dtype, [&](auto type) { to_floats(v.as<decltype(type)>(), values.data(), v.size()); });
    return values;
}

// Rounds the values to v's dtype, stores them, and leaves the rounded values in place.
void store_rounded(std::vector<float>& values, const ArrayView& v) {
    with_storage("statistics", v.dtype,
                 [&](auto type) { from_floats(values.data(), v.as<decltype(type)>(), v.size()); });
    values = floats(v);
}

struct Rows {
    int64_t rows, C, slice, slices;
    explicit Rows(const ArrayView& x) : rows(x.dim(-1) ? x.size() / x.dim(-1) : 0), C(x.dim(-1)) {
        slice = std::max<int64_t>(
            16, 8192 / std::max<int64_t>(C, 1));  // about 32 KiB of float, stays in the first-level cache
        slices = (rows + slice - 1) / slice;
    }
    int64_t begin(int64_t i) const { return i * slice; }
    int64_t count(int64_t i) const { return std::min(slice, rows - begin(i)); }
};

// One more array of the shape of x; without it, its slices are nullptr.
template <class T>
T* slice_of(const ArrayView& array, const Rows& r, int64_t i) {
    return array ? array.as<T>() + r.begin(i) * r.C : nullptr;
}

// sum = fl(x + addend) of slice i
template <class T>
void add_slice(const T* x, const T* addend, T* sum, const Rows& r, int64_t i) {
    Operand<T> a{x + r.begin(i) * r.C}, b{addend + r.begin(i) * r.C};
    a.varies = b.varies = true;
    kernels().elementwise(T{}).binary(Binary::add, a, b, 1, r.count(i) * r.C, sum + r.begin(i) * r.C);
}

template <class T>
void moments(const T* x, const T* addend, T* sum, const Rows& r, std::vector<float>& mean,
             std::vector<float>& variance) {
    const auto& norm = kernels().batch_norm(T{});
    std::vector<float> sums(r.slices * r.C), squares(r.slices * r.C);
    parallel_for(r.slices, [&](int64_t i, int) {
        if (addend) add_slice(x, addend, sum, r, i);
        norm.slice_moments((addend ? sum : x) + r.begin(i) * r.C, r.count(i), r.C, &sums[i * r.C], &squares[i * r.C]);
    });
    for (int64_t c = 0; c < r.C; c++) {
        double n = 0, center = 0, second = 0;  // the merge is host bookkeeping: a few values per channel
        for (int64_t i = 0; i < r.slices; i++) {
            const double count = static_cast<double>(r.count(i)), distance = sums[i * r.C + c] / count - center;
            second += squares[i * r.C + c] + distance * distance * n * count / (n + count);
            n += count;
            center += distance * count / n;
        }
        mean[c] = static_cast<float>(center);
        variance[c] = static_cast<float>(second / n);
    }
}

// Sums over all rows with binary16 accumulators: blocks of 32 rows, then StrictSum. The first two quantities are
// averages.
template <class T>
std::vector<float> strict_sums(const T* x, const T* dy, const Rows& r, const std::vector<float>& mean,
                               const std::vector<float>& inv_std, const std::vector<float>& gamma,
                               const std::vector<float>& beta, int quantity, const Rectifier& rectifier) {
    const bool average = quantity == kSumX || quantity == kSumSquaredDistance;  // of terms times inv_std, a scale
    const int64_t blocks = (r.rows + kStrictBlock - 1) / kStrictBlock;
    std::vector<float> sums(blocks * r.C), levels(strict_levels(r.rows) * r.C), total(r.C);
    parallel_for(blocks, [&](int64_t i, int) {
        const int64_t first = i * kStrictBlock;
        kernels().batch_norm(T{}).strict_block_sums(
            x + first * r.C, dy ? dy + first * r.C : nullptr, std::min(kStrictBlock, r.rows - first), r.C, mean.data(),
            inv_std.data(), gamma.data(), beta.data(), quantity, rectifier, &sums[i * r.C]);
    });
    StrictSum sum(levels.data(), r.C, average);
    for (int64_t i = 0; i < blocks; i++) sum.add(&sums[i * r.C]);
    const float factor = sum.finish(total.data());
    if (average)
        for (float& v : total) v = v * factor / static_cast<float>(r.rows);
    return total;
}

// A power of two per column by which neither its strict sum nor that of its squared distances overflows.
template <class T>
std::vector<float> strict_scales(const T* x, const Rows& r) {
    std::vector<float> found(r.slices * r.C), largest(r.C);
    parallel_for(r.slices, [&](int64_t i, int) {
        kernels().batch_norm(T{}).largest(x + r.begin(i) * r.C, r.count(i), r.C, &found[i * r.C]);
    });
    for (int64_t i = 0; i < r.slices; i++)
        for (int64_t c = 0; c < r.C; c++) largest[c] = std::max(largest[c], found[i * r.C + c]);
    for (float& v : largest) v = strict_scale(v);
    return largest;
}

template <class T>
void strict_moments(const T* x, const Rows& r, std::vector<float>& mean, std::vector<float>& variance) {
    const std::vector<float> zeros(r.C), scale = strict_scales(x, r);
    const Rectifier none("none");
    mean = strict_sums<T>(x, nullptr, r, zeros, scale, zeros, zeros, kSumX, none);
    for (int64_t c = 0; c < r.C; c++) mean[c] = to_float(to_half(mean[c] / scale[c]));
    variance = strict_sums<T>(x, nullptr, r, mean, scale, zeros, zeros, kSumSquaredDistance, none);
    for (int64_t c = 0; c < r.C; c++) variance[c] = variance[c] / scale[c] / scale[c];
}

// The running average of `batch`; row `row` of rest (2, C), where given, keeps what rounding takes from it.
void update_running(const ArrayView& running, const ArrayView& rest, int64_t row, const std::vector<float>& batch,
                    const RunningShares& shares, bool root) {
    std::vector<float> values = floats(running);
    std::vector<float> kept = rest ? floats(rest) : std::vector<float>();
    float* const lost = rest ? &kept[row * running.size()] : nullptr;
    for (size_t c = 0; c < values.size(); c++) {
        const float before = lost ? values[c] + lost[c] : values[c];
        values[c] = shares.kept * (root ? before * before : before) + shares.taken * batch[c];
        if (root) values[c] = std::sqrt(values[c]);
    }
    std::vector<float> stored = values;
    store_rounded(stored, running);
    if (!lost) return;
    for (size_t c = 0; c < values.size(); c++) lost[c] = values[c] - stored[c];
    store_rounded(kept, rest);
}

std::vector<float> inverse_std(const std::vector<float>& variance, double eps) {
    std::vector<float> inv_std(variance.size());
    for (size_t c = 0; c < variance.size(); c++) inv_std[c] = 1.0f / std::sqrt(variance[c] + static_cast<float>(eps));
    return inv_std;
}

template <class T>
void apply(const T* x, const ArrayView& residual, const Rows& r, const std::vector<float>& mean,
           const std::vector<float>& inv_std, const std::vector<float>& gamma, const std::vector<float>& beta,
           const Rectifier& rectifier, T* y) {
    parallel_for(r.slices, [&](int64_t i, int) {
        kernels().batch_norm(T{}).normalize(x + r.begin(i) * r.C, slice_of<const T>(residual, r, i), r.count(i), r.C,
                                            mean.data(), inv_std.data(), gamma.data(), beta.data(), rectifier,
                                            y + r.begin(i) * r.C);
    });
}

}  // namespace

void batch_norm_forward(const ArrayView& x, const ArrayView& addend, const ArrayView& gamma, const ArrayView& beta,
                        const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& updates,
                        const ArrayView& rest, const ArrayView& residual, const ArrayView& sum, const ArrayView& y,
                        const ArrayView& mean, const ArrayView& inv_std, double momentum, double eps,
                        const std::string& activation, bool half_accumulator) {
    const Rows r(x);
    const Rectifier rectifier(activation);
    std::vector<float> batch_mean(r.C), variance(r.C);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const T* const normalised = addend ? sum.as<T>() : x.as<T>();
        if (half_accumulator) {
            if (addend) binary("add", x, addend, sum);
            strict_moments(normalised, r, batch_mean, variance);
        } else {
            moments(x.as<T>(), addend ? addend.as<T>() : nullptr, addend ? sum.as<T>() : nullptr, r, batch_mean,
                    variance);
        }
        const RunningShares shares(momentum, updates ? ++*updates.as<int64_t>() : 0);
        update_running(running_mean, rest, 0, batch_mean, shares, false);
        update_running(running_var, rest, 1, variance, shares, static_cast<bool>(rest));
        std::vector<float> deviation = inverse_std(variance, eps);
        store_rounded(batch_mean, mean);
        store_rounded(deviation, inv_std);
        apply(normalised, residual, r, batch_mean, deviation, floats(gamma), floats(beta), rectifier, y.as<T>());
    });
}

void batch_norm_inference(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta,
                          const ArrayView& running_mean, const ArrayView& running_var, const ArrayView& residual,
                          const ArrayView& y, double eps, const std::string& activation, bool deviation) {
    const Rows r(x);
    const Rectifier rectifier(activation);
    std::vector<float> variance = floats(running_var);
    if (deviation)
        for (float& v : variance) v = v * v;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        apply(x.as<T>(), residual, r, floats(running_mean), inverse_std(variance, eps), floats(gamma), floats(beta),
              rectifier, y.as<T>());
    });
}

void batch_norm_backward(const ArrayView& x, const ArrayView& gamma, const ArrayView& beta, const ArrayView& mean,
                         const ArrayView& inv_std, const ArrayView& y, const ArrayView& dy,
                         const ArrayView& pending_grad, const ArrayView& dx, const ArrayView& dgamma,
                         const ArrayView& dbeta, const ArrayView& dr, const ArrayView& db,
                         const std::string& activation, bool half_accumulator) {
    if (y) {  // dy is masked by it, and the rest is the gradient of a norm without activation
        unary_backward(activation, y, dy, dr);
        return batch_norm_backward(x, gamma, beta, mean, inv_std, {}, dr, pending_grad, dx, dgamma, dbeta, {}, db,
                                   "none", half_accumulator);
    }
    const Rows r(x);
    const Rectifier rectifier(activation);
    const std::vector<float> m = floats(mean), s = floats(inv_std), g = floats(gamma), b = floats(beta);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const T* const xs = x.as<T>();
        const T* const dys = dy.as<T>();
        std::vector<float> shift(r.C), slope(r.C);
        if (half_accumulator) {
            shift = strict_sums(xs, dys, r, m, s, g, b, kSumGradient, rectifier);
            slope = strict_sums(xs, dys, r, m, s, g, b, kSumGradientXhat, rectifier);
        } else {
            std::vector<float> shifts(r.slices * r.C), slopes(r.slices * r.C);
            parallel_for(r.slices, [&](int64_t i, int) {
                kernels().batch_norm(T{}).backward_sums(xs + r.begin(i) * r.C, dys + r.begin(i) * r.C, r.count(i), r.C,
                                                        m.data(), s.data(), g.data(), b.data(), rectifier,
                                                        &shifts[i * r.C], &slopes[i * r.C]);
            });
            for (int64_t i = 0; i < r.slices; i++) {
                kernels().sums.accumulate(&shifts[i * r.C], shift.data(), r.C);
                kernels().sums.accumulate(&slopes[i * r.C], slope.data(), r.C);
            }
        }
        std::vector<float> stored_shift = shift, stored_slope = slope;
        store_rounded(stored_shift, dbeta);
        store_rounded(stored_slope, dgamma);
        if (!dx) return;
        for (int64_t c = 0; c < r.C; c++) {
            shift[c] /= static_cast<float>(r.rows);
            slope[c] /= static_cast<float>(r.rows);
        }
        parallel_for(r.slices, [&](int64_t i, int) {
            kernels().batch_norm(T{}).backward_input(xs + r.begin(i) * r.C, dys + r.begin(i) * r.C,
                                                     slice_of<const T>(pending_grad, r, i), r.count(i), r.C, m.data(),
                                                     s.data(), g.data(), b.data(), rectifier, shift.data(),
                                                     slope.data(), dx.as<T>() + r.begin(i) * r.C);
        });
        if (db) reduce("sum", dx, db, 1, r.rows, r.C, half_accumulator);
    });
}

}  // namespace fp16engine::cpu
