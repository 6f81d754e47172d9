#include "cpu/allocator.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "common/fork.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fp16engine::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

struct Block {
    size_t bytes;
    Use use;
};

struct Pool {
    std::unordered_map<void*, Block> live;
    std::map<size_t, std::vector<void*>> cached;
    MemoryStats stats;
    int64_t scratch_now = 0;
};

std::mutex guard;
[[maybe_unused]] const bool fork_is_safe = [] {
    hold_across_fork(ForkLock::memory, guard);
    return true;
}();

// Never destroyed: arrays may outlive every static object at interpreter exit.
Pool& pool() {
    static Pool* instance = new Pool;
    return *instance;
}

// Up to 12 % slack, so that ragged last batches reuse the blocks of full ones.
size_t size_class(size_t bytes) {
    size_t step = kAlignment;
    while (step * 16 < bytes) step *= 2;
    return std::max(kAlignment, (bytes + step - 1) / step * step);
}

void* from_system(size_t bytes) {
    void* block = nullptr;
    if (posix_memalign(&block, bytes >= kHugePage ? kHugePage : kAlignment, bytes)) throw std::bad_alloc();
#if defined(__linux__)
    if (bytes >= kHugePage) madvise(block, bytes, MADV_HUGEPAGE);
#endif
    return block;
}

void trim(Pool& p) {
    for (auto& [bytes, blocks] : p.cached) {
        for (void* block : blocks) std::free(block);
        p.stats.reserved -= static_cast<int64_t>(bytes * blocks.size());
    }
    p.cached.clear();
}

}  // namespace

void* allocate(size_t bytes, Use use) {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(guard);
    const size_t rounded = size_class(bytes);
    void* block = nullptr;
    auto found = p.cached.find(rounded);
    if (found != p.cached.end() && !found->second.empty()) {
        block = found->second.back();
        found->second.pop_back();
    } else {
        try {
            block = from_system(rounded);
        } catch (const std::bad_alloc&) {
            trim(p);
            block = from_system(rounded);
        }
        p.stats.reserved += static_cast<int64_t>(rounded);
    }
    p.live[block] = {rounded, use};
    p.stats.current += static_cast<int64_t>(rounded);
    p.stats.peak = std::max(p.stats.peak, p.stats.current);
    if (use == Use::scratch) {
        p.scratch_now += static_cast<int64_t>(rounded);
        p.stats.scratch = std::max(p.stats.scratch, p.scratch_now);
    }
    return block;
}

void release(void* block) {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(guard);
    const auto found = p.live.find(block);
    if (found == p.live.end()) return;
    const Block released = found->second;
    p.live.erase(found);
    p.stats.current -= static_cast<int64_t>(released.bytes);
    if (released.use == Use::scratch) p.scratch_now -= static_cast<int64_t>(released.bytes);
    p.cached[released.bytes].push_back(block);
}

MemoryStats memory_stats() {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(guard);
    return p.stats;
}

void reset_peak_memory() {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(guard);
    p.stats.peak = p.stats.current;
    p.stats.scratch = p.scratch_now;
}

void trim_memory() {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(guard);
    trim(p);
}

}  // namespace fp16engine::cpu
