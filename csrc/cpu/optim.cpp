// Optimizer steps over all tensors at once: one parallel region over slices of their concatenation, each weight touched
// once.
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "cpu/ops.h"
#include "cpu/packed_product.h"
#include "cpu/tensor_slices.h"

namespace fp16engine::cpu {
namespace {

struct Update {
    const std::vector<ArrayView>&params, &grads, &masters;
    const std::vector<double>& decays;
    double grad_scale;

    DType weight_type(size_t i) const { return masters.empty() ? params[i].dtype : DType::float32; }

    GradientScale gradient(size_t i) const {
        return {static_cast<float>(grad_scale), static_cast<float>(decays[i]), decays[i] != 0.0};
    }

    // One view of W per tensor, or none at all.
    void expect_state(const char* argument, const std::vector<ArrayView>& state, bool optional) const {
        if (optional && state.empty()) return;
        expect_count(argument, state.size());
        for (size_t i = 0; i < params.size(); i++) {
            expect_dtype(argument, state[i], weight_type(i));
            expect_size(argument, state[i], i);
        }
    }

    void expect_consistent() const {
        expect_count("grads", grads.size());
        expect_count("weight_decay", decays.size());
        expect_state("masters", masters, true);
        for (size_t i = 0; i < params.size(); i++) {
            expect_dtype("grads", grads[i], params[i].dtype);
            expect_size("grads", grads[i], i);
        }
    }

    // step(kernels, param, grad, weight, first, count, i) with the types of each slice's tensor.
    template <class Step>
    void run(Step step) const {
        for_slices(params, [&](size_t i, int64_t first, int64_t count) {
            with_storage("params", params[i].dtype, [&](auto type) {
                using T = decltype(type);
                T* const param = params[i].as<T>() + first;
                const T* const grad = grads[i].as<T>() + first;
                if (masters.empty())
                    step(kernels().update(T{}, T{}), param, grad, param, first, count, i);
                else
                    step(kernels().update(T{}, float{}), param, grad, masters[i].as<float>() + first, first, count, i);
            });
        });
    }

private:
    void expect_count(const char* argument, size_t count) const {
        expect(count == params.size(), std::string(argument) + ": " + std::to_string(count) + " entries given, " +
                                           std::to_string(params.size()) + " as in params wanted");
    }

    void expect_size(const char* argument, const ArrayView& view, size_t i) const {
        expect(view.size() == params[i].size(),
               std::string(argument) + ": " + view.describe() + " given for a parameter " + params[i].describe());
    }
};

// The slice of a state that starts at `first`, or nullptr where there is no such state.
template <class W>
W* slice(const std::vector<ArrayView>& state, size_t i, int64_t first) {
    return state.empty() ? nullptr : state[i].as<W>() + first;
}

}  // namespace

void sgd(const std::vector<ArrayView>& params, const std::vector<ArrayView>& grads,
         const std::vector<ArrayView>& momenta, const std::vector<ArrayView>& masters, double lr, double momentum,
         bool nesterov, const std::vector<double>& weight_decay, double grad_scale) {
    const Update update{params, grads, masters, weight_decay, grad_scale};
    update.expect_consistent();
    update.expect_state("momenta", momenta, true);
    const SgdStep s{static_cast<float>(lr), static_cast<float>(momentum), nesterov};
    update.run(
        [&](const auto& kernel, auto* param, const auto* grad, auto* weight, int64_t first, int64_t count, size_t i) {
            using W = std::remove_pointer_t<decltype(weight)>;
            kernel.sgd(param, grad, weight, slice<W>(momenta, i, first), count, update.gradient(i), s);
        });
}

void adam(const std::vector<ArrayView>& params, const std::vector<ArrayView>& grads, const std::vector<ArrayView>& m,
          const std::vector<ArrayView>& v, const std::vector<ArrayView>& masters, double lr, double beta1, double beta2,
          double eps_float16, double eps_float32, int64_t step, const std::vector<double>& weight_decay, bool decoupled,
          double grad_scale) {
    const std::vector<double> none(params.size());
    const Update update{params, grads, masters, decoupled ? none : weight_decay, grad_scale};
    update.expect_consistent();
    update.expect_state("m", m, false);
    update.expect_state("v", v, false);
    AdamStep common{};
    common.lr = static_cast<float>(lr);
    common.beta1 = static_cast<float>(beta1);
    common.rest1 = static_cast<float>(1.0 - beta1);
    common.beta2 = static_cast<float>(beta2);
    common.rest2 = static_cast<float>(1.0 - beta2);
    common.correction1 = static_cast<float>(1.0 - std::pow(beta1, static_cast<double>(step)));
    common.correction2 = static_cast<float>(1.0 - std::pow(beta2, static_cast<double>(step)));
    update.run([&](const auto& kernel, auto* param, const auto* grad, auto* weight, int64_t first, int64_t count,
                   size_t i) {
        using W = std::remove_pointer_t<decltype(weight)>;
        AdamStep s = common;
        s.eps = static_cast<float>(sizeof(W) == 2 ? eps_float16 : eps_float32);
        s.decays = decoupled && weight_decay[i] != 0.0;
        s.decay = static_cast<float>(lr * weight_decay[i]);
        kernel.adam(param, grad, weight, slice<W>(m, i, first), slice<W>(v, i, first), count, update.gradient(i), s);
    });
}

void rmsprop(const std::vector<ArrayView>& params, const std::vector<ArrayView>& grads, const std::vector<ArrayView>& v,
             const std::vector<ArrayView>& momenta, const std::vector<ArrayView>& masters, double lr, double alpha,
             double eps_float16, double eps_float32, double momentum, const std::vector<double>& weight_decay,
             double grad_scale) {
    const Update update{params, grads, masters, weight_decay, grad_scale};
    update.expect_consistent();
    update.expect_state("v", v, false);
    update.expect_state("momenta", momenta, true);
    update.run(
        [&](const auto& kernel, auto* param, const auto* grad, auto* weight, int64_t first, int64_t count, size_t i) {
            using W = std::remove_pointer_t<decltype(weight)>;
            const RmspropStep s{static_cast<float>(lr), static_cast<float>(alpha), static_cast<float>(1.0 - alpha),
                                static_cast<float>(sizeof(W) == 2 ? eps_float16 : eps_float32),
                                static_cast<float>(momentum)};
            kernel.rmsprop(param, grad, weight, slice<W>(v, i, first), slice<W>(momenta, i, first), count,
                           update.gradient(i), s);
        });
}

bool all_finite(const std::vector<ArrayView>& arrays) {
    std::atomic<bool> finite{true};
    for_slices(arrays, [&](size_t i, int64_t first, int64_t count) {
        if (!finite.load(std::memory_order_relaxed)) return;
        with_storage("arrays", arrays[i].dtype, [&](auto type) {
            using T = decltype(type);
            if (!kernels().sparse(T{}).all_finite(arrays[i].as<T>() + first, count))
                finite.store(false, std::memory_order_relaxed);
        });
    });
    return finite.load();
}

}  // namespace fp16engine::cpu
