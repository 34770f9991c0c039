# Install and export, so that a user's project does find_package(Longhaul) and links
# longhaul::longhaul (tests/install is such a project).
include(CMakePackageConfigHelpers)

set(LONGHAUL_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Longhaul)
get_property(exported GLOBAL PROPERTY LONGHAUL_EXPORTED)
install(TARGETS ${exported} EXPORT LonghaulTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT LonghaulTargets NAMESPACE longhaul:: DESTINATION ${LONGHAUL_CMAKE_DIR})
# Of the rooms that are there; the umbrella header wants all of core.
get_property(rooms GLOBAL PROPERTY LONGHAUL_ROOMS)
foreach(room IN LISTS rooms)
  file(GLOB headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/longhaul/${room}/*.h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/longhaul/${room})
endforeach()
if("runtime" IN_LIST rooms)
  install(FILES include/longhaul/longhaul.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/longhaul)
endif()
configure_package_config_file(cmake/LonghaulConfig.cmake.in ${PROJECT_BINARY_DIR}/LonghaulConfig.cmake
  INSTALL_DESTINATION ${LONGHAUL_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/LonghaulConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/LonghaulConfig.cmake ${PROJECT_BINARY_DIR}/LonghaulConfigVersion.cmake
  cmake/FindLibtorch.cmake cmake/FindGRPC.cmake
  DESTINATION ${LONGHAUL_CMAKE_DIR})
