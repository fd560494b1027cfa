# How every target of kvc is compiled: warnings are errors, the root is the
# include directory, no exceptions (LLVM has none), but in what the runtime links.

set(KVC_WARNINGS -Wall -Wextra)
if(KVC_WERROR)
  list(APPEND KVC_WARNINGS -Werror)
endif()

function(kvc_compile_options name)
  target_compile_options(${name} PRIVATE ${KVC_WARNINGS})
  target_include_directories(${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  # Generated code is not ours to warn about.
  target_include_directories(${name} SYSTEM PUBLIC
    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>)
  if(KVC_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=${KVC_SANITIZE}
      -fno-omit-frame-pointer)
    target_link_options(${name} PUBLIC -fsanitize=${KVC_SANITIZE})
  endif()
endfunction()

# kvc_add_library(NAME sources... LINK libs...): no LLVM headers, no LLVM link.
function(kvc_add_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  kvc_compile_options(${name})
  target_compile_options(${name} PRIVATE -fno-exceptions)
  target_link_libraries(${name} PUBLIC ${ARG_LINK})
endfunction()

# The same for what the runtime links: memory that runs out is thrown as the
# standard library throws it, and becomes a status in the C ABI. A step cleans up
# by destructors alone.
function(kvc_add_runtime_library name)
  kvc_add_library(${name} ${ARGN})
  target_compile_options(${name} PRIVATE -fexceptions -ffunction-sections -fdata-sections)
endfunction()

if(NOT KVC_BUILD_COMPILER)
  return()
endif()

# LLVM's support library only (file access, hashing, caret printing).
function(kvc_add_llvm_library name)
  kvc_add_library(${name} ${ARGN})
  target_include_directories(${name} SYSTEM PUBLIC ${LLVM_INCLUDE_DIRS})
  target_link_libraries(${name} PUBLIC LLVM)
endfunction()

# One precompiled header serves every file that sees MLIR: a file then takes
# seconds rather than ten.
add_library(kvc-pch OBJECT tools/cmake/Pch.cpp)
kvc_compile_options(kvc-pch)
target_compile_options(kvc-pch PRIVATE -fno-exceptions)
target_include_directories(kvc-pch SYSTEM PUBLIC ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
target_precompile_headers(kvc-pch PRIVATE tools/cmake/Pch.h)

function(kvc_use_mlir name)
  target_include_directories(${name} SYSTEM PUBLIC ${LLVM_INCLUDE_DIRS} ${MLIR_INCLUDE_DIRS})
  target_precompile_headers(${name} REUSE_FROM kvc-pch)
  # One shared libMLIR; a static MLIR piece beside it would be a second copy of
  # every TypeID.
  target_link_libraries(${name} PUBLIC MLIR LLVM)
endfunction()

function(kvc_add_mlir_library name)
  cmake_parse_arguments(ARG "" "" "LINK;DEPENDS" ${ARGN})
  kvc_add_library(${name} ${ARG_UNPARSED_ARGUMENTS} LINK ${ARG_LINK})
  kvc_use_mlir(${name})
  if(ARG_DEPENDS)
    add_dependencies(${name} ${ARG_DEPENDS})
  endif()
endfunction()

function(kvc_add_tool name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  # -fPIC like the libraries: a precompiled header for them does not serve
  # -fPIE, CMake's choice for programs.
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
  target_compile_options(${name} PRIVATE -fPIC)
  kvc_compile_options(${name})
  target_compile_options(${name} PRIVATE -fno-exceptions)
  kvc_use_mlir(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK})
endfunction()
