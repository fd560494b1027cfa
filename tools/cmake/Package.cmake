# What an installation holds besides libraries, headers and programs: the CMake
# package, pkg-config files, the spec language, and the documents at the root.
# Two install components: `runtime` needs nothing but a C library, `compiler`
# (with the kvc tool) needs LLVM's shared libraries.
include(CMakePackageConfigHelpers)
set(kvc_package ${CMAKE_INSTALL_LIBDIR}/cmake/kvc)
configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/kvcConfig.cmake.in kvcConfig.cmake
  INSTALL_DESTINATION ${kvc_package}
  NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the ABI.
write_basic_package_version_file(kvcConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
# A relative prefix lets an installed tree be moved.
file(RELATIVE_PATH kvc_pc_prefix
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})

set(kvc_components runtime)
if(KVC_BUILD_COMPILER)
  list(APPEND kvc_components compiler)
endif()
foreach(component ${kvc_components})
  install(EXPORT kvc-${component}-targets NAMESPACE kvc:: DESTINATION ${kvc_package}
    COMPONENT ${component})
  configure_file(${CMAKE_CURRENT_LIST_DIR}/kvc-${component}.pc.in
    kvc-${component}.pc @ONLY)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/kvc-${component}.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT ${component})
  # Either component alone is a package.
  install(FILES
    ${CMAKE_CURRENT_BINARY_DIR}/kvcConfig.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/kvcConfigVersion.cmake
    DESTINATION ${kvc_package} COMPONENT ${component})
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR}
    COMPONENT ${component})
endforeach()

if(NOT KVC_BUILD_COMPILER)
  return()
endif()

# The page of the language links to that of its promises, which is elsewhere in
# the tree and beside it here.
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS specs/README.md)
file(READ specs/README.md kvc_page)
string(REPLACE "../lib/driver/Verify/README.md" "results.md" kvc_page "${kvc_page}")
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/share/README.md "${kvc_page}")
install(FILES lib/driver/Verify/README.md RENAME results.md
  DESTINATION ${CMAKE_INSTALL_DATADIR}/kvc COMPONENT compiler)
# Examples name their schema as ../kvc.schema.json.
install(FILES specs/kvc.schema.json ${CMAKE_CURRENT_BINARY_DIR}/share/README.md
  DESTINATION ${CMAKE_INSTALL_DATADIR}/kvc COMPONENT compiler)
install(DIRECTORY specs/examples specs/presets
  DESTINATION ${CMAKE_INSTALL_DATADIR}/kvc
  COMPONENT compiler FILES_MATCHING PATTERN "*.json" PATTERN "README.md")
