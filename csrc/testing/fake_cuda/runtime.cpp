// A fake of the CUDA runtime: it keeps to the runtime's rules where a GPU's would punish a breach.
#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <mutex>

#include "simt/recording.h"
#include "testing/fake_cuda/fake.h"

struct CUevent_st {
    bool recorded = false;
    double milliseconds = 0.0;
};

namespace fp16engine::fake {
namespace {

struct Fault {
    int64_t first, times;
    int status;
};

struct State {
    std::mutex guard;
    std::map<std::string, int64_t> calls;
    std::map<std::string, Fault> faults;
    std::map<uintptr_t, std::unique_ptr<char[]>> memory;  // by address
    std::map<uintptr_t, size_t> sizes;
    int device = 0;
    double milliseconds = 0.0;
};

State& state() {
    static State* const instance = new State;
    return *instance;
}

// The runtime keeps the last error of a thread until it is asked for it.
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t done(cudaError_t error) {
    if (error != cudaSuccess) last_error = error;
    return error;
}

cudaError_t planned(const char* function) { return done(static_cast<cudaError_t>(fault(function))); }

}  // namespace

void plan_fault(const std::string& function, int64_t first, int64_t times, int status) {
    const std::lock_guard<std::mutex> lock(state().guard);
    state().faults[function] = {state().calls[function] + first, times, status};
}

int fault(const char* function) {
    const std::lock_guard<std::mutex> lock(state().guard);
    const int64_t call = ++state().calls[function];
    const auto found = state().faults.find(function);
    if (found == state().faults.end()) return 0;
    const Fault& planned = found->second;
    return call >= planned.first && call < planned.first + planned.times ? planned.status : 0;
}

std::map<std::string, int64_t> calls() {
    const std::lock_guard<std::mutex> lock(state().guard);
    return state().calls;
}

void forget() {
    const std::lock_guard<std::mutex> lock(state().guard);
    state().calls.clear();
    state().faults.clear();
}

void set_device(int device) { state().device = device; }

bool allocated(const void* memory, size_t bytes) {
    const std::lock_guard<std::mutex> lock(state().guard);
    const auto address = reinterpret_cast<uintptr_t>(memory);
    auto after = state().sizes.upper_bound(address);
    if (after == state().sizes.begin()) return false;
    const auto& block = *--after;
    return address + bytes <= block.first + block.second;
}

void spend(float milliseconds) { state().milliseconds += milliseconds; }

}  // namespace fp16engine::fake

using namespace fp16engine::fake;

cudaError_t cudaGetDevice(int* device) {
    *device = state().device;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (device != state().device) return done(cudaErrorInvalidValue);
    *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
        case cudaSuccess:
            return "no error";
        case cudaErrorInvalidValue:
            return "invalid argument";
        case cudaErrorMemoryAllocation:
            return "out of memory";
        case cudaErrorInvalidResourceHandle:
            return "invalid resource handle";
        case cudaErrorIllegalAddress:
            return "an illegal memory access was encountered";
        case cudaErrorStreamCaptureUnsupported:
            return "operation not permitted when stream is capturing";
    }
    return "unrecognized error code";
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
    if (const cudaError_t error = planned("cudaMalloc")) return error;
    if (simt::recording()) return done(cudaErrorStreamCaptureUnsupported);
    constexpr size_t kAlignment = 256;
    std::unique_ptr<char[]> block(new char[bytes + kAlignment]);
    std::memset(block.get(), 0xff, bytes + kAlignment);
    const auto start = reinterpret_cast<uintptr_t>(block.get());
    const uintptr_t address = (start + kAlignment - 1) / kAlignment * kAlignment;
    const std::lock_guard<std::mutex> lock(state().guard);
    state().memory[address] = std::move(block);
    state().sizes[address] = bytes;
    *memory = reinterpret_cast<void*>(address);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
    if (const cudaError_t error = planned("cudaMemsetAsync")) return error;
    simt::perform("cudaMemsetAsync", true, [=] { std::memset(memory, value, bytes); });
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
    *status = simt::recording() ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    *event = new CUevent_st;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
    if (simt::recording()) return done(cudaErrorStreamCaptureUnsupported);
    *event = {true, state().milliseconds};
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    return done(event->recorded ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t stop) {
    if (!start->recorded || !stop->recorded) return done(cudaErrorInvalidResourceHandle);
    *milliseconds = static_cast<float>(stop->milliseconds - start->milliseconds);
    return cudaSuccess;
}
