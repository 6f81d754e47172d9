// Launches the optimizer steps: one kernel per type of tensor and kTableTensors tensors.
#include "kernels/optim.cuh"

#include "cuda/ops.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

using Arrays = std::vector<ArrayView>;

template <class T, class W, bool kMaster, Rounding kRounding, bool kCount, class Rule>
void launch_counted(const WeightUpdate& update, const Arrays& first, const Arrays& second, const Rule& rule) {
    using Tensor = UpdatedTensor<T, W>;
    using Table = TensorTable<Tensor>;
#if defined(__CUDACC__)
    static_assert(sizeof(Table) + sizeof(Rule) + sizeof(StepScalars) + 4 * sizeof(void*) <= kArgumentBytes,
                  "a kernel takes no more bytes of arguments");
#endif
    const auto entry = [&](size_t i) {
        Tensor tensor{};
        tensor.param = pointer<T>(update.params[i]);
        tensor.grad = pointer<const T>(update.grads[i]);
        tensor.vectors = aligned(update.params[i]) && aligned(update.grads[i]);
        const auto attach = [&](const Arrays& state, Ptr<W>& to) {
            if (state.empty()) return;
            to = pointer<W>(state[i]);
            tensor.vectors = tensor.vectors && aligned(state[i]);
        };
        attach(kMaster ? update.masters : update.compensations, tensor.extra);
        attach(first, tensor.first);
        attach(second, tensor.second);
        tensor.size = update.params[i].size();
        tensor.decay = static_cast<float>(update.weight_decay[i]);
        tensor.index = static_cast<unsigned>(update.indices[i]);
        tensor.row = static_cast<int>(i);
        return tensor;
    };
    const StepScalars scalars = update.step.values;
    ArrayView packed = update.step.memory;
    packed.ndim = 0;  // one struct
    const auto memory = pointer<const StepScalars>(packed);
    const auto counts = pointer<unsigned long long>(update.counts);
    for_tables<T, Tensor>(update.params, kUpdateSlice, entry, [&](const Table& table, unsigned slices) {
        FP16_LAUNCH((update_kernel<T, W, kMaster, Rule, kRounding, kCount>), slices, kBlock, table, rule, scalars,
                    memory, counts);
    });
}

template <class T, class W, bool kMaster, Rounding kRounding, class Rule>
void launch(const WeightUpdate& update, const Arrays& first, const Arrays& second, const Rule& rule) {
    if (update.counts)
        launch_counted<T, W, kMaster, kRounding, true>(update, first, second, rule);
    else
        launch_counted<T, W, kMaster, kRounding, false>(update, first, second, rule);
}

// Weights of type T without masters; binary32 ones have nothing to round stochastically.
template <class T, class Rule>
void launch_in_place(const WeightUpdate& update, const Arrays& first, const Arrays& second, const Rule& rule) {
    if (update.rounding() == Rounding::kahan) {
        launch<T, T, false, Rounding::kahan>(update, first, second, rule);
        return;
    }
    if constexpr (sizeof(T) == 2) {
        if (update.rounding() == Rounding::stochastic) {
            launch<T, T, false, Rounding::stochastic>(update, first, second, rule);
            return;
        }
    }
    launch<T, T, false, Rounding::nearest>(update, first, second, rule);
}

// kNative rules are for binary16 state only.
template <class Rule>
void run(const WeightUpdate& update, const Arrays& first, const Arrays& second, const Rule& rule) {
    if constexpr (Rule::kNative) {
        launch_in_place<__half>(update, first, second, rule);
    } else if (update.masters.empty()) {
        launch_in_place<__half>(update, first, second, rule);
        launch_in_place<float>(update, first, second, rule);
    } else {
        launch<__half, float, true, Rounding::nearest>(update, first, second, rule);
        launch<float, float, true, Rounding::nearest>(update, first, second, rule);
    }
}

// Whether the state is kept in native form.
bool holds_roots(const WeightUpdate& update, bool native) {
    return native && !update.params.empty() && update.weight_type(0) == DType::float16;
}

// Sets flag[0] to 1 if there is an infinity or a NaN.
template <class T>
void find_nonfinite(const Arrays& arrays, Ptr<int> flag) {
    using Tensor = CheckedTensor<T>;
    const auto entry = [&](size_t i) {
        return Tensor{pointer<const T>(arrays[i]), arrays[i].size(), aligned(arrays[i])};
    };
    for_tables<T, Tensor>(arrays, kFiniteSlice, entry, [&](const TensorTable<Tensor>& table, unsigned slices) {
        FP16_LAUNCH((nonfinite_kernel<T>), slices, kBlock, table, flag);
    });
}

}  // namespace

void sgd(const WeightUpdate& update, const Arrays& momenta, double momentum, bool nesterov) {
    if (momenta.empty()) {
        PlainSgdRule rule{};
        rule.coupled = true;
        run(update, {}, {}, rule);
        return;
    }
    SgdRule rule{};
    rule.coupled = true;
    rule.momentum = static_cast<float>(momentum);
    rule.nesterov = nesterov;
    run(update, momenta, {}, rule);
}

void adam(const WeightUpdate& update, const Arrays& m, const Arrays& v, double beta1, double beta2, double eps,
          bool native, bool decoupled) {
    const auto run_rule = [&](auto rule) {
        rule.coupled = !decoupled;
        rule.beta1 = static_cast<float>(beta1);
        rule.rest1 = static_cast<float>(1.0 - beta1);
        rule.beta2 = static_cast<float>(beta2);
        rule.rest2 = static_cast<float>(1.0 - beta2);
        rule.eps = static_cast<float>(eps);
        run(update, m, v, rule);
    };
    if (holds_roots(update, native))
        run_rule(AdamRule<true>{});
    else
        run_rule(AdamRule<false>{});
}

void rmsprop(const WeightUpdate& update, const Arrays& v, const Arrays& momenta, double alpha, double eps,
             double momentum, bool native) {
    const auto run_rule = [&](auto rule) {
        rule.coupled = true;
        rule.alpha = static_cast<float>(alpha);
        rule.rest = static_cast<float>(1.0 - alpha);
        rule.eps = static_cast<float>(eps);
        rule.momentum = static_cast<float>(momentum);
        run(update, v, momenta, rule);
    };
    if (holds_roots(update, native)) {
        if (momenta.empty())
            run_rule(RmspropRule<1, true>{});
        else
            run_rule(RmspropRule<2, true>{});
    } else {
        if (momenta.empty())
            run_rule(RmspropRule<1, false>{});
        else
            run_rule(RmspropRule<2, false>{});
    }
}

void nonfinite(const Arrays& arrays, const ArrayView& flag) {
    set_zero(flag.data, sizeof(int));
    const auto found = pointer<int>(flag);
    find_nonfinite<__half>(arrays, found);
    find_nonfinite<float>(arrays, found);
}

bool all_finite(const Arrays& arrays) {
    const Workspace workspace(1);
    ArrayView flag;
    flag.data = &workspace.get()[0];
    flag.dtype = DType::int32;
    nonfinite(arrays, flag);
    int found = 0;
    read_back(&found, flag.data, sizeof found);
    return found == 0;
}

}  // namespace fp16engine::gpu
