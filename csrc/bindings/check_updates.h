// The checks of the optimizer steps: every array of one step, apart from every other that is written.
#pragma once
#include <algorithm>

#include "bindings/checks.h"
#include "common/weight_update.h"

namespace fp16engine::checks {

// No two arrays overlap where one is written: sorted by address, each ends before the next begins.
inline void apart(std::vector<const ArrayView*> arrays) {
    const auto address = [](const ArrayView* view) { return reinterpret_cast<uintptr_t>(view->data); };
    std::sort(arrays.begin(), arrays.end(), [&](auto a, auto b) { return address(a) < address(b); });
    for (size_t i = 1; i < arrays.size(); i++)
        if (overlap(*arrays[i - 1], *arrays[i])) fail("params, grads and state must be apart, got overlapping memory");
}

inline void update(const WeightUpdate& u, std::initializer_list<const std::vector<ArrayView>*> states) {
    present_floats("params", u.params);
    present_floats("grads", u.grads);
    u.expect_consistent();
    if (u.step.memory) holds<StepScalars>({"scalars", u.step.memory});
    std::vector<const ArrayView*> all;
    const auto take = [&](const std::vector<ArrayView>& arrays) {
        for (const ArrayView& view : arrays)
            if (view.size()) all.push_back(&view);
    };
    all_writable("params", u.params);
    take(u.params);
    take(u.grads);
    for (const auto* written : {&u.masters, &u.compensations}) {
        all_writable("masters, compensations", *written);
        take(*written);
    }
    for (const auto* state : states) {
        all_writable("state", *state);
        take(*state);
    }
    if (u.counts) outputs({{"counts", u.counts}}, {});
    apart(all);
}

constexpr auto sgd = [](const WeightUpdate& u, const std::vector<ArrayView>& momenta, auto...) {
    update(u, {&momenta});
    u.expect_state("momenta", momenta, true);
};

constexpr auto adam = [](const WeightUpdate& u, const std::vector<ArrayView>& m, const std::vector<ArrayView>& v,
                         auto...) {
    update(u, {&m, &v});
    u.expect_state("m", m, false);
    u.expect_state("v", v, false);
};

constexpr auto rmsprop = [](const WeightUpdate& u, const std::vector<ArrayView>& v,
                            const std::vector<ArrayView>& momenta, auto...) {
    update(u, {&v, &momenta});
    u.expect_state("v", v, false);
    u.expect_state("momenta", momenta, true);
};

}  // namespace fp16engine::checks
