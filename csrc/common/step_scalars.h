// What an optimizer's kernels are told: the numbers of a step, how a weight is stored, what is counted.
#pragma once
#include <cstdint>

namespace fp16engine {

// What changes from one step to the next, in one place: a kernel takes it by value, or reads it from memory when it
// runs, so that a captured step never works on numbers of an older one.
struct StepScalars {
    float lr;
    float grad_scale;                // factor on the gradients: 1 / loss scale
    float correction1, correction2;  // 1 - beta^step, of Adam's two averages
    uint64_t seed;                   // key of the random bits
    uint32_t step;                   // number of this step, from 1
    uint32_t applied;                // 0: the step changes nothing
};
static_assert(sizeof(StepScalars) == 32, "StepScalars.pack of backend/base.py packs it");

// How a new weight is stored; see backend/base.py.
enum class Rounding { nearest, stochastic, kahan };

// Streams of random bits of a parameter: the third word of the Philox counter. Dropout's is 0. Element i has half-word
// i of a stream and half-word i ^ 4 as its other one: a weight takes the first as its high, the other as its low 16
// bits; a first state takes the first of its stream, a second state the other.
enum Stream : uint32_t { kWeightStream = 1, kStateStream = 2 };

// Columns of the counts of a tensor: what had a change to store, and what of it left everything stored as it was.
enum UpdateCount { kUpdates, kUpdatesLost, kDecays, kDecaysLost, kFirst, kFirstLost, kSecond, kSecondLost };
constexpr int kUpdateCounts = 8;

}  // namespace fp16engine
