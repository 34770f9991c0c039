# LONGHAUL_CUDA: the kernels of the room codec (src/codec/cuda). On by default where a CUDA compiler works;
# nothing needs them.

set(longhaul_cuda_default OFF)
if(NOT DEFINED LONGHAUL_CUDA)
  include(CheckLanguage)
  set(longhaul_log_level ${CMAKE_MESSAGE_LOG_LEVEL})
  set(CMAKE_MESSAGE_LOG_LEVEL NOTICE)
  check_language(CUDA)
  set(CMAKE_MESSAGE_LOG_LEVEL ${longhaul_log_level})
  if(CMAKE_CUDA_COMPILER)
    set(longhaul_cuda_default ON)
  endif()
endif()
option(LONGHAUL_CUDA "Build the codecs' CUDA kernels (needs nvcc 12 or later)" ${longhaul_cuda_default})
if(NOT LONGHAUL_CUDA)
  return()
endif()

# A100, H100; newer devices translate the second when they load it.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
enable_language(CUDA)
if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12)
  if(NOT longhaul_cuda_default)
    message(FATAL_ERROR
      "LONGHAUL_CUDA=ON needs nvcc 12 or later; ${CMAKE_CUDA_COMPILER} is ${CMAKE_CUDA_COMPILER_VERSION}.\n"
      "Name another with -DCMAKE_CUDA_COMPILER=PATH, or configure with -DLONGHAUL_CUDA=OFF.")
  endif()
  set(LONGHAUL_CUDA OFF CACHE BOOL "" FORCE)
endif()

# CMake 3.25.1 does not know that nvcc has it.
if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()

# longhaul_cuda(TARGET): how device code must be compiled.
function(longhaul_cuda target)
  # A product and a sum stay two roundings: bytes must not depend on the processor. The codecs' constexpr
  # functions run on the device as they are.
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr -fmad=false -Xcompiler=-ffp-contract=off>)
  # clang-tidy does not know nvcc's flags.
  set_target_properties(${target} PROPERTIES EXPORT_COMPILE_COMMANDS OFF)
endfunction()
