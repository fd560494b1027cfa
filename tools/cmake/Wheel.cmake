# The compiler and the tool with LLVM inside, for wheels: its shared libraries
# are five times as large, and link ICU, Z3 and others that kvc never calls. Made
# by the target `wheel` only, in wheel/, of the objects that are there anyway.
file(GLOB kvc_llvm ${LLVM_LIBRARY_DIR}/libMLIR*.a ${LLVM_LIBRARY_DIR}/libLLVM*.a)
if(NOT kvc_llvm)
  return() # an LLVM without static libraries
endif()
find_library(KVC_ZLIB NAMES z libz.so.1 REQUIRED)
find_library(KVC_ZSTD NAMES zstd libzstd.so.1 REQUIRED)

set(kvc_parts KvcVerify KvcExplain KvcReference KvcCompiler KvcJit KvcImport
  KvcCpu KvcNvptx KvcCodegenCommon KvcPasses KvcDialect KvcSpec KvcSupport
  KvcArtifact KvcSimt KvcAmx)
list(TRANSFORM kvc_parts REPLACE "(.+)" "$<TARGET_FILE:\\1>" OUTPUT_VARIABLE kvc_files)

# The files rather than the targets, which would bring the shared LLVM.
function(kvc_make_for_wheel name)
  set_target_properties(${name} PROPERTIES
    EXCLUDE_FROM_ALL ON
    LINKER_LANGUAGE CXX
    SKIP_BUILD_RPATH ON
    LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/wheel/lib
    RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/wheel/bin
    LINK_DEPENDS "${kvc_files}")
  add_dependencies(${name} ${kvc_parts})
  target_link_options(${name} PRIVATE -Wl,--gc-sections -Wl,--as-needed -s)
  target_link_libraries(${name} PRIVATE -Wl,--start-group ${kvc_files} ${kvc_llvm}
    -Wl,--end-group ${KVC_ZLIB} ${KVC_ZSTD} Threads::Threads ${CMAKE_DL_LIBS})
endfunction()

add_library(KvcCompilerForWheel SHARED $<TARGET_OBJECTS:KvcCompilerLibrary>)
set_target_properties(KvcCompilerForWheel PROPERTIES OUTPUT_NAME kvc-compiler)
target_link_options(KvcCompilerForWheel PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/lib/driver/CAPI/exports.map)
kvc_make_for_wheel(KvcCompilerForWheel)
add_executable(KvcForWheel $<TARGET_OBJECTS:kvc> $<TARGET_OBJECTS:KvcRuntimeObjects>)
set_target_properties(KvcForWheel PROPERTIES OUTPUT_NAME kvc)
kvc_make_for_wheel(KvcForWheel)
add_custom_target(wheel DEPENDS KvcCompilerForWheel KvcForWheel)
