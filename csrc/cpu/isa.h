// What this machine's processor can run. CMakeLists.txt asks the same function for FP16ENGINE_ISAS=native.
#pragma once
#include <cstring>

namespace fp16engine::cpu {

inline bool machine_runs(const char* isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (!std::strcmp(isa, "avx2")) return avx2;
    if (!std::strcmp(isa, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#endif
    return !std::strcmp(isa, "portable");
}

}  // namespace fp16engine::cpu
