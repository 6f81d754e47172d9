// A function for one thread of the processor or of a GPU.
#pragma once

#if defined(__CUDACC__)
#define FP16_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FP16_HOST_DEVICE inline
#endif
