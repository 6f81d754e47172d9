// The simulator's side of launch.h.
#include <cstring>

#include "cuda/launch.h"

namespace fp16engine::gpu {

Stream current_stream() { return nullptr; }
void set_stream(uintptr_t) {}
int multiprocessors() { return 4; }

Workspace::Workspace(int64_t floats) : memory_(new float[static_cast<size_t>(floats)]), pieces_(memory_.get(), floats) {
    if (simt::Recording* const target = simt::recording()) target->keep(memory_);
    const auto poison = [memory = memory_.get(), bytes = static_cast<size_t>(floats) * sizeof(float)] {
        std::memset(memory, 0xff, bytes);
    };
    simt::perform("poison", false, poison);
}

void set_zero(void* device, size_t bytes) {
    simt::perform("set_zero", true, [=] { std::memset(device, 0, bytes); });
}

void read_back(void* host, const void* device, size_t bytes) {
    expect(!simt::recording(), "a value was read back to the host while a step is recorded");
    std::memcpy(host, device, bytes);
}

}  // namespace fp16engine::gpu
