// What the fakes of the CUDA runtime and of cuBLASLt share, and what a test tells and asks them. Device memory is the
// host's; work is done at once or put into the simulator's recording, as kernels are.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace fp16engine::fake {

// Calls `first` to `first` + `times` - 1 of `function` from now on (1 is the next) return `status` and do nothing.
void plan_fault(const std::string& function, int64_t first, int64_t times, int status);

// Counts a call of `function`; its planned status, or 0.
int fault(const char* function);

// How often each function was called since the last forget().
std::map<std::string, int64_t> calls();

// Takes back planned faults and counts.
void forget();

// The current device, of every thread.
void set_device(int device);

// Whether memory[0 .. bytes) was handed out by cudaMalloc in one piece.
bool allocated(const void* memory, size_t bytes);

// How many handles and descriptors of cuBLASLt exist.
size_t objects();

// Moves the clock on by which events are stamped.
void spend(float milliseconds);

}  // namespace fp16engine::fake
