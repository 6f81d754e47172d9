#include "kernels/softmax.cuh"

#include "cuda/launch.h"
#include "cuda/ops.h"
#include "cuda/row_plans.h"

namespace fp16engine::gpu {
namespace {

// counted () = how many labels are not negative
void count_labels(const ArrayView& labels, Ptr<float> counted) {
    const auto from = pointer<const int64_t>(labels);
    const int64_t rows = labels.size();
    FP16_LAUNCH(counted_labels_kernel, 1, kBlock, from, counted, rows);
}

// y, labels, losses and dy: those that kOutput wants
template <ExpOutput kOutput>
void exponentials(const ArrayView& x, const ArrayView& y, const ArrayView& labels, const ArrayView& dy,
                  Ptr<float> losses, Ptr<const float> counted, double on, double off, int64_t causal_rows,
                  const ArrayView& lengths, bool half_accumulator) {
    const Rows r(x);
    if (x.size() == 0) return;
    with_storage("x", x.dtype, [&](auto type) {
        using T = decltype(type);
        const bool wide = by_vectors(r.K, {&x, &y});
        with_plan<T>(r.K, wide, half_accumulator, [&](auto plan, auto half) {
            using Plan = decltype(plan);
            constexpr bool kHalf = decltype(half)::value;
            const auto xs = pointer<const T>(x);
            const ExpArguments<T> arguments{pointer<T>(y),
                                            pointer<const int64_t>(labels),
                                            losses,
                                            pointer<const T>(dy),
                                            counted,
                                            static_cast<float>(on),
                                            static_cast<float>(off),
                                            r.count,
                                            r.K,
                                            causal_rows,
                                            pointer<const int64_t>(lengths),
                                            lengths ? r.count / lengths.size() : 0};
            FP16_LAUNCH((softmax_kernel<T, Plan, kHalf, kOutput>), row_grid<Plan>(r.count), kBlock, xs, arguments);
        });
    });
}

template <bool kLog>
void backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator) {
    const Rows r(y);
    if (y.size() == 0) return;
    with_storage("y", y.dtype, [&](auto type) {
        using T = decltype(type);
        with_plan<T>(r.K, by_vectors(r.K, {&y, &dy, &dx}), half_accumulator, [&](auto plan, auto half) {
            using Plan = decltype(plan);
            constexpr bool kHalf = decltype(half)::value;
            const auto ys = pointer<const T>(y), dys = pointer<const T>(dy);
            const auto dxs = pointer<T>(dx);
            const int64_t rows = r.count, K = r.K;
            FP16_LAUNCH((softmax_backward_kernel<T, Plan, kHalf, kLog>), row_grid<Plan>(rows), kBlock, ys, dys, dxs,
                        rows, K);
        });
    });
}

}  // namespace

void softmax(const ArrayView& x, const ArrayView& y, int64_t causal_rows, const ArrayView& lengths,
             bool half_accumulator) {
    if (lengths) {
        expect(lengths.size() ? Rows(x).count % lengths.size() == 0 : x.size() == 0,
               "lengths must be one per equal run of rows, got " + lengths.describe());
    }
    exponentials<ExpOutput::softmax>(x, y, {}, {}, {}, {}, 0, 0, causal_rows, lengths, half_accumulator);
}

void softmax_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator) {
    backward<false>(y, dy, dx, half_accumulator);
}

void log_softmax(const ArrayView& x, const ArrayView& y, bool half_accumulator) {
    exponentials<ExpOutput::log_softmax>(x, y, {}, {}, {}, {}, 0, 0, 0, {}, half_accumulator);
}

void log_softmax_backward(const ArrayView& y, const ArrayView& dy, const ArrayView& dx, bool half_accumulator) {
    backward<true>(y, dy, dx, half_accumulator);
}

void cross_entropy_forward(const ArrayView& logits, const ArrayView& labels, const ArrayView& loss, double smoothing,
                           bool half_accumulator) {
    const Rows r(logits);
    const Workspace workspace(r.count + 1);  // the losses, and how many of them count
    const Ptr<float> counted = workspace.get() + r.count;
    count_labels(labels, counted);
    exponentials<ExpOutput::loss>(logits, {}, labels, {}, workspace.get(), {}, 1.0 - smoothing, smoothing, 0, {},
                                  half_accumulator);
    with_storage("logits", logits.dtype, [&](auto type) {
        using T = decltype(type);
        with_accumulator<T>(half_accumulator, [&](auto half) {
            constexpr bool kHalf = decltype(half)::value;
            const Ptr<const float> losses = workspace.get(), count = counted;
            const auto to = pointer<T>(loss);
            const int64_t rows = r.count;
            FP16_LAUNCH((cross_entropy_mean_kernel<T, kHalf>), 1, kBlock, losses, count, to, rows);
        });
    });
}

void cross_entropy_backward(const ArrayView& logits, const ArrayView& labels, const ArrayView& dy,
                            const ArrayView& dlogits, double smoothing, bool half_accumulator) {
    const double everywhere = smoothing / static_cast<double>(Rows(logits).K);
    const Workspace workspace(1);
    count_labels(labels, workspace.get());
    exponentials<ExpOutput::loss_gradient>(logits, dlogits, labels, dy, {}, workspace.get(),
                                           1.0 - smoothing + everywhere, everywhere, 0, {}, half_accumulator);
}

}  // namespace fp16engine::gpu
