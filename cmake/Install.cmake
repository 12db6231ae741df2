# Installs the headers, a CMake package with the source of zipml::kernels, and a pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS zipml EXPORT zipmlTargets)
install(DIRECTORY include/zipml DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
install(EXPORT zipmlTargets NAMESPACE zipml:: DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/zipml)

configure_package_config_file(cmake/zipmlConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/zipmlConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/zipml)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/zipmlConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/zipmlConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/zipmlConfigVersion.cmake
  cmake/zipmlKernels.cmake cmake/zipmlDistributed.cmake cmake/kernels.cpp cmake/library.cpp
  DESTINATION ${CMAKE_INSTALL_DATADIR}/cmake/zipml)

configure_file(cmake/zipml.pc.in ${CMAKE_CURRENT_BINARY_DIR}/zipml.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/zipml.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
