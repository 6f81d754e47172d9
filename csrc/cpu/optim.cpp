// Optimizer steps over all tensors at once: one parallel region over slices of their concatenation, each weight touched
// once.
#include <atomic>
#include <cstring>
#include <vector>

#include "cpu/ops.h"
#include "cpu/packed_product.h"
#include "cpu/tensor_slices.h"

namespace fp16engine::cpu {
namespace {

// The slice of a state that starts at `first`, or nullptr where there is no such state.
template <class W>
W* slice_of(const std::vector<ArrayView>& state, size_t i, int64_t first) {
    return state.empty() ? nullptr : state[i].as<W>() + first;
}

template <class Step>
void run(const WeightUpdate& update, const UpdateKernels<Step>& kernels, const std::vector<ArrayView>& first_state,
         const std::vector<ArrayView>& second_state, const Step& step) {
    StepScalars scalars = update.step.values;
    if (update.step.memory) std::memcpy(&scalars, update.step.memory.data, sizeof scalars);
    if (!scalars.applied) return;
    const auto run_slices = [&](size_t i, int64_t first, int64_t count) {
        int64_t counts[kUpdateCounts] = {};
        const auto run_slice = [&](auto type, auto weight_type, const std::vector<ArrayView>& weights) {
            using T = decltype(type);
            using W = decltype(weight_type);
            UpdateSlice<T, W> slice{};
            slice.param = update.params[i].as<T>() + first;
            slice.grad = update.grads[i].as<T>() + first;
            slice.weight = weights[i].as<W>() + first;
            slice.first = first;
            slice.n = count;
            slice.rounding = update.rounding();
            if (slice.rounding == Rounding::kahan) slice.compensation = update.compensations[i].as<W>() + first;
            slice.decay = static_cast<float>(update.weight_decay[i]);
            slice.index = static_cast<uint32_t>(update.indices[i]);
            slice.step = scalars;
            slice.counts = update.counts ? counts : nullptr;
            kernels(type, weight_type)(slice, slice_of<W>(first_state, i, first), slice_of<W>(second_state, i, first),
                                       step);
        };
        with_storage("params", update.params[i].dtype, [&](auto type) {
            if (update.masters.empty())
                run_slice(type, type, update.params);
            else
                run_slice(type, float{}, update.masters);
        });
        if (!update.counts) return;
        int64_t* const totals = update.counts.as<int64_t>() + static_cast<int64_t>(i) * kUpdateCounts;
        for (int c = 0; c < kUpdateCounts; c++) __atomic_fetch_add(&totals[c], counts[c], __ATOMIC_RELAXED);
    };
    for_slices(update.params, run_slices, kRandomBlock);
}

}  // namespace

void sgd(const WeightUpdate& update, const std::vector<ArrayView>& momenta, double momentum, bool nesterov) {
    const SgdStep s{static_cast<float>(momentum), nesterov};
    run(update, kernels().sgd, momenta, {}, s);
}

void adam(const WeightUpdate& update, const std::vector<ArrayView>& m, const std::vector<ArrayView>& v, double beta1,
          double beta2, double eps, bool native, bool decoupled) {
    const AdamStep s{static_cast<float>(beta1),
                     static_cast<float>(1.0 - beta1),
                     static_cast<float>(beta2),
                     static_cast<float>(1.0 - beta2),
                     static_cast<float>(eps),
                     decoupled,
                     native};
    run(update, kernels().adam, m, v, s);
}

void rmsprop(const WeightUpdate& update, const std::vector<ArrayView>& v, const std::vector<ArrayView>& momenta,
             double alpha, double eps, double momentum, bool native) {
    const RmspropStep s{static_cast<float>(alpha), static_cast<float>(1.0 - alpha), static_cast<float>(eps),
                        static_cast<float>(momentum), native};
    run(update, kernels().rmsprop, v, momenta, s);
}

bool all_finite(const std::vector<ArrayView>& arrays) {
    std::atomic<bool> finite{true};
    for_slices(arrays, [&](size_t i, int64_t first, int64_t count) {
        if (!finite.load(std::memory_order_relaxed)) return;
        with_storage("arrays", arrays[i].dtype, [&](auto type) {
            using T = decltype(type);
            if (!kernels().range(T{}).all_finite(arrays[i].as<T>() + first, count))
                finite.store(false, std::memory_order_relaxed);
        });
    });
    return finite.load();
}

}  // namespace fp16engine::cpu
