// Functions that a CUDA kernel calls too are marked with this. Other compilers do not see it.
#pragma once

#if defined(__CUDACC__)
#define LONGHAUL_HOST_DEVICE __host__ __device__
#else
#define LONGHAUL_HOST_DEVICE
#endif
