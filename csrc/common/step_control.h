// What a captured step knows of the run: bookkeeping in device memory, read and advanced by the step's own kernels, so
// that a replay never works on numbers of an older step. The host writes it before the first replay of a row of them.
#pragma once
#include <cstdint>

namespace fp16engine {

constexpr int kMeasurements = 8;  // the last ones whose gradients choose an automatic loss scale

struct StepControl {
    // Of the run, advanced at the end of every step.
    int64_t steps;      // attempted: the row of results
    int64_t applied;    // of them: the row of the table of step scalars
    int64_t batch;      // of the epoch
    int64_t dropout;    // Philox counters used up before this step
    double loss_scale;  // a power of two
    int64_t clean_steps, stuck_steps, bad_streak;
    int64_t halted;               // 1: the run is to be stopped, the steps behind it change nothing
    int64_t settled;              // steps that the loss scaler has seen applied, also in runs before
    int32_t measured;             // how many of the tops there are
    int32_t tops[kMeasurements];  // exponents of the largest unscaled gradients, 0 where there is none
    int32_t measuring;            // 1: the gradients of this step are counted
    // Of the step in progress, 0 at its beginning.
    int32_t correct;          // images classified correctly
    int32_t culprit, origin;  // highest rank of an array that is not finite: gradients and buffers; input and weights
};
static_assert(sizeof(StepControl) == 136, "CONTROL of train/control_block.py lays it out");

// How the loss scale and the account of bad steps continue: LossScaler and Trainer on the host, whose numbers they are.
struct StepPolicy {
    double growth, backoff, floor, cap;
    int64_t interval, patience, max_bad_steps;
    int64_t dropout, forward_dropout;  // Philox counters of a step; of one whose loss is not finite: no backward pass
    bool scaled, dynamic, automatic;
    int64_t settling, every;  // an automatic scale measures the first so many applied steps, then every so many
    int64_t top;              // and puts the largest gradient at this exponent
};

// Columns of the results, int32: bits of the float32 loss, then StepControl's numbers.
enum StepResult { kLoss, kCorrect, kCulprit, kOrigin };
constexpr int kStepResults = 4;

}  // namespace fp16engine
