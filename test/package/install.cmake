# Installs kvc into an empty folder, compiles a spec with the installed tool, and
# configures and builds a project of somebody else against it.
#
#   cmake -DBUILD=... -DWORK=... -DSOURCE=... -DC_COMPILER=... -P install.cmake
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
run(${WORK}/prefix/bin/kvc compile ${SOURCE}/consumer.json
    -o ${WORK}/consumer.kvca)
run(${CMAKE_COMMAND} -S ${SOURCE}/consumer -B ${WORK}/consumer -G Ninja
    -DCMAKE_C_COMPILER=${C_COMPILER} -DCMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/consumer)

# What is installed beside libraries is found where systems look for it.
foreach(file share/kvc/kvc.schema.json share/kvc/examples/smollm2.json
    share/kvc/presets/mxfp4.json
    share/doc/kvc/LICENSE share/man/man1/kvc.1
    share/bash-completion/completions/kvc)
  if(NOT EXISTS ${WORK}/prefix/${file})
    message(FATAL_ERROR "not installed: ${file}")
  endif()
endforeach()
run(${WORK}/prefix/bin/kvc check ${WORK}/prefix/share/kvc/examples/smollm2.json)
# A page links to nothing that was left behind. Brackets are more than letters in
# a list.
file(READ ${WORK}/prefix/share/kvc/README.md page)
string(REPLACE "](" "<link>" page "${page}")
string(REGEX MATCHALL "<link>[^):#]+[)#]" links "${page}")
if(NOT links)
  message(FATAL_ERROR "no links in share/kvc/README.md")
endif()
foreach(link IN LISTS links)
  string(REGEX REPLACE "<link>|[)#]" "" link "${link}")
  if(NOT EXISTS "${WORK}/prefix/share/kvc/${link}")
    message(FATAL_ERROR "share/kvc/README.md links to ${link}, which is not installed")
  endif()
endforeach()
run(bash ${SOURCE}/completion.sh ${WORK}/prefix/share/bash-completion/completions/kvc)

# pkg-config, in a prefix that was moved after the installation.
file(RENAME ${WORK}/prefix ${WORK}/moved)
file(GLOB_RECURSE pc ${WORK}/moved/kvc-compiler.pc)
get_filename_component(pc ${pc} DIRECTORY)
foreach(program main jit)
  set(package kvc-runtime)
  if(program STREQUAL jit)
    list(APPEND package kvc-compiler)
  endif()
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${pc}
            pkg-config --cflags --libs ${package}
    OUTPUT_VARIABLE flags OUTPUT_STRIP_TRAILING_WHITESPACE
    COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${C_COMPILER} -std=c11 ${SOURCE}/consumer/${program}.c ${flags} -lm
      -o ${WORK}/${program}-by-pkg-config)
endforeach()
file(RENAME ${WORK}/moved ${WORK}/prefix)

# A machine that only runs artifacts installs the runtime alone: it is found,
# and a request for the compiler is refused rather than met by half, with what
# would add it.
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/runtime-only
    --component runtime)
foreach(component runtime compiler compilr)
  file(WRITE ${WORK}/find-${component}/CMakeLists.txt
    "cmake_minimum_required(VERSION 3.25)\nproject(find LANGUAGES C)\n"
    "find_package(kvc CONFIG REQUIRED COMPONENTS ${component})\n")
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${WORK}/find-${component}
            -B ${WORK}/find-${component}/build -G Ninja
            -DCMAKE_C_COMPILER=${C_COMPILER}
            -DCMAKE_PREFIX_PATH=${WORK}/runtime-only
    RESULT_VARIABLE result ERROR_VARIABLE errors)
  set(found TRUE)
  if(NOT result EQUAL 0)
    set(found FALSE)
  endif()
  if((component STREQUAL runtime AND NOT found)
      OR (component MATCHES compil AND found))
    message(FATAL_ERROR "find_package of ${component} in an installation of "
      "the runtime alone: found is ${found}: ${errors}")
  endif()
  # CMake breaks lines where it likes to.
  string(REGEX REPLACE "[ \n]+" " " errors "${errors}")
  if(component STREQUAL compiler)
    set(reason "Component `compiler` is not installed in ${WORK}/runtime-only. In a tree where kvc was built: cmake --install build --prefix ${WORK}/runtime-only --component compiler")
  elseif(component STREQUAL compilr)
    set(reason "There is no component `compilr`: use runtime or compiler")
  else()
    set(reason "")
  endif()
  string(FIND "${errors}" "${reason}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "expected \"${reason}\" in: ${errors}")
  endif()
endforeach()

# By the name that the loader looks for, wherever this system keeps libraries.
file(GLOB_RECURSE library ${WORK}/prefix/libkvc-runtime.so)
file(CREATE_LINK "${library}" ${WORK}/libkvc-runtime.so SYMBOLIC)
