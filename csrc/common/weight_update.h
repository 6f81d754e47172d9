// What every optimizer step works on, and its checks: the same for the processor's and the GPU's launchers.
#pragma once
#include <string>
#include <vector>

#include "common/array_view.h"
#include "common/check.h"
#include "common/step_scalars.h"

namespace fp16engine {

// The numbers of a step, or where they lie: uint8 (32,), memory of the device the kernel runs on.
struct StepSource {
    StepScalars values = {};
    ArrayView memory;
};

struct WeightUpdate {
    using Arrays = std::vector<ArrayView>;

    Arrays params, grads;
    Arrays masters, compensations;  // empty where there are none; never both
    std::vector<double> weight_decay;
    bool stochastic = false;
    std::vector<int64_t> indices;  // of the parameters in their optimizer
    StepSource step;
    ArrayView counts;  // int64 (params, kUpdateCounts), added to, or absent

    Rounding rounding() const {
        return stochastic ? Rounding::stochastic : compensations.empty() ? Rounding::nearest : Rounding::kahan;
    }

    DType weight_type(size_t i) const { return masters.empty() ? params[i].dtype : DType::float32; }

    // One view of the weights' type per tensor, or, where that is allowed, none at all.
    void expect_state(const char* argument, const Arrays& state, bool optional) const {
        if (optional && state.empty()) return;
        expect_count(argument, state.size());
        for (size_t i = 0; i < params.size(); i++) {
            expect_dtype(argument, state[i], weight_type(i));
            expect_size(argument, state[i], i);
        }
    }

    void expect_consistent() const {
        expect_count("grads", grads.size());
        expect_count("weight_decay", weight_decay.size());
        expect_count("indices", indices.size());
        expect_state("masters", masters, true);
        expect_state("compensations", compensations, true);
        expect(
            masters.empty() || (compensations.empty() && !stochastic),
            "masters must be absent with compensations or stochastic rounding, got " + std::to_string(masters.size()));
        expect(compensations.empty() || !stochastic,
               "compensations must be absent with stochastic rounding, got " + std::to_string(compensations.size()));
        for (size_t i = 0; i < params.size(); i++) {
            expect_dtype("grads", grads[i], params[i].dtype);
            expect_size("grads", grads[i], i);
            expect(indices[i] >= 0 && indices[i] < INT64_C(1) << 31,
                   "indices must be a number in [0, 2^31), got " + std::to_string(indices[i]));
        }
        if (step.memory) {
            expect_dtype("scalars", step.memory, DType::uint8);
            expect_shape("scalars", step.memory, {static_cast<int64_t>(sizeof(StepScalars))});
        }
        if (counts) {
            expect_dtype("counts", counts, DType::int64);
            expect_shape("counts", counts, {static_cast<int64_t>(params.size()), kUpdateCounts});
        }
    }

private:
    void expect_count(const char* argument, size_t count) const {
        expect(count == params.size(), std::string(argument) + " must be " + std::to_string(params.size()) +
                                           " entries as params, got " + std::to_string(count));
    }

    void expect_size(const char* argument, const ArrayView& view, size_t i) const {
        expect(view.size() == params[i].size(), std::string(argument) + " must be like the parameter " +
                                                    params[i].describe() + ", got " + view.describe());
    }
};

}  // namespace fp16engine
