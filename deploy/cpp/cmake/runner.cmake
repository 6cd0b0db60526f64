# prunekit_runner: the contract code, an engine, and picture files.

# Two of OpenCV's modules, found one by one: its own CMake files ask for all of them.
find_path(OPENCV_INCLUDE opencv2/imgcodecs.hpp PATH_SUFFIXES opencv4)
find_library(OPENCV_IMGCODECS opencv_imgcodecs)
find_library(OPENCV_CORE opencv_core)
if(NOT OPENCV_INCLUDE OR NOT OPENCV_IMGCODECS OR NOT OPENCV_CORE)
  message(FATAL_ERROR "OpenCV is not found. Run: sudo apt-get install libopencv-imgcodecs-dev, or, on a Jetson, "
                      "libopencv-dev.")
endif()

if(PRUNEKIT_STANDIN)
  # Declared by the real CUDA headers where there are some, so that the compiler holds our calls to them.
  find_path(CUDA_INCLUDE cuda_runtime_api.h HINTS /usr/local/cuda/include)
  if(NOT CUDA_INCLUDE)
    set(CUDA_INCLUDE ${CMAKE_SOURCE_DIR}/standin/cuda)
  endif()
  add_library(prunekit_engine_api STATIC standin/cuda.cpp standin/network.cpp standin/tensorrt.cpp)
  target_include_directories(prunekit_engine_api SYSTEM PUBLIC ${CUDA_INCLUDE})
  target_include_directories(prunekit_engine_api PUBLIC standin/tensorrt)
else()
  find_package(CUDAToolkit REQUIRED)
  find_path(TENSORRT_INCLUDE NvInferRuntime.h HINTS ${TENSORRT_ROOT}/include)
  find_library(TENSORRT_LIBRARY nvinfer HINTS ${TENSORRT_ROOT}/lib)
  if(NOT TENSORRT_INCLUDE OR NOT TENSORRT_LIBRARY)
    message(FATAL_ERROR "TensorRT is not found. On a Jetson: sudo apt-get install libnvinfer-dev; elsewhere give "
                        "-DTENSORRT_ROOT=/path/of/TensorRT, the folder that holds include/ and lib/.")
  endif()
  add_library(prunekit_engine_api INTERFACE)
  target_include_directories(prunekit_engine_api SYSTEM INTERFACE ${TENSORRT_INCLUDE})
  target_link_libraries(prunekit_engine_api INTERFACE ${TENSORRT_LIBRARY} CUDA::cudart)
endif()

add_executable(prunekit_runner
  src/engine/cuda.cpp src/engine/engine.cpp src/engine/plan.cpp src/engine/tensors.cpp
  src/commands/bench.cpp src/commands/check.cpp src/commands/golden.cpp src/commands/headers.cpp
  src/commands/labelling.cpp src/commands/main.cpp src/commands/options.cpp src/commands/pictures.cpp
  src/commands/report.cpp src/commands/run.cpp)
target_include_directories(prunekit_runner SYSTEM PRIVATE ${OPENCV_INCLUDE})
target_link_libraries(prunekit_runner PRIVATE prunekit_contract prunekit_engine_api ${OPENCV_IMGCODECS} ${OPENCV_CORE})
