# Install and export, so that a user's project does find_package(Longhaul) and links
# longhaul::longhaul (tests/install is such a project).
include(CMakePackageConfigHelpers)

set(LONGHAUL_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Longhaul)
get_property(LONGHAUL_FLOORS GLOBAL PROPERTY LONGHAUL_FLOORS)
install(TARGETS ${LONGHAUL_FLOORS} EXPORT LonghaulTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT LonghaulTargets NAMESPACE longhaul:: DESTINATION ${LONGHAUL_CMAKE_DIR})
install(DIRECTORY include/longhaul DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
configure_package_config_file(cmake/LonghaulConfig.cmake.in ${PROJECT_BINARY_DIR}/LonghaulConfig.cmake
  INSTALL_DESTINATION ${LONGHAUL_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/LonghaulConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/LonghaulConfig.cmake ${PROJECT_BINARY_DIR}/LonghaulConfigVersion.cmake
  cmake/FindLibtorch.cmake cmake/FindGRPC.cmake
  DESTINATION ${LONGHAUL_CMAKE_DIR})
