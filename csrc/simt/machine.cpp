#include "simt/machine.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "common/parallel.h"
#include "simt/cooperative.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

thread_local Block* block = nullptr;
thread_local Thread* thread = nullptr;

namespace {

int schedule = kFair;

std::string location() {
    const auto text = [](const Dim3& d) {
        return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
    };
    return "block " + text(block->index) + " thread " + text(thread->index);
}

void finish(const std::string& failure) {
    if (!failure.empty() && block->failure.empty()) block->failure = failure;
    thread->state = State::done;
    block->finished++;
    Warp& warp = block->warps[thread->linear / kWarp];
    warp.alive &= ~(1u << lane());
    thread->fiber.yield();
}

void entry() {
    enter_fiber(thread->fiber);
    std::string failure;
    try {
        block->body();
    } catch (const std::exception& error) {
        failure = error.what();
    }
    finish(failure);
    std::abort();  // a finished fiber is never resumed
}

void release_barrier() {
    block->vote_result = block->vote;
    block->vote = 0;
    block->waiting = 0;
    block->epoch++;
    for (Thread& t : block->threads)
        if (t.state == State::at_barrier) t.state = State::ready;
}

void release_warp(Warp& warp, unsigned first, unsigned mask) {
    warp.arrived[__builtin_ctz(mask)] = 0;
    for (unsigned i = 0; i < kWarp && first + i < block->threads.size(); i++) {
        Thread& t = block->threads[first + i];
        if (t.state == State::at_warp && t.mask == mask) t.state = State::ready;
    }
}

// Stacks that no block uses, by how many threads they are for. They outlive the host threads that ran on them: a
// cooperative launch starts new ones, and fresh memory costs them more than most kernels.
struct FreeStacks {
    std::mutex guard;
    std::multimap<size_t, std::unique_ptr<char[]>> areas;
};

FreeStacks& free_stacks() {
    static FreeStacks* const instance = new FreeStacks;  // outlives the threads that give back to it
    return *instance;
}

std::unique_ptr<char[]> take_stacks(size_t threads) {
    FreeStacks& free = free_stacks();
    const std::lock_guard<std::mutex> lock(free.guard);
    const auto found = free.areas.find(threads);
    if (found == free.areas.end()) return std::unique_ptr<char[]>(new char[threads * kStackBytes + 16]);
    std::unique_ptr<char[]> area = std::move(found->second);
    free.areas.erase(found);
    return area;
}

void give_back_stacks(Block& b) {
    if (!b.stacks) return;
    FreeStacks& free = free_stacks();
    const std::lock_guard<std::mutex> lock(free.guard);
    free.areas.emplace(b.threads.size(), std::move(b.stacks));
}

void prepare(Block& b, size_t dynamic_shared_bytes) {
    const unsigned n = b.size.count();
    if (b.threads.size() != n) {
        give_back_stacks(b);
        b.threads.assign(n, Thread{});
        b.stacks = take_stacks(n);
    }
    b.warps.assign((n + kWarp - 1) / kWarp, Warp{});
    // Poison: half, float and double all read these bytes as NaN.
    b.dynamic_shared.assign(dynamic_shared_bytes + 16, 0xff);
    b.waiting = b.finished = 0;
    b.epoch = 0;
    b.generation++;
    b.vote = b.vote_result = 0;
    b.failure.clear();
    char* const stacks = b.stacks.get() + (16 - reinterpret_cast<uintptr_t>(b.stacks.get()) % 16) % 16;
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(stacks, n * kStackBytes);  // frames of fibers that a failure abandoned
#endif
    for (unsigned i = 0; i < n; i++) {
        Thread& t = b.threads[i];
        t.index = Dim3(i % b.size.x, i / b.size.x % b.size.y, i / b.size.x / b.size.y);
        t.linear = i;
        t.state = State::ready;
        t.parity = 0;
        t.where = "";
        t.fiber.prepare(stacks + i * kStackBytes, entry);
        b.warps[i / kWarp].alive |= 1u << i % kWarp;
    }
}

std::vector<unsigned> warp_order(size_t warps) {
    std::vector<unsigned> order(warps);
    for (unsigned i = 0; i < warps; i++)
        order[i] = schedule == kGreedyBackward ? static_cast<unsigned>(warps) - 1 - i : i;
    uint32_t state = static_cast<uint32_t>(schedule);
    if (schedule >= kGreedyShuffled)
        for (size_t i = warps; i > 1; i--) {
            state = state * 1664525u + 1013904223u;
            std::swap(order[i - 1], order[(state >> 8) % i]);
        }
    return order;
}

// One pass over a warp; true if any of its threads ran.
bool run_warp(Block& b, unsigned warp) {
    bool ran = false;
    const size_t end = std::min<size_t>(b.threads.size(), (warp + 1) * kWarp);
    for (size_t i = warp * kWarp; i < end && b.failure.empty(); i++) {
        if (b.threads[i].state != State::ready) continue;
        ran = true;
        thread = &b.threads[i];
        thread->fiber.resume();
    }
    return ran;
}

std::string stuck(const Block& b) {
    unsigned at_barrier = 0, at_warp = 0;
    const char* where = "";
    for (const Thread& t : b.threads) {
        at_barrier += t.state == State::at_barrier;
        at_warp += t.state == State::at_warp;
        if (t.state == State::at_barrier || t.state == State::at_warp) where = t.where;
    }
    return "a barrier was not reached by all threads: " + std::to_string(at_barrier) + " of " +
           std::to_string(b.threads.size()) + " wait at a block barrier, " + std::to_string(at_warp) +
           " at a warp operation, " + std::to_string(b.finished) + " have finished (" + where + ")";
}

void run(Block& b, size_t dynamic_shared_bytes) {
    prepare(b, dynamic_shared_bytes);
    const std::vector<unsigned> order = warp_order(b.warps.size());
    while (b.finished < b.threads.size() && b.failure.empty()) {
        bool ran = false;
        for (const unsigned warp : order) {
            while (run_warp(b, warp)) {
                ran = true;
                if (schedule == kFair) break;
            }
        }
        if (!ran && b.failure.empty()) b.failure = stuck(b);
    }
    if (!b.failure.empty()) throw Error(b.failure);
}

}  // namespace

Block::~Block() { give_back_stacks(*this); }

void set_schedule(int value) { schedule = value; }

void fail(const std::string& what) { throw Error(what + " [" + location() + "]"); }

void check_launch(Dim3 grid, Dim3 size) {
    if (size.count() == 0 || size.count() > 1024)
        throw Error("a block must be 1 to 1024 threads, got " + std::to_string(size.count()));
    if (grid.count() == 0) throw Error("an empty grid");
    constexpr unsigned kMost[] = {2147483647, 65535, 65535};  // CUDA C++ Programming Guide, compute capabilities
    const unsigned given[] = {grid.x, grid.y, grid.z};
    for (int axis = 0; axis < 3; axis++)
        if (given[axis] > kMost[axis])
            throw Error("axis " + std::string(1, "xyz"[axis]) + " of a grid must be at most " +
                        std::to_string(kMost[axis]) + " blocks, got " + std::to_string(given[axis]));
}

void run_block(Dim3 index, Dim3 grid, Dim3 size, size_t dynamic_shared_bytes, const std::function<void()>& body) {
    static thread_local Block storage;
    Block* const outer = block;
    block = &storage;
    storage.body = body;
    storage.index = index;
    storage.size = size;
    storage.grid = grid;
    try {
        run(storage, dynamic_shared_bytes);
    } catch (...) {
        block = outer;
        throw;
    }
    block = outer;
}

void launch(Dim3 grid, Dim3 size, size_t dynamic_shared_bytes, const std::function<void()>& body) {
    fp16engine::parallel_for(grid.count(), [&](int64_t task, int) {
        const auto i = static_cast<unsigned>(task);
        run_block(Dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), grid, size, dynamic_shared_bytes, body);
    });
}

void barrier(const char* where) {
    thread->where = where;
    if (++block->waiting == block->threads.size()) {
        release_barrier();
        return;
    }
    thread->state = State::at_barrier;
    thread->fiber.yield();
}

int barrier_or(int predicate) {
    block->vote |= predicate != 0;
    barrier("__syncthreads_or");
    return block->vote_result;
}

void warp_barrier(unsigned mask, const char* where) {
    if (!(mask >> lane() & 1u)) fail(std::string(where) + ": a lane outside its own mask");
    Warp& warp = block->warps[thread->linear / kWarp];
    if ((mask & warp.alive) != mask)
        fail(std::string(where) + ": the mask names lanes that have exited or never existed");
    thread->where = where;
    // Shuffles and votes move registers; only __syncwarp orders memory.
    const bool orders_memory = std::strcmp(where, "__syncwarp") == 0;
    unsigned& arrived = warp.arrived[__builtin_ctz(mask)];
    arrived |= 1u << lane();
    if ((arrived & mask) == mask) {
        warp.epoch += orders_memory;
        release_warp(warp, thread->linear / kWarp * kWarp, mask);
        return;
    }
    thread->state = State::at_warp;
    thread->mask = mask;
    thread->fiber.yield();
}

uint64_t exchange(unsigned mask, uint64_t value, unsigned source_lane) {
    Warp& warp = block->warps[thread->linear / kWarp];
    const uint8_t parity = thread->parity;
    thread->parity ^= 1;
    warp.slot[parity][lane()] = value;
    warp_barrier(mask, "shuffle");
    if (!(mask >> (source_lane % kWarp) & 1u)) fail("shuffle: the source lane is not in the mask");
    return warp.slot[parity][source_lane % kWarp];
}

unsigned match_any(unsigned mask, uint64_t value) {
    Warp& warp = block->warps[thread->linear / kWarp];
    const uint8_t parity = thread->parity;
    thread->parity ^= 1;
    warp.slot[parity][lane()] = value;
    warp_barrier(mask, "match");
    unsigned result = 0;
    for (unsigned i = 0; i < kWarp; i++) result |= (mask >> i & 1u && warp.slot[parity][i] == value) ? 1u << i : 0u;
    return result;
}

unsigned ballot(unsigned mask, bool predicate) { return match_any(mask, predicate) ^ (predicate ? 0u : mask); }

}  // namespace simt
