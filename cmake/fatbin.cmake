# nvcc -> one fatbin for every GPU from Turing to Blackwell. nvcc is called itself: CMake's own CUDA language would
# demand a CUDA runtime to link with, and cannot write a fatbin before 3.27.
if(STYLESDK_CUDA STREQUAL "OFF")
  message(STATUS "stylesdk: no CUDA kernels (STYLESDK_CUDA=OFF); frames are prepared on the CPU")
  return()
endif()

set(capabilities 75 80 86 89 90 100 120) # the newest in PTX too, for what comes after it

find_program(STYLESDK_NVCC nvcc HINTS $ENV{CUDA_PATH} $ENV{CUDA_HOME} PATHS /usr/local/cuda PATH_SUFFIXES bin)
set(reason "")
if(NOT STYLESDK_NVCC)
  set(reason "no nvcc was found; put it on PATH, or set CUDA_PATH")
else()
  execute_process(COMMAND ${STYLESDK_NVCC} --list-gpu-code OUTPUT_VARIABLE codes ERROR_QUIET)
  foreach(capability IN LISTS capabilities)
    if(NOT codes MATCHES "sm_${capability}[^0-9]")
      set(reason "${STYLESDK_NVCC} does not know sm_${capability}; install CUDA 12.8 to 13")
    endif()
  endforeach()
endif()
if(reason)
  if(STYLESDK_CUDA STREQUAL "ON")
    message(FATAL_ERROR "STYLESDK_CUDA=ON, but ${reason}, or set STYLESDK_CUDA=AUTO.")
  endif()
  message(STATUS "stylesdk: no CUDA kernels (${reason}); frames are prepared on the CPU")
  return()
endif()

set(targets "")
foreach(capability IN LISTS capabilities)
  list(APPEND targets -gencode arch=compute_${capability},code=sm_${capability})
endforeach()
list(GET capabilities -1 newest)
list(APPEND targets -gencode arch=compute_${newest},code=compute_${newest})

file(GLOB sources CONFIGURE_DEPENDS ${kernels}/*.cu ${kernels}/*.h)
add_custom_command(
  OUTPUT ${STYLESDK_FATBIN}
  COMMAND ${STYLESDK_NVCC} -fatbin -std=c++17 -O3 --fmad=false --Werror all-warnings ${targets}
          -o ${STYLESDK_FATBIN}.part ${kernels}/kernels.cu
  COMMAND ${CMAKE_COMMAND} -E rename ${STYLESDK_FATBIN}.part ${STYLESDK_FATBIN}
  DEPENDS ${sources} ${CMAKE_CURRENT_LIST_FILE}
  COMMENT "Compiling the CUDA kernels"
  VERBATIM)
add_custom_target(stylesdk_fatbin ALL DEPENDS ${STYLESDK_FATBIN})
message(STATUS "stylesdk: CUDA kernels by ${STYLESDK_NVCC} -> ${STYLESDK_FATBIN}")
