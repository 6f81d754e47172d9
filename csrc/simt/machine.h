// The CUDA execution model on the host: a grid of blocks, a fiber for every thread of a block, warps of 32, barriers
// and shuffles that wait for the threads they name. Errors a GPU would turn into wrong numbers stop the launch with a
// sentence.
#pragma once
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "simt/fiber.h"

namespace simt {

constexpr unsigned kWarp = 32;

struct Dim3 {
    unsigned x, y, z;
    Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
    int64_t count() const { return int64_t{x} * y * z; }
};

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// In which order a block's threads get to run. Fair gives every thread a turn in each pass; the greedy ones run a warp
// as far as it can go before the next one starts, which brings out a missing barrier. From 3 on: greedy in an order
// shuffled by the number.
enum Schedule : int { kFair = 0, kGreedyForward = 1, kGreedyBackward = 2, kGreedyShuffled = 3 };
void set_schedule(int schedule);

enum class State : uint8_t { ready, at_barrier, at_warp, done };

struct Thread {
    Fiber fiber;
    Dim3 index;
    unsigned linear = 0;
    State state = State::ready;
    unsigned mask = 0;   // the lanes a warp operation waits for
    uint8_t parity = 0;  // which of the two exchange slots comes next
    const char* where = "";
};

struct Warp {
    unsigned alive = 0;
    unsigned arrived[kWarp] = {};  // by lowest lane of the mask
    uint64_t slot[2][kWarp] = {};
    uint32_t epoch = 0;  // __syncwarp barriers passed so far
};

// One block at a time per host thread.
struct Block {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::unique_ptr<char[]> stacks;
    std::vector<unsigned char> dynamic_shared;
    std::function<void()> body;
    Dim3 index, size, grid;
    unsigned waiting = 0, finished = 0;
    uint32_t epoch = 0;       // barriers passed in this block
    uint64_t generation = 0;  // differs for every block that ran on this host thread
    int vote = 0, vote_result = 0;
    bool vote_all = true, vote_all_result = true;
    std::string failure;

    Block() = default;
    ~Block();
};

extern thread_local Block* block;
extern thread_local Thread* thread;

// Throws for a grid or a block that no GPU launches.
void check_launch(Dim3 grid, Dim3 size);

// Runs `body` once per thread of the grid; rethrows the first error of any thread as simt::Error.
void launch(Dim3 grid, Dim3 size, size_t dynamic_shared_bytes, const std::function<void()>& body);

[[noreturn]] void fail(const std::string& what);

void barrier(const char* where);
int barrier_or(int predicate);
void warp_barrier(unsigned mask, const char* where);
uint64_t exchange(unsigned mask, uint64_t value, unsigned source_lane);
unsigned match_any(unsigned mask, uint64_t value);  // the lanes whose value is the same
unsigned ballot(unsigned mask, bool predicate);

inline unsigned lane() { return thread->linear % kWarp; }

template <class T>
T exchange_as(unsigned mask, T value, unsigned source_lane) {
    static_assert(sizeof(T) <= 8, "shuffles move up to eight bytes");
    uint64_t raw = 0;
    std::memcpy(&raw, &value, sizeof value);
    raw = exchange(mask, raw, source_lane);
    std::memcpy(&value, &raw, sizeof value);
    return value;
}

}  // namespace simt
