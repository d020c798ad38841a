# How every target of Reprise is compiled, and the four functions that declare one.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()
# -g1 keeps stack traces readable at a fraction of the compile time and disk of -g.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

set(REPRISE_SANITIZE "" CACHE STRING "Sanitizers for every target: address,undefined or thread")
option(REPRISE_FUZZ "Build the libFuzzer targets (needs clang++)" OFF)
option(REPRISE_PYTHON_ONLY "Build only what the Python package links" OFF)

find_program(REPRISE_CCACHE ccache)
if(REPRISE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${REPRISE_CCACHE})
endif()
find_program(REPRISE_LLD ld.lld)
if(REPRISE_LLD)
  add_link_options(-fuse-ld=lld)
endif()

add_library(reprise_options INTERFACE)
target_include_directories(reprise_options INTERFACE ${PROJECT_SOURCE_DIR})
# They would also go to whoever links us as a part of their own build.
if(PROJECT_IS_TOP_LEVEL)
  target_compile_options(reprise_options INTERFACE -Wall -Wextra -Wconversion -Wshadow -Werror)
endif()
if(REPRISE_SANITIZE)
  add_compile_options(-fsanitize=${REPRISE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${REPRISE_SANITIZE})
  add_compile_definitions(REPRISE_SANITIZED=1)
endif()
if(REPRISE_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()

# reprise_library(NAME HDRS ... SRCS ... DEPS ...): one small library per idea. Every dependency is listed;
# a library without sources is header-only.
function(reprise_library name)
  cmake_parse_arguments(ARG "" "" "HDRS;SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(${name} STATIC ${ARG_SRCS} ${ARG_HDRS})
    target_link_libraries(${name} PUBLIC reprise_options ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
  else()
    add_library(${name} INTERFACE ${ARG_HDRS})
    target_link_libraries(${name} INTERFACE reprise_options ${ARG_DEPS})
  endif()
endfunction()

# A sanitizer slows a program down, ThreadSanitizer most: so many times longer may a test take.
set(REPRISE_TIMEOUT_FACTOR 1)
if(REPRISE_SANITIZE MATCHES thread)
  set(REPRISE_TIMEOUT_FACTOR 6)
elseif(REPRISE_SANITIZE)
  set(REPRISE_TIMEOUT_FACTOR 3)
endif()

# reprise_test(NAME SRCS ... DEPS ... [TIMEOUT seconds] [LABELS ...]): a GoogleTest binary, run as one
# ctest case that is stopped as hanging after so many seconds (120) of an unsanitized build.
function(reprise_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(REPRISE_PYTHON_ONLY OR REPRISE_FUZZ)
    return()
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE reprise_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * ${REPRISE_TIMEOUT_FACTOR}")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

# reprise_benchmark(NAME SRCS ... DEPS ...): a benchmark binary; never run by ctest.
function(reprise_benchmark name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(REPRISE_PYTHON_ONLY OR REPRISE_FUZZ)
    return()
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE reprise_options ${ARG_DEPS})
endfunction()

# reprise_fuzzer(NAME SRCS ... DEPS ...): a libFuzzer target, built only with REPRISE_FUZZ.
function(reprise_fuzzer name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  if(NOT REPRISE_FUZZ)
    return()
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE reprise_options ${ARG_DEPS})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
endfunction()
