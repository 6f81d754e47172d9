// A caching allocator of array storage and scratch. Fresh pages cost a page fault per 4 KiB; a training step asks for
// the same sizes again and again, so blocks are kept by size and handed out again.
#pragma once
#include <cstddef>
#include <cstdint>

namespace fp16engine::cpu {

enum class Use { array, scratch };

struct MemoryStats {
    int64_t current = 0;   // bytes in use now: arrays and scratch
    int64_t peak = 0;      // largest `current` since the last reset
    int64_t scratch = 0;   // largest scratch in use at one time since the last reset
    int64_t reserved = 0;  // bytes held from the system, in use or cached
};

void* allocate(size_t bytes, Use use);
void release(void* block);
MemoryStats memory_stats();
void reset_peak_memory();
void trim_memory();  // gives cached blocks back to the system

// Float workspace of one call, given back at the end of the scope.
class Scratch {
public:
    explicit Scratch(int64_t floats)
        : data_(static_cast<float*>(allocate(static_cast<size_t>(floats) * sizeof(float), Use::scratch))) {}
    ~Scratch() { release(data_); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    float* get() const { return data_; }

private:
    float* data_;
};

}  // namespace fp16engine::cpu
