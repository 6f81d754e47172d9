// Picks the inner loops for this machine once, or the set that FP16ENGINE_ISA names.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu/simd/kernels.h"

namespace fp16engine::cpu {

#if defined(FP16ENGINE_X86)
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx2;
#endif
extern const Kernels kernels_portable;

namespace {

const Kernels* find(const char* isa) {
#if defined(FP16ENGINE_X86)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    const bool any = !std::strcmp(isa, "auto");
    if (avx512 && (any || !std::strcmp(isa, "avx512"))) return &kernels_avx512;
    if (avx2 && (any || !std::strcmp(isa, "avx2"))) return &kernels_avx2;
    if (any) return &kernels_portable;
#else
    if (!std::strcmp(isa, "auto")) return &kernels_portable;
#endif
    return std::strcmp(isa, "portable") ? nullptr : &kernels_portable;
}

const Kernels* in_use() {
    const char* wanted = std::getenv("FP16ENGINE_ISA");
    const Kernels* found = wanted ? find(wanted) : nullptr;
    return found ? found : find("auto");
}

std::atomic<const Kernels*>& current() {
    static std::atomic<const Kernels*> table{in_use()};
    return table;
}

}  // namespace

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

const char* select_isa(const char* isa) {
    const Kernels* found = find(isa);
    if (!found) return nullptr;
    current() = found;
    return found->isa;
}

}  // namespace fp16engine::cpu
