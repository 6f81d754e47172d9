// Picks the inner loops for this machine once, or the set that the environment variable FP16ENGINE_ISA names.
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "cpu/isa.h"
#include "cpu/simd/kernels.h"

namespace fp16engine::cpu {

#if defined(FP16ENGINE_BUILT_avx512)
namespace avx512 {
extern const Kernels table;
}
#endif
#if defined(FP16ENGINE_BUILT_avx2)
namespace avx2 {
extern const Kernels table;
}
#endif
#if defined(FP16ENGINE_BUILT_portable)
namespace portable {
extern const Kernels table;
}
#endif

namespace {

const Kernels* const kBuilt[] = {
// the newest first
#if defined(FP16ENGINE_BUILT_avx512)
    &avx512::table,
#endif
#if defined(FP16ENGINE_BUILT_avx2)
    &avx2::table,
#endif
#if defined(FP16ENGINE_BUILT_portable)
    &portable::table,
#endif
};

const Kernels* find(const char* isa) {
    const bool any = !std::strcmp(isa, "auto");
    for (const Kernels* const table : kBuilt)
        if ((any || !std::strcmp(isa, table->isa)) && machine_runs(table->isa)) return table;
    return nullptr;
}

const Kernels* in_use() {
    const char* requested = std::getenv("FP16ENGINE_ISA");
    const Kernels* found = requested ? find(requested) : nullptr;
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
