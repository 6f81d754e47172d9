// A pool of our own instead of OpenMP's: the caller takes tasks itself and waits only for tasks that were begun, so a
// worker that the system has put aside (a busy laptop, a shared server) delays nobody. OpenMP's regions wait for every
// thread to arrive.
#include "common/parallel.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "common/check.h"
#include "common/fork.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace fp16engine {
namespace {

using Body = std::function<void(int64_t, int)>;

// How long a thread looks for a change before it sleeps: a training step has hundreds of regions a few microseconds
// apart.
constexpr auto kPatience = std::chrono::microseconds(50);

template <class Predicate>
bool waited_briefly(const Predicate& holds) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    do {
        for (int i = 0; i < 64; i++) {
            if (holds()) return true;
#if defined(__x86_64__)
            __builtin_ia32_pause();
#endif
        }
    } while (std::chrono::steady_clock::now() < until);
    return false;
}

struct Job {
    const Body* body;
    int64_t tasks;
    std::atomic<int64_t> next{0};
    std::exception_ptr error;
    std::mutex guard;

    // Takes tasks until there are none left.
    void work(int thread) {
        for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) {
            try {
                (*body)(task, thread);
            } catch (...) {
                const std::lock_guard<std::mutex> lock(guard);
                if (!error) error = std::current_exception();
            }
        }
    }
};

thread_local bool inside_task = false;

class Pool {
public:
    // Starts workers until there are `requested`, and returns how many there are: fewer where the system refuses a
    // thread.
    int grow(int requested) {
        try {
            for (int i = static_cast<int>(workers_.size()); i < requested; i++) {
                workers_.emplace_back([this, i] { serve(i + 1); });
                workers_.back().detach();  // they wait for work until the process ends
            }
        } catch (const std::system_error&) {
        }
        return std::min(requested, static_cast<int>(workers_.size()));
    }

    // One job at a time.
    void run(Job& job, int workers) {
        {
            const std::lock_guard<std::mutex> lock(guard_);
            job_ = &job;
            places_ = workers;
            published_.fetch_add(1, std::memory_order_release);
        }
        if (sleeping_.load() > 0) wake_.notify_all();
        inside_task = true;
        job.work(0);
        inside_task = false;
        {
            const std::lock_guard<std::mutex> lock(guard_);
            job_ = nullptr;  // nobody joins any more
        }
        if (waited_briefly([&] { return active_.load(std::memory_order_acquire) == 0; })) return;
        std::unique_lock<std::mutex> lock(guard_);
        done_.wait(lock, [&] { return active_.load() == 0; });
    }

private:
    void serve(int number) {
        inside_task = true;
        for (uint64_t seen = 0;;) {
            seen = wait_for_job(seen);
            Job* job = nullptr;
            {
                const std::lock_guard<std::mutex> lock(guard_);
                if (job_ && number <= places_) {
                    job = job_;
                    active_++;
                }
            }
            if (!job) continue;
            job->work(number);
            const std::lock_guard<std::mutex> lock(guard_);
            if (--active_ == 0) done_.notify_one();
        }
    }

    // Returns the number of the newest job once it is another than `seen`.
    uint64_t wait_for_job(uint64_t seen) {
        if (waited_briefly([&] { return published_.load(std::memory_order_acquire) != seen; }))
            return published_.load();
        std::unique_lock<std::mutex> lock(guard_);
        sleeping_++;
        wake_.wait(lock, [&] { return published_.load() != seen; });
        sleeping_--;
        return published_.load();
    }

    std::mutex guard_;
    std::condition_variable wake_, done_;
    std::vector<std::thread> workers_;
    std::atomic<uint64_t> published_{0};
    std::atomic<int> sleeping_{0};
    Job* job_ = nullptr;
    int places_ = 0;
    std::atomic<int> active_{0};
};

std::mutex callers;    // held while a job runs
Pool* pool = nullptr;  // made by the first job, never destroyed: workers may still wait at exit

// A forked child has none of the parent's threads: it starts a pool of its own.
[[maybe_unused]] const bool fork_is_safe = [] {
    hold_across_fork(ForkLock::jobs, callers, [] { pool = nullptr; });
    return true;
}();

int processors() {
#if defined(__linux__)
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
    return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

std::mutex notice_guard;
std::string notice;
std::atomic<bool> noticed{false};

void tell(const std::string& sentence) {
    const std::lock_guard<std::mutex> lock(notice_guard);
    notice = sentence;
    noticed = true;
}

// More threads than any machine we know of has cores only cost memory and start-up time.
int within_limit(long count) {
    const long most = std::max(kMaxThreads, processors());
    if (count > most)
        tell("threads must be at most " + std::to_string(most) + ", got " + std::to_string(count) + "; " +
             std::to_string(most) + " are used");
    return static_cast<int>(std::clamp(count, 1L, most));
}

int default_threads() {
    const char* const requested = std::getenv("OMP_NUM_THREADS");
    const long count = requested ? std::strtol(requested, nullptr, 10) : 0;
    return count > 0 ? within_limit(count) : processors();
}

std::atomic<int>& thread_count() {
    static std::atomic<int> count{default_threads()};
    return count;
}

}  // namespace

int num_threads() { return thread_count(); }

void set_num_threads(int count) {
    expect(count >= 1, "count must be an integer >= 1, got " + std::to_string(count));
    thread_count() = within_limit(count);
}

std::string take_notice() {
    if (!noticed.exchange(false)) return "";
    const std::lock_guard<std::mutex> lock(notice_guard);
    return notice;
}

void parallel_for(int64_t tasks, const Body& body) {
    const int threads = static_cast<int>(std::min<int64_t>(tasks, num_threads()));
    if (threads <= 1 || inside_task) {
        for (int64_t task = 0; task < tasks; task++) body(task, 0);
        return;
    }
    Job job;
    job.body = &body;
    job.tasks = tasks;
    {
        const std::lock_guard<std::mutex> one_job(callers);
        if (!pool) pool = new Pool;
        const int workers = pool->grow(threads - 1);
        if (workers < threads - 1) {
            tell("the system refused a thread: " + std::to_string(workers + 1) + " are used, " +
                 std::to_string(num_threads()) + " were asked for");
            thread_count() = workers + 1;
        }
        pool->run(job, workers);
    }
    if (job.error) std::rethrow_exception(job.error);
}

void parallel_slices(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
    const int64_t tasks = (n + grain - 1) / grain;
    parallel_for(tasks, [&](int64_t task, int) { body(task * grain, std::min(n, (task + 1) * grain)); });
}

}  // namespace fp16engine
