// The GPU's side of launch.h.
#include <string>

#include "cuda/launch.h"

namespace fp16engine::gpu {
namespace {

struct Arena {
    float* memory = nullptr;
    int64_t floats = 0;
};

constexpr int kMaxDevices = 64;

int device_index() {
    const int device = current_device();
    expect(device < kMaxDevices, "device must be one below 64, got " + std::to_string(device));
    return device;
}

Arena& arena() {
    static Arena arenas[kMaxDevices];  // one stream each; given back with the process
    return arenas[device_index()];
}

Stream& stream() {
    static Stream current[kMaxDevices] = {};
    return current[device_index()];
}

}  // namespace

void fail_cuda(cudaError_t error, const char* expression, const char* file, int line) {
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + expression + ": " +
                             cudaGetErrorString(error));
}

Stream current_stream() { return stream(); }
void set_stream(uintptr_t handle) { stream() = reinterpret_cast<Stream>(handle); }

int multiprocessors() {
    static int counts[kMaxDevices] = {};
    int& count = counts[device_index()];
    if (count == 0) FP16_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, current_device()));
    return count;
}

Workspace::Workspace(int64_t floats) {
    Arena& a = arena();
    if (floats > a.floats) {
        if (capturing())
            fail("workspace must not grow while a graph is captured, got a need of " + std::to_string(floats) +
                 " floats; run the step once before");
        // The outgrown block is kept: a graph captured before may still write to it.
        a.floats = floats * 2;
        FP16_CHECK(cudaMalloc(reinterpret_cast<void**>(&a.memory), static_cast<size_t>(a.floats) * sizeof(float)));
    }
    pieces_ = a.memory;
}

size_t workspace_bytes() { return static_cast<size_t>(arena().floats) * sizeof(float); }

void set_zero(void* device, size_t bytes) { FP16_CHECK(cudaMemsetAsync(device, 0, bytes, current_stream())); }

void read_back(void* host, const void* device, size_t bytes) {
    expect(!capturing(), "a value was read back to the host while a step is recorded");
    FP16_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, current_stream()));
    FP16_CHECK(cudaStreamSynchronize(current_stream()));
}

}  // namespace fp16engine::gpu
