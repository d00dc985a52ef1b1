// What cameras send, to BGR: ITU-R BT.601, luma 16-235, chroma 16-240, in fixed point of 20 bits as in cv2.cvtColor.
#pragma once
#include "pixel.h"

namespace stylesdk {

constexpr int kShift = 20;

constexpr int fixed(double factor) { return static_cast<int>(factor * (1 << kShift) + (factor < 0 ? -0.5 : 0.5)); }

constexpr int kLuma = fixed(1.164), kBlueU = fixed(2.018), kGreenU = fixed(-0.391), kGreenV = fixed(-0.813),
              kRedV = fixed(1.596);

STYLESDK_PIXEL uint8_t unshifted(int value) { return static_cast<uint8_t>(clamped(value >> kShift, 0, 255)); }

STYLESDK_PIXEL Bgr bgr_from_yuv(int y, int u, int v) {
  constexpr int half = 1 << (kShift - 1);
  const int luma = (y > 16 ? y - 16 : 0) * kLuma + half;
  u -= 128;
  v -= 128;
  return {{unshifted(luma + kBlueU * u), unshifted(luma + kGreenU * u + kGreenV * v),
           unshifted(luma + kRedV * v)}};
}

// YUYV (YUY2): two pixels in four bytes, Y0 U Y1 V. `width` is even.
STYLESDK_PIXEL Bgr yuyv_pixel(const uint8_t* image, int y, int x, int width) {
  const uint8_t* pair = image + 2 * at(y, x - x % 2, width);
  return bgr_from_yuv(pair[x % 2 * 2], pair[1], pair[3]);
}

// NV12: a plane of Y, then one of U V pairs, each for two by two pixels. Height and width are even.
STYLESDK_PIXEL Bgr nv12_pixel(const uint8_t* image, int y, int x, int height, int width) {
  const uint8_t* pair = image + at(height + y / 2, x - x % 2, width);
  return bgr_from_yuv(image[at(y, x, width)], pair[0], pair[1]);
}

}  // namespace stylesdk
