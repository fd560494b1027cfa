# The spec reader, from bytes to canonical text and back.
file(GLOB examples CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/specs/examples/*.json)
list(JOIN examples "," seeds)
set(spec_arguments -max_len=4096 -seed_inputs=${seeds}
  -dict=${CMAKE_CURRENT_SOURCE_DIR}/spec.dict)

set(spec_objects)
kvc_fuzz_objects(spec_objects
  SpecReaderFuzzer.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Support/Diagnostics.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Support/Words.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Canonical.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Check.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Expr.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/ExprErrors.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/ExprText.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/ExprTypes.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Fields.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Reader.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Shape.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/ShapeAttend.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/ShapeCodec.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Size.cpp
  ${PROJECT_SOURCE_DIR}/lib/base/Spec/Spec.cpp)
set(gate ${PROJECT_SOURCE_DIR}/lib/base/Spec/LocatedJson.cpp)

set(objects ${spec_objects})
kvc_fuzz_objects(objects ${gate})
kvc_add_fuzzer(SpecReaderFuzzer ${objects})
kvc_add_fuzz_test(fuzz-spec SpecReaderFuzzer -runs=100000 ${spec_arguments})

# A fuzzer that finds nothing must be shown to find something: the same program
# with one bound of the gate taken away.
set(planted ${CMAKE_CURRENT_BINARY_DIR}/PlantedLocatedJson.cpp)
add_custom_command(OUTPUT ${planted}
  COMMAND ${CMAKE_COMMAND} -DIN=${gate} -DOUT=${planted}
          "-DBOUND=i < text.size() && " -P ${CMAKE_CURRENT_SOURCE_DIR}/Plant.cmake
  DEPENDS ${gate} Plant.cmake VERBATIM)
set(objects ${spec_objects})
kvc_fuzz_objects(objects ${planted})
kvc_add_fuzzer(SpecReaderFuzzerPlanted ${objects})
kvc_add_fuzz_test(fuzz-spec-planted SpecReaderFuzzerPlanted -runs=100000
  ${spec_arguments})
set_tests_properties(fuzz-spec-planted PROPERTIES
  PASS_REGULAR_EXPRESSION "Invalid index!") # an assertion of llvm::StringRef
