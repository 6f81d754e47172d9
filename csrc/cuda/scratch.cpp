#include "cuda/scratch.h"

#include <algorithm>

#include "common/check.h"
#include "cuda/runtime.h"

namespace fp16engine::gpu {
namespace {

std::function<void()>& memory_release() {
    static std::function<void()> release;
    return release;
}

// Null where there is no room; any other fault throws.
void* try_allocate(size_t bytes) {
    void* memory = nullptr;
    const cudaError_t error = cudaMalloc(&memory, bytes);
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError();  // the runtime would give it to whoever asks next
        return nullptr;
    }
    check_cuda(error, "cudaMalloc", __FILE__, __LINE__);
    return memory;
}

}  // namespace

void set_memory_release(std::function<void()> release) { memory_release() = std::move(release); }

void* Scratch::get(size_t bytes) {
    if (bytes == 0) return nullptr;
    const std::lock_guard<std::mutex> lock(guard_);
    Block& block = blocks_[current_device()];
    if (bytes > block.bytes) {
        expect(!capturing(), "workspace must not grow while a graph is captured, got a need of " +
                                 std::to_string(bytes) + " bytes; run the step once before");
        size_t size = std::max(bytes, 2 * block.bytes);
        void* memory = try_allocate(size);
        if (!memory) {
            if (memory_release()) memory_release()();
            size = bytes;
            memory = try_allocate(size);
        }
        if (!memory)
            throw OutOfMemory("GPU memory: no room for a workspace of " + std::to_string(bytes) +
                              " bytes; a smaller batch needs less");
        block = {memory, size, block.outgrown + block.bytes};
    }
    return block.memory;
}

size_t Scratch::held() {
    const std::lock_guard<std::mutex> lock(guard_);
    const Block& block = blocks_[current_device()];
    return block.bytes + block.outgrown;
}

}  // namespace fp16engine::gpu
