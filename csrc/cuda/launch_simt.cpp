// The simulator's side of launch.h.
#include <cstring>

#include "cuda/launch.h"

namespace fp16engine::gpu {

Stream current_stream() { return nullptr; }
void set_stream(uintptr_t) {}
int multiprocessors() { return 4; }

Workspace::Workspace(int64_t floats) : memory_(new float[static_cast<size_t>(floats)]), pieces_(memory_.get(), floats) {
    std::memset(memory_.get(), 0xff, static_cast<size_t>(floats) * sizeof(float));
}

void set_zero(void* device, size_t bytes) { std::memset(device, 0, bytes); }
void read_back(void* host, const void* device, size_t bytes) { std::memcpy(host, device, bytes); }

}  // namespace fp16engine::gpu
