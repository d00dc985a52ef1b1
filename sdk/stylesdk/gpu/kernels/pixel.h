// What all kernels share. Compiles with nvcc and with any C++17 compiler: the latter build is how tests check the
// arithmetic on machines without a GPU. Both are built without fused multiply-add, so that their results agree.
#pragma once
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define STYLESDK_PIXEL __device__ inline
#define STYLESDK_KERNEL extern "C" __global__ void
// One thread a pixel. Threads beyond the image do nothing.
#define STYLESDK_EACH_PIXEL(y, x, height, width)                  \
  const int y = static_cast<int>(blockIdx.y * blockDim.y + threadIdx.y); \
  const int x = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); \
  if (y < (height) && x < (width))
#else
#define STYLESDK_PIXEL inline
#define STYLESDK_KERNEL extern "C" void
#define STYLESDK_EACH_PIXEL(y, x, height, width) \
  for (int y = 0; y < (height); ++y)             \
    for (int x = 0; x < (width); ++x)
#endif

namespace stylesdk {

constexpr int kChannels = 3;

struct Bgr {  // as cv2 lays it out, 0-255
  uint8_t channel[kChannels];
};

struct BgrFloat {
  float channel[kChannels];
};

STYLESDK_PIXEL int clamped(int value, int low, int high) { return value < low ? low : value > high ? high : value; }

// Index of a pixel; in 64 bits, as an image may have more than 2^31 bytes.
STYLESDK_PIXEL int64_t at(int y, int x, int width) { return static_cast<int64_t>(y) * width + x; }

// Ties go to the even number, as in cv2's saturate_cast. `value` is within 0-255.
STYLESDK_PIXEL uint8_t rounded(float value) { return static_cast<uint8_t>(rintf(value)); }

// The same for the quotient of two integers, exactly.
STYLESDK_PIXEL uint8_t rounded(uint64_t sum, uint64_t count) {
  const uint64_t quotient = sum / count, rest = 2 * (sum % count);
  const bool up = rest > count || (rest == count && quotient % 2 == 1);
  return static_cast<uint8_t>(quotient + (up ? 1 : 0));
}

STYLESDK_PIXEL void add(uint32_t* counter) {
#ifdef __CUDACC__
  atomicAdd(counter, 1u);
#else
  ++*counter;
#endif
}

}  // namespace stylesdk
