#include "cuda/runtime.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "common/check.h"

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

struct Block {
    void* memory = nullptr;
    size_t bytes = 0;
};

std::map<int, Block>& blocks() {
    static std::map<int, Block> by_device;
    return by_device;
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

void* library_workspace(size_t bytes) {
    if (bytes == 0) return nullptr;
    const std::lock_guard<std::mutex> lock(guard());
    Block& block = blocks()[current_device()];
    if (bytes > block.bytes) {
        expect(!capturing(), "workspace must not grow while a graph is captured, got a need of " +
                                 std::to_string(bytes) + " bytes; run the step once before");
        Block larger;
        larger.bytes = std::max(bytes, 2 * block.bytes);
        FP16_CHECK(cudaMalloc(&larger.memory, larger.bytes));
        block = larger;  // the smaller one may be part of a captured graph
    }
    return block.memory;
}

size_t library_workspace_bytes() {
    const std::lock_guard<std::mutex> lock(guard());
    return blocks()[current_device()].bytes;
}

size_t graph_nodes(uintptr_t graph) {
    const auto handle = reinterpret_cast<cudaGraph_t>(graph);
    size_t count = 0, working = 0;
    FP16_CHECK(cudaGraphGetNodes(handle, nullptr, &count));
    std::vector<cudaGraphNode_t> nodes(count);
    FP16_CHECK(cudaGraphGetNodes(handle, nodes.data(), &count));
    for (const cudaGraphNode_t node : nodes) {
        cudaGraphNodeType type;
        FP16_CHECK(cudaGraphNodeGetType(node, &type));
        working +=
            type == cudaGraphNodeTypeKernel || type == cudaGraphNodeTypeMemcpy || type == cudaGraphNodeTypeMemset;
    }
    return working;
}

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
