/* A fake of NVIDIA's driver library where there is no GPU, so that cuDNN can be loaded and can plan for a GPU it is
 * only told about. It holds no device: it accepts a compiled kernel without looking at it and refuses everything that
 * would run one. */
#include <stddef.h>

enum { SUCCESS = 0, STUB_LIBRARY = 34 };

static int object; /* what every handle points to */

#define REFUSE(name) \
    int name(void) { return STUB_LIBRARY; }
REFUSE(cuCtxGetCurrent)
REFUSE(cuCtxGetLimit)
REFUSE(cuCtxPopCurrent)
REFUSE(cuCtxPushCurrent)
REFUSE(cuDeviceGet)
REFUSE(cuLaunchCooperativeKernel)
REFUSE(cuLaunchKernel)
REFUSE(cuLaunchKernelEx)
REFUSE(cuLinkAddData)
REFUSE(cuLinkComplete)
REFUSE(cuLinkCreate)
REFUSE(cuLinkDestroy)
REFUSE(cuModuleUnload)
REFUSE(cuOccupancyMaxPotentialClusterSize)
REFUSE(cuStreamGetCtx)
REFUSE(cuTensorMapEncodeIm2col)
REFUSE(cuTensorMapEncodeTiled)

int cuDeviceGetCount(int* count) {
    *count = 0;
    return SUCCESS;
}

int cuDriverGetVersion(int* version) {
    *version = 13000;
    return SUCCESS;
}

int cuGetErrorName(int error, const char** text) {
    (void)error;
    *text = "STUB_DRIVER";
    return SUCCESS;
}

int cuGetErrorString(int error, const char** text) {
    (void)error;
    *text = "fake driver, there is no GPU";
    return SUCCESS;
}

int cuModuleLoadData(void** module, const void* image) {
    (void)image;
    *module = &object;
    return SUCCESS;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
    (void)module, (void)name;
    *function = &object;
    return SUCCESS;
}

int cuLibraryLoadData(void** library, const void* code, void* jit_options, void* jit_values, unsigned jit_count,
                      void* options, void* values, unsigned count) {
    (void)code, (void)jit_options, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
    *library = &object;
    return SUCCESS;
}

int cuLibraryLoadFromFile(void** library, const char* file, void* jit_options, void* jit_values, unsigned jit_count,
                          void* options, void* values, unsigned count) {
    (void)file, (void)jit_options, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
    *library = &object;
    return SUCCESS;
}

int cuLibraryGetKernel(void** kernel, void* library, const char* name) {
    (void)library, (void)name;
    *kernel = &object;
    return SUCCESS;
}

int cuLibraryUnload(void* library) {
    (void)library;
    return SUCCESS;
}

int cuKernelSetAttribute(int attribute, int value, void* kernel, int device) {
    (void)attribute, (void)value, (void)kernel, (void)device;
    return SUCCESS;
}

int cuKernelGetAttribute(int* value, int attribute, void* kernel, int device) {
    (void)attribute, (void)kernel, (void)device;
    *value = 0;
    return SUCCESS;
}
