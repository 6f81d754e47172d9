#include "simt/cooperative.h"

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

namespace simt {
namespace {

struct Grid {
    std::mutex guard;
    std::condition_variable changed;
    int64_t blocks = 0, waiting = 0, ended = 0;
    uint64_t epoch = 0;  // barriers passed
    bool broken = false;
    std::exception_ptr failure;
};

thread_local Grid* grid = nullptr;

void run(Grid& shared, unsigned i, Dim3 blocks, Dim3 size, const std::function<void()>& body) {
    grid = &shared;
    std::exception_ptr failure;
    try {
        run_block(Dim3(i % blocks.x, i / blocks.x % blocks.y, i / blocks.x / blocks.y), blocks, size, 0, body);
    } catch (...) {
        failure = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(shared.guard);
    shared.ended++;
    shared.broken = shared.broken || failure || shared.waiting > 0;
    if (failure && !shared.failure) shared.failure = failure;
    shared.changed.notify_all();
}

}  // namespace

void launch_cooperative(Dim3 blocks, Dim3 size, const std::function<void()>& body) {
    Grid shared;
    shared.blocks = blocks.count();
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < shared.blocks; i++) threads.emplace_back([&, i] { run(shared, i, blocks, size, body); });
    for (std::thread& thread : threads) thread.join();
    if (shared.failure) std::rethrow_exception(shared.failure);
}

void wait_for_grid() {
    if (!grid) fail("a grid's barrier in a launch whose blocks are not all there at once");
    std::unique_lock<std::mutex> lock(grid->guard);
    const uint64_t epoch = grid->epoch;
    grid->broken = grid->broken || grid->ended > 0;
    if (++grid->waiting == grid->blocks) {
        grid->waiting = 0;
        grid->epoch++;
        grid->changed.notify_all();
        return;
    }
    grid->changed.wait(lock, [&] { return grid->epoch != epoch || grid->broken; });
    if (grid->epoch == epoch) fail("a grid's barrier was not reached by all blocks");
}

}  // namespace simt
