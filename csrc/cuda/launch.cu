// The GPU's side of launch.h.
#include <string>

#include "cuda/launch.h"

namespace fp16engine::gpu {
namespace {

struct Arena {
    float* memory = nullptr;
    int64_t floats = 0;
};

Arena& arena() {
    static Arena instance;  // one device, one stream; given back with the process
    return instance;
}

Stream& stream() {
    static Stream current = nullptr;
    return current;
}

}  // namespace

void fail_cuda(cudaError_t error, const char* expression, const char* file, int line) {
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + expression + ": " +
                             cudaGetErrorString(error));
}

Stream current_stream() { return stream(); }
void set_stream(uintptr_t handle) { stream() = reinterpret_cast<Stream>(handle); }

int multiprocessors() {
    static const int count = [] {
        int device = 0, value = 0;
        FP16_CHECK(cudaGetDevice(&device));
        FP16_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, device));
        return value;
    }();
    return count;
}

Workspace::Workspace(int64_t floats) {
    Arena& a = arena();
    if (floats > a.floats) {
        if (capturing())
            fail("workspace: " + std::to_string(floats) +
                 " floats wanted while a graph is captured; run the step once before");
        // The outgrown block is kept: a graph captured before may still write to it.
        a.floats = floats * 2;
        FP16_CHECK(cudaMalloc(reinterpret_cast<void**>(&a.memory), static_cast<size_t>(a.floats) * sizeof(float)));
    }
    pieces_ = a.memory;
}

void set_zero(void* device, size_t bytes) { FP16_CHECK(cudaMemsetAsync(device, 0, bytes, current_stream())); }

void read_back(void* host, const void* device, size_t bytes) {
    FP16_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, current_stream()));
    FP16_CHECK(cudaStreamSynchronize(current_stream()));
}

}  // namespace fp16engine::gpu
