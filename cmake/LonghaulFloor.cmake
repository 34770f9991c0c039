# One helper per kind of target. Sources are listed by hand: a new file is a decision.

# longhaul_floor(NAME SOURCES a.cc... [TORCH | GRPC] [INTERNAL] [FLOORS base wire...] [LIBRARIES x...])
# A static library longhaul_NAME, exported as longhaul::NAME unless it is INTERNAL: has no public header.
# LIBRARIES are private to it. TORCH links libtorch; TORCH and GRPC say which large headers its files include,
# so that those are compiled once.
function(longhaul_floor name)
  cmake_parse_arguments(arg "TORCH;GRPC;INTERNAL" "" "SOURCES;FLOORS;LIBRARIES" ${ARGN})
  add_library(longhaul_${name} STATIC ${arg_SOURCES})
  add_library(longhaul::${name} ALIAS longhaul_${name})
  set_target_properties(longhaul_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(longhaul_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_include_directories(longhaul_${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_compile_features(longhaul_${name} PUBLIC cxx_std_20)
  list(TRANSFORM arg_FLOORS PREPEND longhaul_)
  target_link_libraries(longhaul_${name}
    PUBLIC ${arg_FLOORS} Threads::Threads
    PRIVATE ${arg_LIBRARIES} $<BUILD_INTERFACE:longhaul_warnings>)
  if(arg_TORCH)
    target_link_libraries(longhaul_${name} PUBLIC Libtorch::Libtorch)
    longhaul_precompile_torch(longhaul_${name})
  elseif(arg_GRPC)
    longhaul_precompile_grpc(longhaul_${name})
  endif()
  if(arg_TORCH OR arg_GRPC)
    longhaul_compile_together(longhaul_${name})
  endif()
  if(NOT arg_INTERNAL)
    set_property(GLOBAL APPEND PROPERTY LONGHAUL_FLOORS longhaul_${name})
  endif()
endfunction()

# With LONGHAUL_UNITY the files of TARGET are compiled several at a time: the first build takes about half as
# long, one that follows a change longer. Names at the top of a file must be its floor's alone then
# (lint.unity). For targets whose many small files spend their time in large headers.
function(longhaul_compile_together target)
  if(LONGHAUL_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
    # A type of an unnamed namespace in a class is wrong in a header, which each file then looks like.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# Nothing in TARGET takes time but compiling it: what reads flags and writes tables.
function(longhaul_compile_lightly target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# longhaul_program(NAME SOURCES a.cc... [TORCH | GRPC] [FLOORS ...] [LIBRARIES ...])
function(longhaul_program name)
  cmake_parse_arguments(arg "TORCH;GRPC" "" "SOURCES;FLOORS;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  list(TRANSFORM arg_FLOORS PREPEND longhaul_)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE ${arg_FLOORS} ${arg_LIBRARIES} longhaul_warnings)
  if(arg_TORCH)
    target_link_libraries(${name} PRIVATE Libtorch::Libtorch)
    longhaul_precompile_torch(${name})
  elseif(arg_GRPC)
    longhaul_precompile_grpc(${name})
  endif()
endfunction()

# longhaul_precompile(TARGET WHAT HEADERS... LIBRARIES...): TARGET uses the precompiled headers WHAT,
# which all targets share. Files still include what they use: lint.tidy compiles them without.
function(longhaul_precompile target what)
  cmake_parse_arguments(arg "" "" "HEADERS;LIBRARIES" ${ARGN})
  set(shared longhaul_${what}_pch)
  if(NOT TARGET ${shared})
    file(WRITE ${PROJECT_BINARY_DIR}/${what}_pch.cc "")
    add_library(${shared} OBJECT ${PROJECT_BINARY_DIR}/${what}_pch.cc)
    target_link_libraries(${shared} PRIVATE ${arg_LIBRARIES} Threads::Threads longhaul_warnings)
    target_precompile_headers(${shared} PRIVATE ${arg_HEADERS})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${shared})
endfunction()

# Reads libtorch's headers once instead of in every file. What they leave to instantiate is done anew in each.
function(longhaul_precompile_torch target)
  longhaul_precompile(${target} torch HEADERS <torch/torch.h> LIBRARIES Libtorch::Libtorch)
endfunction()

# About half the time of a file that includes them.
function(longhaul_precompile_grpc target)
  longhaul_precompile(${target} grpc LIBRARIES longhaul_proto
    HEADERS <grpcpp/grpcpp.h> <longhaul/v1/agent_service.grpc.pb.h> <longhaul/v1/job_service.grpc.pb.h>
      <longhaul/v1/ledger.pb.h> <longhaul/v1/worker_service.grpc.pb.h>
      <algorithm> <deque> <filesystem> <fstream> <functional> <map> <memory> <optional> <string> <vector>)
  # From a precompiled <string>, g++ 12 warns of short strings' buffers (the bug of -Wno-restrict again).
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-array-bounds>)
endfunction()

# longhaul::longhaul, what users link: the training library. The control plane comes with it as far as
# `runtime` needs it, to link only: its compile flags (gRPC's) are not for users' files.
function(longhaul_umbrella)
  add_library(longhaul INTERFACE)
  add_library(longhaul::longhaul ALIAS longhaul)
  foreach(floor IN ITEMS base wire membership codec collectives ddp runtime)
    if(TARGET longhaul_${floor})
      target_link_libraries(longhaul INTERFACE longhaul_${floor})
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY LONGHAUL_FLOORS longhaul)
endfunction()
