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

# By the name that the loader looks for, wherever this system keeps libraries.
file(GLOB_RECURSE library ${WORK}/prefix/libkvc-runtime.so)
file(CREATE_LINK "${library}" ${WORK}/libkvc-runtime.so SYMBOLIC)
