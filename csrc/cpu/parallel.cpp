#include "cpu/parallel.h"

#include <algorithm>
#include <exception>
#include <mutex>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace fp16engine::cpu {
namespace {

int& thread_count() {
#if defined(_OPENMP)
    static int count = omp_get_max_threads();
#else
    static int count = 1;
#endif
    return count;
}

}  // namespace

int num_threads() { return thread_count(); }

void set_num_threads(int count) { thread_count() = std::max(1, count); }

void parallel_for(int64_t tasks, const std::function<void(int64_t, int)>& body) {
    const int threads = static_cast<int>(std::min<int64_t>(tasks, num_threads()));
    if (threads <= 1) {
        for (int64_t task = 0; task < tasks; task++) body(task, 0);
        return;
    }
#if defined(_OPENMP)
    std::exception_ptr first;
    std::mutex guard;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; task++) {
        try {
            body(task, omp_get_thread_num());
        } catch (...) {
            const std::lock_guard<std::mutex> lock(guard);
            if (!first) first = std::current_exception();
        }
    }
    if (first) std::rethrow_exception(first);
#endif
}

void parallel_slices(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
    const int64_t tasks = (n + grain - 1) / grain;
    parallel_for(tasks, [&](int64_t task, int) { body(task * grain, std::min(n, (task + 1) * grain)); });
}

}  // namespace fp16engine::cpu
