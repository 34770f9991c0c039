# What each part needs, asked for once, with the command that mends a miss.

find_package(PkgConfig REQUIRED)

# Stops the configuration with what was looked for and the one command that installs it.
function(longhaul_need_package package debian_name)
  find_package(${package} ${ARGN} QUIET)
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR
      "Longhaul needs ${package} and CMake found no package of that name in CMAKE_PREFIX_PATH "
      "('${CMAKE_PREFIX_PATH}') or the system folders.\n"
      "On Debian 12 install it with:  apt-get install ${debian_name}\n"
      "or install everything with:    scripts/setup.sh")
  endif()
  set_property(GLOBAL APPEND PROPERTY LONGHAUL_PACKAGES ${package})
endfunction()

function(longhaul_need_pkg_config target module debian_name)
  pkg_check_modules(${target} IMPORTED_TARGET GLOBAL QUIET ${module})
  if(NOT ${target}_FOUND)
    message(FATAL_ERROR
      "Longhaul needs ${module} and pkg-config knows no module of that name.\n"
      "On Debian 12 install it with:  apt-get install ${debian_name}\n"
      "or install everything with:    scripts/setup.sh")
  endif()
endfunction()

longhaul_need_package(spdlog libspdlog-dev)
longhaul_need_package(nlohmann_json nlohmann-json3-dev)
longhaul_need_pkg_config(ZSTD libzstd libzstd-dev)
longhaul_need_pkg_config(XXHASH libxxhash libxxhash-dev)

if(LONGHAUL_CONTROL)
  find_package(GRPC MODULE REQUIRED COMPONENTS compiler)
  longhaul_need_pkg_config(SQLITE3 sqlite3 libsqlite3-dev)
endif()
if(LONGHAUL_CONTROL OR LONGHAUL_TOOLS)
  longhaul_need_package(CLI11 libcli11-dev)
endif()
if(LONGHAUL_TORCH)
  find_package(Libtorch MODULE REQUIRED COMPONENTS backends)
endif()
if(LONGHAUL_TESTS)
  longhaul_need_package(GTest "libgtest-dev libgmock-dev")
endif()

# libbacktrace comes with GCC, its header among the compiler's own, which no other compiler reads: a copy of
# that one alone. The library is linked by its name.
execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=include/backtrace.h
  OUTPUT_VARIABLE longhaul_backtrace_header OUTPUT_STRIP_TRAILING_WHITESPACE)
if(NOT EXISTS "${longhaul_backtrace_header}")
  file(GLOB longhaul_backtrace_header
    /usr/lib/gcc/${CMAKE_LIBRARY_ARCHITECTURE}/*/include/backtrace.h)
  list(POP_BACK longhaul_backtrace_header longhaul_backtrace_header)
endif()
if(NOT EXISTS "${longhaul_backtrace_header}")
  unset(longhaul_backtrace_header)
  find_file(longhaul_backtrace_header backtrace.h NO_CACHE)  # in CMAKE_PREFIX_PATH
endif()
if(NOT EXISTS "${longhaul_backtrace_header}")
  message(FATAL_ERROR
    "Longhaul needs libbacktrace, which comes with GCC, and ${CMAKE_CXX_COMPILER} has no "
    "include/backtrace.h.\n"
    "On Debian 12 install it with:  apt-get install g++\n"
    "or install everything with:    scripts/setup.sh")
endif()
set(LIBBACKTRACE_INCLUDE_DIR ${PROJECT_BINARY_DIR}/libbacktrace)
configure_file(${longhaul_backtrace_header} ${LIBBACKTRACE_INCLUDE_DIR}/backtrace.h COPYONLY)
