// Finds the functions of the fakes by their names, in place of cuda/library.cpp, which opens NVIDIA's libraries.
#include "cuda/library.h"

#include <cublasLt.h>

#include <map>

namespace fp16engine::gpu {

void* library_symbol(Library, const char* symbol) {
#define FAKE(name)                              \
    {                                           \
        #name, reinterpret_cast<void*>(&::name) \
    }
    static const std::map<std::string, void*> functions = {
        FAKE(cublasLtCreate),
        FAKE(cublasLtGetVersion),
        FAKE(cublasLtGetStatusName),
        FAKE(cublasLtMatmul),
        FAKE(cublasLtMatmulAlgoGetHeuristic),
        FAKE(cublasLtMatmulAlgoConfigGetAttribute),
        FAKE(cublasLtMatmulDescCreate),
        FAKE(cublasLtMatmulDescDestroy),
        FAKE(cublasLtMatmulDescSetAttribute),
        FAKE(cublasLtMatrixLayoutCreate),
        FAKE(cublasLtMatrixLayoutDestroy),
        FAKE(cublasLtMatrixLayoutSetAttribute),
        FAKE(cublasLtMatmulPreferenceCreate),
        FAKE(cublasLtMatmulPreferenceDestroy),
        FAKE(cublasLtMatmulPreferenceSetAttribute),
    };
#undef FAKE
    const auto found = functions.find(symbol);
    if (found == functions.end()) throw LibraryMissing(std::string("the fake has no function ") + symbol);
    return found->second;
}

}  // namespace fp16engine::gpu
