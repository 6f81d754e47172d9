// Runs independent tasks on threads of our own. What a task is never depends on the number of threads, so results do
// not either.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

namespace fp16engine {

constexpr int kMaxThreads = 256;  // or as many as the machine has processors

int num_threads();
void set_num_threads(int count);

// What the user should know about the threads, once; else "".
std::string take_notice();

// body(task, thread) for every task in [0, tasks); thread < num_threads(). The first exception is rethrown here.
void parallel_for(int64_t tasks, const std::function<void(int64_t task, int thread)>& body);

// body(begin, end) over [0, n) in slices of at most `grain`, a multiple of which starts every slice.
void parallel_slices(int64_t n, int64_t grain, const std::function<void(int64_t begin, int64_t end)>& body);

}  // namespace fp16engine
