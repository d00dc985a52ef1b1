# The kernels as loops, by the host's C++ compiler: a library for the tests in Python, and a test in C++.
include(CheckLanguage)
check_language(CXX)
if(NOT CMAKE_CXX_COMPILER)
  message(STATUS "stylesdk: no C++ compiler; the kernels' arithmetic is not tested")
  return()
endif()
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
enable_language(CXX)

add_library(stylesdk_kernels_host SHARED ${kernels}/host.cpp)
set_target_properties(stylesdk_kernels_host PROPERTIES WINDOWS_EXPORT_ALL_SYMBOLS ON)
add_executable(check_kernels ${CMAKE_SOURCE_DIR}/tests/sdk/check_kernels.cpp)

foreach(target IN ITEMS stylesdk_kernels_host check_kernels)
  target_compile_features(${target} PRIVATE cxx_std_17)
  target_include_directories(${target} PRIVATE ${kernels})
  # No fused multiply-add, as in the fatbin.
  target_compile_options(${target} PRIVATE
    $<IF:$<CXX_COMPILER_ID:MSVC>,/W4;/WX;/fp:precise,-Wall;-Wextra;-Werror;-ffp-contract=off>)
endforeach()

add_test(NAME kernels COMMAND check_kernels)
