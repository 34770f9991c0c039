# Finds libtorch without its own TorchConfig.cmake, which demands a CUDA toolkit even for CPU work.
#
# Looked for, in this order, a folder that holds include/torch and lib/libtorch_cpu.so:
#   1. the user's Torch_DIR, LIBTORCH (variable or environment), CMAKE_PREFIX_PATH;
#   2. the torch package of the `python3` on PATH;
#   3. the wheel that scripts/setup.sh puts into .deps/libtorch/torch of the checkout.
# Defines Libtorch::Libtorch, Libtorch_ROOT_DIR, Libtorch_VERSION, Libtorch_FOUND. With the component `backends`
# also what files that include the process groups of Gloo and (LONGHAUL_NCCL) NCCL need: who only links an
# installed Longhaul includes neither.

set(_libtorch_oldest 2.9)
set(_libtorch_places "")

function(_libtorch_consider place why)
  if(place)
    get_filename_component(place "${place}" ABSOLUTE)
    string(REGEX REPLACE "/share/cmake/Torch/?$" "" place "${place}")
    list(APPEND _libtorch_places "${place}  (${why})")
    set(_libtorch_places "${_libtorch_places}" PARENT_SCOPE)
    if(NOT Libtorch_ROOT_DIR AND EXISTS "${place}/lib/libtorch_cpu.so"
       AND EXISTS "${place}/include/torch/csrc/api/include/torch/torch.h")
      set(Libtorch_ROOT_DIR "${place}" PARENT_SCOPE)
    endif()
  endif()
endfunction()

unset(Libtorch_ROOT_DIR CACHE)
foreach(place IN ITEMS "${Torch_DIR}" "${LIBTORCH}" "$ENV{Torch_DIR}" "$ENV{LIBTORCH}")
  _libtorch_consider("${place}" "named by Torch_DIR or LIBTORCH")
endforeach()
# Somebody who names a libtorch wants that one: falling back to another would be a surprise.
if(_libtorch_places AND NOT Libtorch_ROOT_DIR)
  list(JOIN _libtorch_places "\n  " _libtorch_places)
  message(FATAL_ERROR
    "Torch_DIR or LIBTORCH names a folder that holds no libtorch (include/torch and "
    "lib/libtorch_cpu.so):\n  ${_libtorch_places}\n"
    "Mend the path, or unset both and run:  scripts/setup.sh")
endif()
string(REPLACE ":" ";" _libtorch_env_prefixes "$ENV{CMAKE_PREFIX_PATH}")
foreach(place IN LISTS CMAKE_PREFIX_PATH _libtorch_env_prefixes)
  _libtorch_consider("${place}" "CMAKE_PREFIX_PATH")
endforeach()
if(NOT Libtorch_ROOT_DIR)
  find_program(LONGHAUL_PYTHON3 python3)
  if(LONGHAUL_PYTHON3)
    execute_process(
      COMMAND ${LONGHAUL_PYTHON3} -c "import torch, os; print(os.path.dirname(torch.__file__))"
      OUTPUT_VARIABLE _libtorch_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(_libtorch_python)
      _libtorch_consider("${_libtorch_python}" "python3's torch package")
    else()
      list(APPEND _libtorch_places "${LONGHAUL_PYTHON3} -c 'import torch'  (no such package there)")
    endif()
  endif()
endif()
_libtorch_consider("${CMAKE_CURRENT_LIST_DIR}/../.deps/libtorch/torch" "scripts/setup.sh's wheel")

if(NOT Libtorch_ROOT_DIR)
  list(JOIN _libtorch_places "\n  " _libtorch_places)
  message(FATAL_ERROR
    "Longhaul needs libtorch and found none. Looked for include/torch and lib/libtorch_cpu.so in:\n"
    "  ${_libtorch_places}\n"
    "Mend it with:  scripts/setup.sh   (fetches the pinned wheel), or pass -DLIBTORCH=/path/to/libtorch")
endif()

set(Libtorch_ROOT_DIR "${Libtorch_ROOT_DIR}" CACHE INTERNAL "The libtorch in use")

# The numbers stand in the first of these that exists: from 2.10 on the other only includes it.
foreach(header IN ITEMS headeronly/version.h csrc/api/include/torch/version.h)
  set(_libtorch_version_file ${Libtorch_ROOT_DIR}/include/torch/${header})
  if(EXISTS ${_libtorch_version_file})
    break()
  endif()
endforeach()
set(_libtorch_version "")
if(EXISTS ${_libtorch_version_file})
  file(STRINGS ${_libtorch_version_file} _libtorch_version
    REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
endif()
list(TRANSFORM _libtorch_version REPLACE ".* ([0-9]+).*" "\\1")
list(JOIN _libtorch_version "." Libtorch_VERSION)
if(NOT Libtorch_VERSION OR Libtorch_VERSION VERSION_LESS _libtorch_oldest)
  message(FATAL_ERROR
    "Longhaul needs libtorch >= ${_libtorch_oldest}; ${Libtorch_ROOT_DIR} is "
    "'${Libtorch_VERSION}' (from ${_libtorch_version_file}).\n"
    "Mend it with:  scripts/setup.sh --libtorch wheel   (fetches the pinned wheel)")
endif()

# The old std::string ABI of wheels before 2.6 would fail at link time with a thousand lines.
if(EXISTS "${Libtorch_ROOT_DIR}/share/cmake/Torch/TorchConfig.cmake")
  file(STRINGS "${Libtorch_ROOT_DIR}/share/cmake/Torch/TorchConfig.cmake" _libtorch_old_abi
    REGEX "GLIBCXX_USE_CXX11_ABI=0")
  if(_libtorch_old_abi)
    message(FATAL_ERROR
      "${Libtorch_ROOT_DIR} was built with the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0); Longhaul and "
      "Debian's libraries use the new one.\nMend it with:  scripts/setup.sh --libtorch wheel")
  endif()
endif()

set(_libtorch_backends NO)
if("backends" IN_LIST Libtorch_FIND_COMPONENTS)
  set(_libtorch_backends YES)
  find_path(Libtorch_GLOO_INCLUDE_DIR gloo/context.h)
  if(NOT Libtorch_GLOO_INCLUDE_DIR)
    message(FATAL_ERROR
      "Longhaul needs Gloo's headers (libtorch holds the library but not the headers).\n"
      "On Debian 12 install them with:  apt-get install libgloo-dev")
  endif()
  set(Libtorch_backends_FOUND ON)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_ROOT_DIR VERSION_VAR Libtorch_VERSION HANDLE_COMPONENTS)

if(NOT TARGET Libtorch::Libtorch)
  set(_libtorch_libraries ${Libtorch_ROOT_DIR}/lib/libtorch_cpu.so ${Libtorch_ROOT_DIR}/lib/libc10.so)
  set(_libtorch_definitions "")
  set(_libtorch_includes
    ${Libtorch_ROOT_DIR}/include ${Libtorch_ROOT_DIR}/include/torch/csrc/api/include)
  if(_libtorch_backends)
    list(APPEND _libtorch_definitions USE_C10D_GLOO)
    list(APPEND _libtorch_includes ${Libtorch_GLOO_INCLUDE_DIR})
  endif()
  set(_libtorch_link_options -Wl,-rpath,${Libtorch_ROOT_DIR}/lib)
  if(LONGHAUL_NCCL)
    if(NOT EXISTS ${Libtorch_ROOT_DIR}/lib/libtorch_cuda.so)
      message(FATAL_ERROR "LONGHAUL_NCCL=ON needs ${Libtorch_ROOT_DIR}/lib/libtorch_cuda.so: a libtorch with CUDA.")
    endif()
    list(PREPEND _libtorch_libraries
      -Wl,--no-as-needed ${Libtorch_ROOT_DIR}/lib/libtorch_cuda.so
      ${Libtorch_ROOT_DIR}/lib/libc10_cuda.so -Wl,--as-needed)
    # The wheel's CUDA libraries load their own dependencies at run time, through their own rpath.
    list(APPEND _libtorch_link_options -Wl,--unresolved-symbols=ignore-in-shared-libs)
  endif()
  if(LONGHAUL_NCCL AND _libtorch_backends)
    # A toolkit, or else what torch's own dependencies bring along.
    set(_libtorch_nvidia ${Libtorch_ROOT_DIR}/../nvidia)
    find_path(Libtorch_CUDA_INCLUDE_DIR cublas_v2.h
      HINTS ENV CUDA_HOME PATHS /usr/local/cuda ${_libtorch_nvidia}/cu13 PATH_SUFFIXES include)
    find_path(Libtorch_NCCL_INCLUDE_DIR nccl.h
      HINTS ${Libtorch_CUDA_INCLUDE_DIR} ${_libtorch_nvidia}/nccl/include)
    if(NOT Libtorch_CUDA_INCLUDE_DIR OR NOT Libtorch_NCCL_INCLUDE_DIR)
      message(FATAL_ERROR
        "LONGHAUL_NCCL=ON needs cublas_v2.h (found: ${Libtorch_CUDA_INCLUDE_DIR}) and nccl.h "
        "(found: ${Libtorch_NCCL_INCLUDE_DIR}).\n"
        "Install a CUDA toolkit with NCCL, or configure with -DLONGHAUL_NCCL=OFF.")
    endif()
    list(APPEND _libtorch_definitions USE_C10D_NCCL)
    list(APPEND _libtorch_includes ${Libtorch_CUDA_INCLUDE_DIR} ${Libtorch_NCCL_INCLUDE_DIR})
  endif()
  add_library(Libtorch::Libtorch INTERFACE IMPORTED GLOBAL)
  set_target_properties(Libtorch::Libtorch PROPERTIES
    INTERFACE_LINK_LIBRARIES "${_libtorch_libraries}"
    INTERFACE_INCLUDE_DIRECTORIES "${_libtorch_includes}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${_libtorch_includes}"
    INTERFACE_LINK_OPTIONS "${_libtorch_link_options}"
    INTERFACE_COMPILE_DEFINITIONS "${_libtorch_definitions}")
endif()
