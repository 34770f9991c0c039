# Compiler, linker and cache settings that every target shares.

# One setting for libraries and programs, so that they can share a precompiled header.
add_compile_options(-fPIC)

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(LONGHAUL_CCACHE ccache)
  if(LONGHAUL_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}  # a second clone, and a second build folder, find what the first compiled
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      ${LONGHAUL_CCACHE})
    # Lets ccache see what a precompiled header holds.
    add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
  endif()
endif()

# g++ looks through all that a large header made for garbage again and again and finds next to none. Below so many
# KiB it does not look: files that include torch compile faster, for about a tenth more memory.
add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:--param=ggc-min-heapsize=2097152>)

find_program(LONGHAUL_MOLD mold)
if(LONGHAUL_MOLD AND NOT CMAKE_LINKER_TYPE)
  add_link_options(-fuse-ld=mold)
endif()

add_library(longhaul_warnings INTERFACE)
target_compile_options(longhaul_warnings INTERFACE
  -Wall -Wextra
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety$<SEMICOLON>-Wno-missing-designated-field-initializers>
  # g++ 12 warns of overlapping copies in its own std::string (GCC bug 105651).
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
  # nvcc has a -Werror of its own.
  $<$<AND:$<BOOL:${LONGHAUL_WERROR}>,$<NOT:$<COMPILE_LANGUAGE:CUDA>>>:-Werror>
  $<$<AND:$<BOOL:${LONGHAUL_WERROR}>,$<COMPILE_LANGUAGE:CUDA>>:-Werror=all-warnings$<SEMICOLON>-Xcompiler=-Werror>)
