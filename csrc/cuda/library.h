// NVIDIA's libraries are opened at first use, so the module imports on any machine and links the static CUDA runtime
// only.
#pragma once
#include <stdexcept>
#include <string>

namespace fp16engine::gpu {

// A library, or a part of this build, that is not there; the binding makes it BackendUnavailable.
class LibraryMissing : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

enum class Library { cublaslt, cudnn };

// Where to open a library from, instead of its name in the system's search path; before its first use only.
void set_library_path(const std::string& name, const std::string& path);

// The open library; throws LibraryMissing with what to install.
void* library_handle(Library library);

// A function of a library by its exported name.
void* library_symbol(Library library, const char* symbol);

template <class Function>
Function* library_function(Library library, const char* symbol) {
    return reinterpret_cast<Function*>(library_symbol(library, symbol));
}

}  // namespace fp16engine::gpu
