// The CUDA runtime, as launchers and library wrappers use it; the latter are plain C++, where launch.h means the
// simulator.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>

namespace fp16engine::gpu {

[[noreturn]] void fail_cuda(cudaError_t error, const char* expression, const char* file, int line);

inline void check_cuda(cudaError_t error, const char* expression, const char* file, int line) {
    if (error != cudaSuccess) fail_cuda(error, expression, file, line);
}

#define FP16_CHECK(expression) ::fp16engine::gpu::check_cuda((expression), #expression, __FILE__, __LINE__)

cudaStream_t current_stream();
void set_stream(uintptr_t stream);
bool capturing();  // the current stream records a graph

int current_device();
int compute_capability();  // of the current device: 90 for 9.0

// Device memory of one library call, shared by all calls in the order of the one stream (scratch.h).
void* library_workspace(size_t bytes);
size_t library_workspace_bytes();
size_t workspace_bytes();  // the same of our own kernels (launch.h)

// Nodes of a captured graph (a cudaGraph_t) that run a kernel, a copy or a memset.
size_t graph_nodes(uintptr_t graph);

// The quickest of `count` ways to do the same work on the current stream, the first one on a tie; a way that throws is
// left out. Not during a capture.
int quickest(int count, const std::function<void(int)>& run);

// Whether new plans are chosen by timing the first few (true) or as the library's heuristic says (false, the default:
// then equal runs choose equal algorithms, so they give equal bits).
bool autotune();
void set_autotune(bool enabled);

}  // namespace fp16engine::gpu
