// Launches the optimizer steps: one kernel per type of tensor and kTableTensors tensors.
#include "kernels/optim.cuh"

#include <cmath>

#include "cuda/ops.h"
#include "cuda/tensor_table.h"

namespace fp16engine::gpu {
namespace {

using Arrays = std::vector<ArrayView>;

struct Update {
    const Arrays &params, &grads, &masters;
    const std::vector<double>& decays;
    double grad_scale;
    bool coupled;         // the decay belongs to the gradient
    double decay_factor;  // of the decay that the kernel gets

    // One view of the weights' type per tensor, or none at all.
    void expect_state(const char* argument, const Arrays& state, bool optional) const {
        if (optional && state.empty()) return;
        expect_count(argument, state.size());
        for (size_t i = 0; i < params.size(); i++) {
            expect_dtype(argument, state[i], masters.empty() ? params[i].dtype : DType::float32);
            expect_size(argument, state[i], i);
        }
    }

    void expect_consistent() const {
        expect_floats("params", params);
        expect_count("grads", grads.size());
        expect_count("weight_decay", decays.size());
        expect_state("masters", masters, true);
        for (size_t i = 0; i < params.size(); i++) {
            expect_dtype("grads", grads[i], params[i].dtype);
            expect_size("grads", grads[i], i);
        }
    }

    template <class Step>
    void run(const Arrays& first, const Arrays& second, const Step& step) const {
        if (masters.empty()) {
            launch<__half, __half, false>(first, second, step);
            launch<float, float, false>(first, second, step);
        } else {
            launch<__half, float, true>(first, second, step);
            launch<float, float, true>(first, second, step);
        }
    }

private:
    template <class T, class W, bool kMaster, class Step>
    void launch(const Arrays& first, const Arrays& second, const Step& step) const {
        using Tensor = UpdatedTensor<T, W>;
        const auto entry = [&](size_t i) {
            Tensor tensor{};
            tensor.param = pointer<T>(params[i]);
            tensor.grad = pointer<const T>(grads[i]);
            tensor.vectors = aligned(params[i]) && aligned(grads[i]);
            const auto attach = [&](const Arrays& state, Ptr<W>& to) {
                if (state.empty()) return;
                to = pointer<W>(state[i]);
                tensor.vectors = tensor.vectors && aligned(state[i]);
            };
            attach(masters, tensor.master);
            attach(first, tensor.first);
            attach(second, tensor.second);
            tensor.size = params[i].size();
            tensor.decay = static_cast<float>(decay_factor * decays[i]);
            tensor.decays = decays[i] != 0.0;
            return tensor;
        };
        const float scale = static_cast<float>(grad_scale);
        const bool coupled_decay = coupled;
        for_tables<T, Tensor>(params, kUpdateSlice, entry, [&](const TensorTable<Tensor>& table, unsigned slices) {
            FP16_LAUNCH((update_kernel<T, W, kMaster, Step>), slices, kBlock, table, step, scale, coupled_decay);
        });
    }

    void expect_count(const char* argument, size_t count) const {
        expect(count == params.size(), std::string(argument) + ": " + std::to_string(count) + " entries given, " +
                                           std::to_string(params.size()) + " as in params wanted");
    }

    void expect_size(const char* argument, const ArrayView& view, size_t i) const {
        expect(view.size() == params[i].size(),
               std::string(argument) + ": " + view.describe() + " given for a parameter " + params[i].describe());
    }
};

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

void sgd(const Arrays& params, const Arrays& grads, const Arrays& momenta, const Arrays& masters, double lr,
         double momentum, bool nesterov, const std::vector<double>& weight_decay, double grad_scale) {
    const Update update{params, grads, masters, weight_decay, grad_scale, true, 1.0};
    update.expect_consistent();
    update.expect_state("momenta", momenta, true);
    if (momenta.empty()) {
        PlainSgdStep step{};
        step.lr = static_cast<float>(lr);
        update.run({}, {}, step);
        return;
    }
    SgdStep step{};
    step.lr = static_cast<float>(lr);
    step.momentum = static_cast<float>(momentum);
    step.nesterov = nesterov;
    update.run(momenta, {}, step);
}

void adam(const Arrays& params, const Arrays& grads, const Arrays& m, const Arrays& v, const Arrays& masters, double lr,
          double beta1, double beta2, double eps_float16, double eps_float32, int64_t step,
          const std::vector<double>& weight_decay, bool decoupled, double grad_scale) {
    const Update update{params, grads, masters, weight_decay, grad_scale, !decoupled, decoupled ? lr : 1.0};
    update.expect_consistent();
    update.expect_state("m", m, false);
    update.expect_state("v", v, false);
    AdamStep s{};
    s.lr = static_cast<float>(lr);
    s.beta1 = static_cast<float>(beta1);
    s.rest1 = static_cast<float>(1.0 - beta1);
    s.beta2 = static_cast<float>(beta2);
    s.rest2 = static_cast<float>(1.0 - beta2);
    s.correction1 = static_cast<float>(1.0 - std::pow(beta1, static_cast<double>(step)));
    s.correction2 = static_cast<float>(1.0 - std::pow(beta2, static_cast<double>(step)));
    s.eps_float16 = static_cast<float>(eps_float16);
    s.eps_float32 = static_cast<float>(eps_float32);
    s.decoupled = decoupled;
    update.run(m, v, s);
}

void rmsprop(const Arrays& params, const Arrays& grads, const Arrays& v, const Arrays& momenta, const Arrays& masters,
             double lr, double alpha, double eps_float16, double eps_float32, double momentum,
             const std::vector<double>& weight_decay, double grad_scale) {
    const Update update{params, grads, masters, weight_decay, grad_scale, true, 1.0};
    update.expect_consistent();
    update.expect_state("v", v, false);
    update.expect_state("momenta", momenta, true);
    const auto run = [&](auto step) {
        step.lr = static_cast<float>(lr);
        step.alpha = static_cast<float>(alpha);
        step.rest = static_cast<float>(1.0 - alpha);
        step.eps_float16 = static_cast<float>(eps_float16);
        step.eps_float32 = static_cast<float>(eps_float32);
        step.momentum = static_cast<float>(momentum);
        update.run(v, momenta, step);
    };
    if (momenta.empty())
        run(RmspropStep<OneState>{});
    else
        run(RmspropStep<TwoStates>{});
}

void nonfinite(const Arrays& arrays, const ArrayView& flag) {
    expect_floats("arrays", arrays);
    expect_dtype("flag", flag, DType::int32);
    expect(flag.size() == 1, "flag: " + flag.describe() + " given, one number wanted");
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
