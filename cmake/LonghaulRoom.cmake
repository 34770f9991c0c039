# One helper per kind of target. A room is its folder: what lies in it belongs to it.

# longhaul_room(NAME a/b [NEEDS x y/z...] [MAY_NEED v...] [USES TORCH CONTROL GRPC CUDA...] [INTERNAL])
# A room of the house: the folder src/a/b, or a/b beside it, with a CMakeLists.txt that fills it. It may include
# its own headers and those of the rooms it NEEDS, each named here, and MAY_NEED what it does without where that
# is left out. USES names what it takes beside rooms: TORCH, CONTROL (the control plane) or GRPC (the same, and
# gRPC's headers). INTERNAL: nothing outside this project links it.
#
# A room is left out by LONGHAUL_ROOM_A_B=OFF, or where something that it needs is; whatever does not need it is
# built all the same. tests/lint/floors_test.py holds every #include against these lines, and
# tools/house.py draws them.
function(longhaul_room)
  cmake_parse_arguments(room "INTERNAL" "NAME" "NEEDS;MAY_NEED;USES" ${ARGN})
  string(REPLACE / _ LONGHAUL_ROOM_ID ${room_NAME})
  string(TOUPPER LONGHAUL_ROOM_${LONGHAUL_ROOM_ID} option)
  option(${option} "Build ${room_NAME}" ON)
  mark_as_advanced(${option})
  get_property(built GLOBAL PROPERTY LONGHAUL_ROOMS)
  set(missing "")
  if(NOT ${option})
    list(APPEND missing ${option}=OFF)
  endif()
  foreach(what IN LISTS room_USES)
    string(REPLACE GRPC CONTROL switch ${what})
    if(NOT LONGHAUL_${switch})
      list(APPEND missing LONGHAUL_${switch}=OFF)
    endif()
  endforeach()
  foreach(need IN LISTS room_NEEDS)
    if(NOT need IN_LIST built)
      list(APPEND missing "no ${need}")
    endif()
  endforeach()
  if(missing)
    list(JOIN missing ", " missing)
    message(VERBOSE "Left out: ${room_NAME} (${missing})")
    return()
  endif()
  foreach(need IN LISTS room_MAY_NEED)
    if(need IN_LIST built)
      list(APPEND LONGHAUL_ROOM_EXTRAS ${need})
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY LONGHAUL_ROOMS ${room_NAME})
  set(LONGHAUL_ROOM_NEEDS ${room_NEEDS})
  set(LONGHAUL_ROOM_USES ${room_USES})
  set(LONGHAUL_ROOM_INTERNAL ${room_INTERNAL})
  if(EXISTS ${PROJECT_SOURCE_DIR}/src/${room_NAME})
    add_subdirectory(src/${room_NAME})
  else()
    add_subdirectory(${room_NAME})
  endif()
endfunction()

# longhaul_rooms_are_built(OUT room...): whether all of them are, for what stands on them and is no room.
function(longhaul_rooms_are_built out)
  get_property(built GLOBAL PROPERTY LONGHAUL_ROOMS)
  set(all YES)
  foreach(room IN LISTS ARGN)
    if(NOT room IN_LIST built)
      set(all NO)
    endif()
  endforeach()
  set(${out} ${all} PARENT_SCOPE)
endfunction()

# The targets of rooms by their names: control/worker is longhaul_control_worker.
function(longhaul_targets_of out)
  string(REPLACE / _ names "${ARGN}")
  list(TRANSFORM names PREPEND longhaul_)
  set(${out} ${names} PARENT_SCOPE)
endfunction()

# longhaul_library([HEADERS_ALONE] [LIBRARIES x...]): what the room of this folder is, a static library of all .cc
# files in it but main.cc, exported as longhaul::a_b unless the room is INTERNAL. LIBRARIES are private to it. Where
# the room uses TORCH or GRPC, their headers are compiled once for all of its files.
function(longhaul_library)
  cmake_parse_arguments(arg "HEADERS_ALONE" "" "LIBRARIES" ${ARGN})
  set(target longhaul_${LONGHAUL_ROOM_ID})
  longhaul_targets_of(needs ${LONGHAUL_ROOM_NEEDS})
  if(arg_HEADERS_ALONE)
    add_library(${target} INTERFACE)
    set(public INTERFACE)
  else()
    file(GLOB_RECURSE sources CONFIGURE_DEPENDS *.cc)
    list(FILTER sources EXCLUDE REGEX "/main\\.cc$")
    add_library(${target} STATIC ${sources})
    set(public PUBLIC)
  endif()
  add_library(longhaul::${LONGHAUL_ROOM_ID} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${LONGHAUL_ROOM_ID})
  target_include_directories(${target} ${public}
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${target} ${public} cxx_std_20)
  if(NOT LONGHAUL_ROOM_INTERNAL)
    # gRPC's compile flags are not for whoever links a trainer's library.
    set(hidden ${needs})
    list(FILTER hidden INCLUDE REGEX "^longhaul_(proto|rpc)$")
    list(REMOVE_ITEM needs ${hidden})
    set_property(GLOBAL APPEND PROPERTY LONGHAUL_EXPORTED ${target})
  endif()
  target_link_libraries(${target} ${public} ${needs} Threads::Threads)
  if(arg_HEADERS_ALONE)
    return()
  endif()
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE ${hidden} ${arg_LIBRARIES} $<BUILD_INTERFACE:longhaul_warnings>)
  foreach(extra IN LISTS LONGHAUL_ROOM_EXTRAS)
    longhaul_targets_of(extra_target ${extra})
    string(REPLACE / _ extra ${extra})
    string(TOUPPER LONGHAUL_WITH_${extra} extra)
    target_link_libraries(${target} PRIVATE ${extra_target})
    target_compile_definitions(${target} PRIVATE ${extra})
  endforeach()
  if("TORCH" IN_LIST LONGHAUL_ROOM_USES)
    target_link_libraries(${target} PUBLIC Libtorch::Libtorch)
    longhaul_precompile_torch(${target})
    longhaul_compile_together(${target})
  elseif("GRPC" IN_LIST LONGHAUL_ROOM_USES)
    target_link_libraries(${target} PRIVATE longhaul_proto)  # what is precompiled includes its headers
    longhaul_precompile_grpc(${target})
    longhaul_compile_together(${target})
  endif()
endfunction()

# With LONGHAUL_UNITY (the default, and how the tests are built) the files of TARGET are compiled LONGHAUL_UNITY_BATCH at
# a time: the first build takes about half as long, one that follows a change longer. Names at the top of a file must be
# its room's alone then. For targets whose many small files spend their time in large headers.
function(longhaul_compile_together target)
  if(LONGHAUL_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${LONGHAUL_UNITY_BATCH})
    # A type of an unnamed namespace in a class is wrong in a header, which each file then looks like.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# Nothing in TARGET takes time but compiling it: what reads flags and writes tables.
function(longhaul_compile_lightly target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# longhaul_program(NAME SOURCES a.cc... [TORCH | GRPC] [NEEDS room...] [LIBRARIES ...]): TORCH and GRPC say which
# large headers its files include.
function(longhaul_program name)
  cmake_parse_arguments(arg "TORCH;GRPC" "" "SOURCES;NEEDS;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  longhaul_targets_of(needs ${arg_NEEDS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE ${needs} ${arg_LIBRARIES} longhaul_warnings)
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
      <longhaul/v1/record.pb.h> <longhaul/v1/worker_service.grpc.pb.h>
      <algorithm> <deque> <filesystem> <fstream> <functional> <map> <memory> <optional> <string> <vector>)
  # From a precompiled <string>, g++ 12 warns of short strings' buffers (the bug of -Wno-restrict again).
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-array-bounds>)
endfunction()

# longhaul::longhaul, what users link: the training library. The control plane comes with it as far as `runtime`
# needs it, to link only.
function(longhaul_umbrella)
  add_library(longhaul INTERFACE)
  add_library(longhaul::longhaul ALIAS longhaul)
  get_property(exported GLOBAL PROPERTY LONGHAUL_EXPORTED)
  foreach(room IN ITEMS base wire agent codec collectives ddp runtime)
    if(longhaul_${room} IN_LIST exported)
      target_link_libraries(longhaul INTERFACE longhaul_${room})
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY LONGHAUL_EXPORTED longhaul)
endfunction()
