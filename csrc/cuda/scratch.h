// Device memory that grows to what its user asks for, a block per device. It is never given back: a graph captured
// before may still write to a block that was outgrown.
#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <string>

namespace fp16engine::gpu {

// The GPU's memory is full; the binding makes it MemoryError.
class OutOfMemory : public std::bad_alloc {
public:
    explicit OutOfMemory(std::string sentence) : sentence_(std::move(sentence)) {}
    const char* what() const noexcept override { return sentence_.c_str(); }

private:
    std::string sentence_;
};

// What gives memory back that others hold without using it, so that a failed allocation is worth another try. It may
// wait for a lock of Python's: who holds that one must not wait for an operation.
void set_memory_release(std::function<void()> release);

class Scratch {
public:
    // At least `bytes` on the current device, for one call in the order of the one stream; nullptr for none. Throws
    // OutOfMemory, and then holds what it held.
    void* get(size_t bytes);
    // What is held on the current device, outgrown blocks too.
    size_t held();

private:
    struct Block {
        void* memory = nullptr;
        size_t bytes = 0, outgrown = 0;
    };
    std::mutex guard_;
    std::map<int, Block> blocks_;
};

}  // namespace fp16engine::gpu
