// Runs the loops of simd/peak.cpp on all threads, for who measures what the machine computes at best.
#include <atomic>

#include "common/check.h"
#include "common/parallel.h"
#include "cpu/ops.h"
#include "cpu/simd/kernels.h"

namespace fp16engine::cpu {

constexpr int64_t kTasksPerThread = 16;  // a thread that the system has put aside delays the others by one
constexpr int64_t kMostSteps = int64_t{1} << 30;

int64_t multiply_adds(int64_t steps) {
    expect(steps >= 1 && steps <= kMostSteps, "steps must be an integer in [1, 2^30], got " + std::to_string(steps));
    const PeakKernels& peak = kernels().peak;
    const int64_t tasks = kTasksPerThread * num_threads();
    std::atomic<float> results{0.0f};  // where a compiler cannot know that nobody reads them
    parallel_for(tasks, [&](int64_t, int) { results = peak.multiply_adds(steps); });
    return tasks * steps * peak.flops;
}

}  // namespace fp16engine::cpu
