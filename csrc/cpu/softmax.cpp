// Softmax, its logarithm and the cross-entropy loss along the last axis. Exponentials and sums stay in float registers
// or in one row's buffer; each output is rounded once.
#include <vector>

#include "cpu/ops.h"
#include "cpu/row_groups.h"

namespace fp16engine::cpu {
namespace {

struct Rows {
    int64_t count, K;
    explicit Rows(const ArrayView& x) : count(x.dim(-1) ? x.size() / x.dim(-1) : 0), K(x.dim(-1)) {}
};

// max and sum of exp(x - max) of `count` rows; the exponentials stay in terms.
template <class T>
void exponentials(const T* x, int64_t count, int64_t K, bool half_accumulator, float* terms, float* max, float* sums) {
    const auto& loops = kernels().softmax(T{});
    for (int64_t i = 0; i < count; i++) {
        max[i] = loops.row_max(x + i * K, K);
        loops.exp_terms(x + i * K, K, max[i], terms + i * K);
    }
    sum_terms(terms, count, K, half_accumulator, false, sums);
}

void expect_lengths(const ArrayView& lengths, const Rows& r) {
    if (!lengths) return;
    expect(lengths.size() ? r.count % lengths.size() == 0 : r.count == 0,
           "lengths must be one per equal run of rows, got " + lengths.describe());
    for (int64_t i = 0; i < lengths.size(); i++) {
        const int64_t length = lengths.as<int64_t>()[i];
        expect(length >= 0 && length <= r.K,
               "lengths must be from 0 to " + std::to_string(r.K) + ", got " + std::to_string(length));
    }
}

bool none_counts(const int64_t* label, int64_t count) {
    return std::all_of(label, label + count, [](int64_t l) { return l < 0; });
}

// Returns how many labels count: those that are not negative.
int64_t expect_labels(const ArrayView& labels, const Rows& r) {
    const int64_t* const label = labels.as<int64_t>();
    int64_t counted = 0;
    for (int64_t i = 0; i < r.count; i++) {
        expect(label[i] < r.K, "labels must be a class in [0, " + std::to_string(r.K) +
                                   "), or a negative number for none, got " + std::to_string(label[i]));
        counted += label[i] >= 0;
    }
    return counted;
}

}  // namespace

void softmax(const ArrayView& x, const ArrayView& y, int64_t causal_rows, const ArrayView& lengths,
             bool half_accumulator) {
    const Rows r(x);
    expect_lengths(lengths, r);
    const int64_t run = lengths && lengths.size() ? r.count / lengths.size() : 0;
    const auto read_by = [&](int64_t row) {
        const int64_t keys = causal_rows ? std::min(r.K, row % causal_rows + 1) : r.K;
        return run ? std::min(keys, lengths.as<int64_t>()[row / run]) : keys;
    };
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const auto& loops = kernels().softmax(T{});
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            float sums[kGroup];
            for (int64_t i = 0; i < count; i++) {
                const T* const row = x.as<T>() + (first + i) * r.K;
                const int64_t keys = read_by(first + i);
                loops.exp_terms(row, keys, loops.row_max(row, keys), terms + i * r.K);
                std::fill(terms + i * r.K + keys, terms + (i + 1) * r.K, 0.0f);  // exp(-inf)
            }
            // One row at a time sums what it reads, so its bits do not depend on how far the array is padded; the
            // zeros that a group adds change no binary16 sum.
            sum_terms(terms, count, half_accumulator ? r.K : read_by(first), half_accumulator, false, sums);
            for (int64_t i = 0; i < count; i++)
                loops.softmax_row(terms + i * r.K, r.K, read_by(first + i) ? sums[i] : 1.0f,
                                  y.as<T>() + (first + i) * r.K);
        });
    });
}

void softmax_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator) {
    const Rows r(y);
    with_storage("y", y.dtype, [&](auto type) {
        using T = decltype(type);
        const auto& loops = kernels().softmax(T{});
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            float sums[kGroup];
            const int64_t at = first * r.K;
            loops.product_terms(dy.as<T>() + at, y.as<T>() + at, count * r.K, terms);
            sum_terms(terms, count, r.K, half_accumulator, true, sums);
            for (int64_t i = 0; i < count; i++) {
                const int64_t row = at + i * r.K;
                loops.softmax_gradient_row(y.as<T>() + row, dy.as<T>() + row, r.K, sums[i], dx.as<T>() + row);
            }
        });
    });
}

void log_softmax(const ArrayView& x, const ArrayView& y, bool half_accumulator) {
    const Rows r(x);
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            float max[kGroup], sums[kGroup];
            exponentials(x.as<T>() + first * r.K, count, r.K, half_accumulator, terms, max, sums);
            kernels().elementwise(float{}).unary(Unary::log, sums, sums, count);
            for (int64_t i = 0; i < count; i++) {
                const int64_t row = (first + i) * r.K;
                kernels().softmax(T{}).log_softmax_row(x.as<T>() + row, r.K, max[i], sums[i], y.as<T>() + row);
            }
        });
    });
}

void log_softmax_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator) {
    const Rows r(y);
    with_storage("y", y.dtype, [&](auto type) {
        using T = decltype(type);
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            float sums[kGroup];
            to_floats(dy.as<T>() + first * r.K, terms, count * r.K);
            sum_terms(terms, count, r.K, half_accumulator, false, sums);
            for (int64_t i = 0; i < count; i++) {
                const int64_t row = (first + i) * r.K;
                kernels().softmax(T{}).log_softmax_gradient_row(y.as<T>() + row, dy.as<T>() + row, r.K, sums[i],
                                                                dx.as<T>() + row);
            }
        });
    });
}

void cross_entropy_forward(const ArrayView& logits, const ArrayView& labels, const ArrayView& loss, double smoothing,
                           bool half_accumulator) {
    const Rows r(logits);
    const int64_t counted = expect_labels(labels, r);
    const Scratch losses(r.count);
    const float share = static_cast<float>(smoothing), kept = static_cast<float>(1.0 - smoothing);
    const int64_t* const label = labels.as<int64_t>();
    with_storage("logits", logits.dtype, [&](auto type) {
        using T = decltype(type);
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            float max[kGroup], sums[kGroup], means[kGroup];
            const T* const x = logits.as<T>() + first * r.K;
            std::fill(losses.get() + first, losses.get() + first + count, 0.0f);
            if (none_counts(label + first, count)) return;
            exponentials(x, count, r.K, half_accumulator, terms, max, sums);
            kernels().elementwise(float{}).unary(Unary::log, sums, sums, count);
            if (smoothing > 0) {
                to_floats(x, terms, count * r.K);
                average_terms(terms, count, r.K, half_accumulator, 1.0f, means);
            }
            for (int64_t i = 0; i < count; i++) {
                if (label[first + i] < 0) continue;
                float distance = to_float(x[i * r.K + label[first + i]]) - max[i];
                if (smoothing > 0) distance = kept * distance + share * (means[i] - max[i]);
                losses.get()[first + i] = sums[i] - distance;
            }
        });
        float total;
        sum_terms(losses.get(), 1, r.count, half_accumulator, false, &total);
        *loss.as<T>() = from_float<T>(total / static_cast<float>(counted));
    });
}

void cross_entropy_backward(const ArrayView& logits, const ArrayView& labels, const ArrayView& dy,
                            const ArrayView& dlogits, double smoothing, bool half_accumulator) {
    const Rows r(logits);
    const int64_t counted = expect_labels(labels, r);
    const double everywhere = smoothing / static_cast<double>(r.K);
    const float off = static_cast<float>(everywhere), on = static_cast<float>(1.0 - smoothing + everywhere);
    const int64_t* const label = labels.as<int64_t>();
    with_storage("logits", logits.dtype, [&](auto type) {
        using T = decltype(type);
        const float scale = to_float(*dy.as<T>()) / static_cast<float>(counted);
        for_row_groups(r.count, r.K, half_accumulator, 1, [&](int64_t first, int64_t count, float* terms) {
            float max[kGroup], sums[kGroup];
            if (!none_counts(label + first, count))
                exponentials(logits.as<T>() + first * r.K, count, r.K, half_accumulator, terms, max, sums);
            for (int64_t i = 0; i < count; i++) {
                T* const row = dlogits.as<T>() + (first + i) * r.K;
                if (label[first + i] >= 0)
                    kernels().softmax(T{}).cross_entropy_gradient_row(terms + i * r.K, r.K, sums[i], label[first + i],
                                                                      on, off, scale, row);
                else
                    std::fill(row, row + r.K, from_float<T>(0.0f));
            }
        });
    });
}

}  // namespace fp16engine::cpu
