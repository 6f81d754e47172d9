// How a launcher starts a kernel, on the GPU or in the simulator; the launchers' sources are the same for both.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "common/array_view.h"
#include "kernels/device.cuh"

#if defined(__CUDACC__)
#include "cuda/runtime.h"
#else
#include "simt/machine.h"
#include "simt/recording.h"
#endif

namespace fp16engine::gpu {

#if defined(__CUDACC__)
using Dim3 = dim3;
using Stream = cudaStream_t;

#define FP16_LAUNCH(kernel, grid, block, ...)                                             \
    do {                                                                                  \
        kernel<<<(grid), (block), 0, ::fp16engine::gpu::current_stream()>>>(__VA_ARGS__); \
        ::fp16engine::gpu::check_cuda(cudaGetLastError(), #kernel, __FILE__, __LINE__);   \
    } while (0)
#else
using Dim3 = simt::Dim3;
using Stream = void*;

// Arguments are taken now, as a stream takes them, and the kernel runs now or in every replay of the open recording.
#define FP16_LAUNCH(kernel, grid, block, ...)                                                                        \
    do {                                                                                                             \
        const Dim3 blocks_((grid)), threads_((block));                                                               \
        ::simt::check_launch(blocks_, threads_);                                                                     \
        ::simt::perform(#kernel, true, [=] { ::simt::launch(blocks_, threads_, 0, [=] { kernel(__VA_ARGS__); }); }); \
    } while (0)
#endif

// The stream every launcher uses: one compute stream, set by the Python side.
Stream current_stream();
void set_stream(uintptr_t stream);

// Multiprocessors of the device; grids are sized by it. The simulator says 4.
int multiprocessors();

// An argument of a kernel: a plain pointer on the GPU, one that knows its array's size in the simulator.
template <class T>
Ptr<T> pointer(const ArrayView& view) {
#if defined(__CUDACC__)
    return static_cast<T*>(view.data);
#else
    return view ? Ptr<T>(static_cast<T*>(view.data), view.size()) : Ptr<T>();
#endif
}

// Float device memory of one launcher call: the start of an arena that grows outside of captures only and serves the
// next call too, since everything runs in the order of one stream. In the simulator it is poisoned with NaN.
class Workspace {
public:
    explicit Workspace(int64_t floats);
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    Ptr<float> get() const { return pieces_; }
    // Elements first to first + count - 1 as integers
    Ptr<int> integers(int64_t first, int64_t count) const {
#if defined(__CUDACC__)
        return reinterpret_cast<int*>(pieces_ + first);
#else
        return Ptr<int>(reinterpret_cast<int*>(pieces_.base() + first), count);
#endif
    }

private:
#if !defined(__CUDACC__)
    std::shared_ptr<float[]> memory_;  // its own allocation, so that AddressSanitizer sees its ends
#endif
    Ptr<float> pieces_;
};

// Zeros in device memory, and device memory copied to the host, both in the order of the stream; read_back waits for
// it, and so is an error while a step is recorded.
void set_zero(void* device, size_t bytes);
void read_back(void* host, const void* device, size_t bytes);

inline int64_t ceil_divide(int64_t n, int64_t by) { return (n + by - 1) / by; }

// So many blocks, in a grid's first axis.
inline unsigned grid_of(int64_t blocks) {
    expect(blocks < int64_t{1} << 31, "x must need fewer than 2^31 blocks, got " + std::to_string(blocks));
    return static_cast<unsigned>(blocks);
}

// Blocks for n independent work items of one thread each, at most `waves` per multiprocessor; kernels stride over the
// rest.
inline unsigned grid_for(int64_t items, int64_t threads = kBlock, int64_t waves = 8) {
    const int64_t needed = ceil_divide(items, threads), most = waves * multiprocessors();
    return static_cast<unsigned>(needed < 1 ? 1 : needed < most ? needed : most);
}

// Vector access needs pointers on a vector's boundary.
inline bool aligned(const ArrayView& view, int64_t bytes = 16) {
    return reinterpret_cast<uintptr_t>(view.data) % bytes == 0;
}

// Calls body(T{}) with the storage type of `dtype`.
template <class Body>
void with_storage(const char* argument, DType dtype, Body body) {
    if (dtype == DType::float16)
        body(__half{});
    else if (dtype == DType::float32)
        body(float{});
    else
        fail(std::string(argument) + " must be float16 or float32, got " + name(dtype));
}

// Calls body(T{}, S{}) for the type of x and that of the vectors of its norm, x's own or float32.
template <class Body>
void with_norm_types(const ArrayView& x, const ArrayView& gamma, Body body) {
    with_storage("x", x.dtype, [&](auto type) {
        if (gamma.dtype == DType::float32)
            body(type, float{});
        else
            body(type, type);
    });
}

}  // namespace fp16engine::gpu
