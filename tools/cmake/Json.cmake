# nlohmann's JSON: the system's package or, where pip builds a wheel, the headers
# of the package `nlohmann-json` in its build environment.
if(SKBUILD)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c
            "import nlohmann_json; print(*nlohmann_json.__path__)"
    OUTPUT_VARIABLE kvc_json OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET)
endif()
if(kvc_json)
  add_library(nlohmann_json::nlohmann_json INTERFACE IMPORTED)
  target_include_directories(nlohmann_json::nlohmann_json SYSTEM INTERFACE
    ${kvc_json}/include)
else()
  find_package(nlohmann_json 3.11 REQUIRED)
endif()
