// The GPU's side of launch.h.
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "cuda/cooperative.h"
#include "cuda/launch.h"
#include "cuda/scratch.h"

namespace fp16engine::gpu {
namespace {

constexpr int kMaxDevices = 64;

int device_index() {
    const int device = current_device();
    expect(device < kMaxDevices, "device must be one below 64, got " + std::to_string(device));
    return device;
}

Scratch& scratch() {
    static Scratch* const instance = new Scratch;  // given back with the process
    return *instance;
}

Stream& stream() {
    static Stream current[kMaxDevices] = {};
    return current[device_index()];
}

}  // namespace

Stream current_stream() { return stream(); }
void set_stream(uintptr_t handle) { stream() = reinterpret_cast<Stream>(handle); }

int multiprocessors() {
    static int counts[kMaxDevices] = {};
    int& count = counts[device_index()];
    if (count == 0) FP16_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, current_device()));
    return count;
}

int64_t resident_blocks(const void* kernel, int threads) {
    static std::mutex guard;
    static std::map<std::pair<int, const void*>, int> known;  // a kernel is always launched with as many threads
    const std::lock_guard<std::mutex> lock(guard);
    int& each = known[{device_index(), kernel}];
    if (each == 0) FP16_CHECK(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&each, kernel, threads, 0));
    return int64_t{each} * multiprocessors();
}

Workspace::Workspace(int64_t floats)
    : pieces_(static_cast<float*>(scratch().get(static_cast<size_t>(floats) * sizeof(float)))) {}

size_t workspace_bytes() { return scratch().held(); }

void set_zero(void* device, size_t bytes) { FP16_CHECK(cudaMemsetAsync(device, 0, bytes, current_stream())); }

void read_back(void* host, const void* device, size_t bytes) {
    expect(!capturing(), "a value was read back to the host while a step is recorded");
    FP16_CHECK(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, current_stream()));
    FP16_CHECK(cudaStreamSynchronize(current_stream()));
}

}  // namespace fp16engine::gpu
