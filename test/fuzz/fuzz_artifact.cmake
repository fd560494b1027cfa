# All that reads an artifact: container, manifest, objects.
find_program(KVC_PYTHON3 python3 REQUIRED)
file(GLOB goldens CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/test/unit/Artifact/golden-3.*.kvca)
set(artifact_seeds)
foreach(golden ${goldens})
  get_filename_component(stem ${golden} NAME_WLE)
  set(seeds)
  foreach(kind bundle manifest object mended)
    list(APPEND seeds ${CMAKE_CURRENT_BINARY_DIR}/${stem}-${kind}.seed)
  endforeach()
  add_custom_command(OUTPUT ${seeds}
    COMMAND ${KVC_PYTHON3} ${CMAKE_CURRENT_SOURCE_DIR}/ArtifactReaderSeeds.py
            ${golden} ${seeds}
    DEPENDS ${golden} ArtifactReaderSeeds.py VERBATIM)
  list(APPEND artifact_seeds ${seeds})
endforeach()
add_custom_target(ArtifactReaderSeeds ALL DEPENDS ${artifact_seeds})
list(JOIN artifact_seeds "," seeds)
set(artifact_arguments -max_len=16384 -seed_inputs=${seeds})

file(GLOB artifact_sources CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/lib/base/Artifact/*.cpp)
set(loader ${PROJECT_SOURCE_DIR}/lib/base/Artifact/ElfImage.cpp)
list(REMOVE_ITEM artifact_sources ${loader})
set(artifact_objects)
kvc_fuzz_objects(artifact_objects ArtifactReaderFuzzer.cpp ${artifact_sources})

set(objects ${artifact_objects})
kvc_fuzz_objects(objects ${loader})
kvc_add_fuzzer(ArtifactReaderFuzzer ${objects})
kvc_add_fuzz_test(fuzz-artifact ArtifactReaderFuzzer -runs=20000
  ${artifact_arguments})

# The same with one bound of the loader taken away: it must be found.
set(planted ${CMAKE_CURRENT_BINARY_DIR}/PlantedElfImage.cpp)
add_custom_command(OUTPUT ${planted}
  COMMAND ${CMAKE_COMMAND} -DIN=${loader} -DOUT=${planted}
          "-DBOUND=offset <= object.size() && "
          -P ${CMAKE_CURRENT_SOURCE_DIR}/Plant.cmake
  DEPENDS ${loader} Plant.cmake VERBATIM)
set(objects ${artifact_objects})
kvc_fuzz_objects(objects ${planted})
kvc_add_fuzzer(ArtifactReaderFuzzerPlanted ${objects})
kvc_add_fuzz_test(fuzz-artifact-planted ArtifactReaderFuzzerPlanted -runs=1000000
  ${artifact_arguments})
set_tests_properties(fuzz-artifact-planted PROPERTIES
  PASS_REGULAR_EXPRESSION
  "ERROR: AddressSanitizer;PlantedElfImage.cpp:[0-9:]+ runtime error")
