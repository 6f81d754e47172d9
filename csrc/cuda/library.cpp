#include "cuda/library.h"

#include <dlfcn.h>

#include <mutex>

#include "common/check.h"

namespace fp16engine::gpu {
namespace {

struct Opened {
    const char* name;     // what Python calls it
    const char* package;  // the wheel that brings it
    std::string path;     // file, or the name the system's loader looks for
    void* handle = nullptr;
};

std::mutex& guard() {
    static std::mutex instance;
    return instance;
}

Opened& entry(Library library) {
    static Opened cublaslt = {"cublasLt", "nvidia-cublas", "libcublasLt.so.13"},
                  cudnn = {"cudnn", "nvidia-cudnn-cu13", "libcudnn.so.9"};
    return library == Library::cublaslt ? cublaslt : cudnn;
}

// Whether a path leads to an open library: a link and the file behind it do to the same.
bool is_open(const std::string& path, void* handle) {
    void* const other = dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    if (other) dlclose(other);
    return other == handle;
}

std::string last_error() {
    const char* const text = dlerror();
    return text ? text : "unknown error";
}

}  // namespace

void set_library_path(const std::string& name, const std::string& path) {
    const std::lock_guard<std::mutex> lock(guard());
    for (const Library library : {Library::cublaslt, Library::cudnn}) {
        Opened& opened = entry(library);
        if (name != opened.name) continue;
        expect(!opened.handle || is_open(path, opened.handle), name + ": already opened from '" + opened.path + "'");
        if (!opened.handle) opened.path = path;
        return;
    }
    fail("name must be 'cublasLt' or 'cudnn', got '" + name + "'");
}

void* library_handle(Library library) {
    const std::lock_guard<std::mutex> lock(guard());
    Opened& opened = entry(library);
    if (!opened.handle) {
        // Global: cuDNN's parts and its run-time compiler look for symbols of the libraries opened before them.
        opened.handle = dlopen(opened.path.c_str(), RTLD_NOW | RTLD_GLOBAL);
        if (!opened.handle)
            throw LibraryMissing(std::string(opened.name) + " could not be opened (" + last_error() +
                                 "); pip install 'fp16engine[cuda13-libraries]' brings it (package " + opened.package +
                                 ")");
    }
    return opened.handle;
}

void* library_symbol(Library library, const char* symbol) {
    void* const address = dlsym(library_handle(library), symbol);
    if (!address)
        throw LibraryMissing(std::string(entry(library).name) + " has no function " + symbol +
                             ": it is too old; pip install --upgrade " + entry(library).package);
    return address;
}

}  // namespace fp16engine::gpu
