#include "cuda/runtime.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "cuda/scratch.h"

namespace fp16engine::gpu {
namespace {

constexpr int kTimedRuns = 5;

std::atomic<bool> tuning{false};

std::mutex& guard() {
    static std::mutex instance;
    return instance;
}

struct Event {
    cudaEvent_t handle = nullptr;
    Event() { FP16_CHECK(cudaEventCreate(&handle)); }
    ~Event() { cudaEventDestroy(handle); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    void record() { FP16_CHECK(cudaEventRecord(handle, current_stream())); }
};

Scratch& library_scratch() {
    static Scratch* const instance = new Scratch;  // outlives the library's own statics
    return *instance;
}

float median_milliseconds(const std::function<void()>& run) {
    run();  // loads the code and warms the caches
    Event start, stop;
    std::array<float, kTimedRuns> times{};
    for (float& time : times) {
        start.record();
        run();
        stop.record();
        FP16_CHECK(cudaEventSynchronize(stop.handle));
        FP16_CHECK(cudaEventElapsedTime(&time, start.handle, stop.handle));
    }
    std::nth_element(times.begin(), times.begin() + kTimedRuns / 2, times.end());
    return times[kTimedRuns / 2];
}

}  // namespace

void fail_cuda(cudaError_t error, const char* expression, const char* file, int line) {
    cudaGetLastError();  // else the runtime gives this error to the next launch that asks
    throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + expression + ": " +
                             cudaGetErrorString(error));
}

bool capturing() {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    FP16_CHECK(cudaStreamIsCapturing(current_stream(), &status));
    return status != cudaStreamCaptureStatusNone;
}

int current_device() {
    int device = 0;
    FP16_CHECK(cudaGetDevice(&device));
    return device;
}

int compute_capability() {
    static std::map<int, int> known;
    const std::lock_guard<std::mutex> lock(guard());
    int& value = known[current_device()];
    if (value == 0) {
        int major = 0, minor = 0;
        FP16_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, current_device()));
        FP16_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, current_device()));
        value = 10 * major + minor;
    }
    return value;
}

void* library_workspace(size_t bytes) { return library_scratch().get(bytes); }
size_t library_workspace_bytes() { return library_scratch().held(); }

int quickest(int count, const std::function<void(int)>& run) {
    int best = 0;
    float least = std::numeric_limits<float>::infinity();
    for (int i = 0; i < count; i++) {
        float time;
        try {
            time = median_milliseconds([&] { run(i); });
        } catch (const std::exception&) {
            continue;  // a plan the heuristic offers may still be refused at its launch
        }
        if (time < least) {
            least = time;
            best = i;
        }
    }
    return best;
}

bool autotune() { return tuning; }
void set_autotune(bool enabled) { tuning = enabled; }

}  // namespace fp16engine::gpu
