# Finds Debian's gRPC, which ships .pc files but no CMake package, and, with the component `compiler`, protoc
# with its gRPC plugin: who only links an installed Longhaul needs neither.
# Defines GRPC::grpc++, GRPC_FOUND; with the component also GRPC_PROTOC, GRPC_CPP_PLUGIN and longhaul_protos().

find_package(PkgConfig REQUIRED)
pkg_check_modules(PROTOBUF IMPORTED_TARGET GLOBAL QUIET protobuf)
# pkg_check_modules() asks twelve times, and pkg-config takes 1.5 s for each answer: gRPC names a hundred modules of
# Abseil. Three questions say all that is needed.
function(_grpc_ask out)
  execute_process(COMMAND ${PKG_CONFIG_EXECUTABLE} ${ARGN} grpc++
    OUTPUT_VARIABLE answer OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(failed)
    set(answer "")
  endif()
  separate_arguments(answer UNIX_COMMAND "${answer}")
  set(${out} "${answer}" CACHE INTERNAL "pkg-config ${ARGN} grpc++")
endfunction()
if(NOT GRPCPP_VERSION)
  _grpc_ask(GRPCPP_VERSION --modversion)
  _grpc_ask(GRPCPP_CFLAGS --cflags)
  _grpc_ask(GRPCPP_LIBS --libs)
endif()
set(_grpc_required GRPCPP_VERSION PROTOBUF_FOUND)
if("compiler" IN_LIST GRPC_FIND_COMPONENTS)
  find_program(GRPC_PROTOC protoc)
  find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin)
  set(GRPC_compiler_FOUND ON)
  list(APPEND _grpc_required GRPC_PROTOC GRPC_CPP_PLUGIN)
endif()

foreach(what IN LISTS _grpc_required)
  if(NOT ${what})
    message(FATAL_ERROR
      "Longhaul's control plane needs gRPC (pkg-config grpc++: '${GRPCPP_VERSION}'), protobuf "
      "('${PROTOBUF_VERSION}') and, to build it, protoc (${GRPC_PROTOC}) and grpc_cpp_plugin (${GRPC_CPP_PLUGIN}).\n"
      "On Debian 12 install them with:  apt-get install libgrpc++-dev protobuf-compiler-grpc\n"
      "or build the library alone with:  -DLONGHAUL_CONTROL=OFF")
  endif()
endforeach()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(GRPC REQUIRED_VARS ${_grpc_required} VERSION_VAR GRPCPP_VERSION HANDLE_COMPONENTS)

if(NOT TARGET GRPC::grpc++)
  add_library(GRPC::grpc++ INTERFACE IMPORTED GLOBAL)
  set_target_properties(GRPC::grpc++ PROPERTIES
    INTERFACE_COMPILE_OPTIONS "${GRPCPP_CFLAGS}"
    INTERFACE_LINK_LIBRARIES "${GRPCPP_LIBS};PkgConfig::PROTOBUF")
endif()

# longhaul_protos(TARGET a.proto...): a static library of the generated code, included as
# "longhaul/v1/a.pb.h". The .proto files lie under PROJECT_SOURCE_DIR/proto; services are in a_service.proto.
function(longhaul_protos target)
  set(out ${PROJECT_BINARY_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  set(generated "")
  foreach(proto IN LISTS ARGN)
    string(REGEX REPLACE "\\.proto$" "" stem ${proto})
    set(files ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(service "")
    if(stem MATCHES "_service$")
      list(APPEND files ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      # Stubs that only pass calls on gain nothing from -O2.
      set_source_files_properties(${out}/${stem}.grpc.pb.cc
        PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Release>:-O1>)
      set(service --grpc_out=${out} --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN})
    endif()
    add_custom_command(OUTPUT ${files}
      COMMAND ${GRPC_PROTOC} -I ${PROJECT_SOURCE_DIR}/proto --cpp_out=${out} ${service}
        ${PROJECT_SOURCE_DIR}/proto/${proto}
      DEPENDS ${PROJECT_SOURCE_DIR}/proto/${proto} VERBATIM)
    list(APPEND generated ${files})
  endforeach()
  add_library(${target} STATIC ${generated})
  target_include_directories(${target} SYSTEM PUBLIC $<BUILD_INTERFACE:${out}>)
  target_link_libraries(${target} PUBLIC GRPC::grpc++)
  set_target_properties(${target} PROPERTIES EXPORT_NAME proto)
  set_property(GLOBAL APPEND PROPERTY LONGHAUL_EXPORTED ${target})
endfunction()
