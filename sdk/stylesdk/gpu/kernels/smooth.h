// The arithmetic of stylesdk/live/smoothing.py, which says why; names and numbers are the same there.
#pragma once
#include "resize.h"

namespace stylesdk {

constexpr int kCoarse = 4;                       // pixels of the photo to one of the map
constexpr float kStill = 2.0f, kMoved = 6.0f;    // change of such an average, of 255
constexpr int kAround = 2;                       // of the map, to each side: 5 x 5
constexpr uint64_t kCut = 3, kCutOf = 5;         // 0.6 of the map
constexpr float kLeast = 0.2f;                   // share of the noise that is left at most

STYLESDK_PIXEL int coarse(int size) { return (size + kCoarse - 1) / kCoarse; }

// -1 and `size` are outside: the border repeats from the second pixel on (cv2.BORDER_REFLECT_101).
STYLESDK_PIXEL int reflected(int index, int size) {
  if (size == 1) return 0;
  return index < 0 ? 1 : index == size ? size - 2 : index;
}

// Average of 3 x 3.
STYLESDK_PIXEL BgrFloat blurred(const Bgr* image, int y, int x, int height, int width) {
  int sum[kChannels] = {0, 0, 0};
  for (int dy = -1; dy <= 1; ++dy)
    for (int dx = -1; dx <= 1; ++dx) {
      const Bgr pixel = image[at(reflected(y + dy, height), reflected(x + dx, width), width)];
      for (int i = 0; i < kChannels; ++i) sum[i] += pixel.channel[i];
    }
  BgrFloat out;
  for (int i = 0; i < kChannels; ++i) out.channel[i] = static_cast<float>(sum[i]) / 9.0f;
  return out;
}

// The channel that differs most: colours of one luma can follow each other.
STYLESDK_PIXEL float largest_difference(const BgrFloat& a, const BgrFloat& b) {
  float largest = 0.0f;
  for (int i = 0; i < kChannels; ++i) largest = fmaxf(largest, fabsf(a.channel[i] - b.channel[i]));
  return largest;
}

// A style moves a little beyond what moves. What lies outside the map counts for nothing.
STYLESDK_PIXEL float largest_around(const float* map, int y, int x, int height, int width) {
  float largest = 0.0f;
  for (int row = clamped(y - kAround, 0, y); row <= clamped(y + kAround, y, height - 1); ++row)
    for (int column = clamped(x - kAround, 0, x); column <= clamped(x + kAround, x, width - 1); ++column)
      largest = fmaxf(largest, map[at(row, column, width)]);
  return largest;
}

STYLESDK_PIXEL bool is_cut(uint32_t moved, int height, int width) {
  return kCutOf * moved > kCut * static_cast<uint64_t>(height) * static_cast<uint64_t>(width);
}

// The old frame's weight where nothing changed. With `amount` 0 it is 0: the clip starts anew.
STYLESDK_PIXEL float kept(float amount) {
  const float left = fmaxf(1.0f - amount, kLeast);
  return (1.0f - left * left) / (1.0f + left * left);
}

STYLESDK_PIXEL float kept(float amount, float change) {
  return fminf(fmaxf((kMoved - change) / (kMoved - kStill), 0.0f), 1.0f) * kept(amount);
}

// `past` is not read where nothing of it is kept: before the first frame it is any bytes, NaN too.
STYLESDK_PIXEL float blended(float present, float past, float keep) {
  return keep > 0.0f ? present + keep * (past - present) : present;
}

}  // namespace stylesdk
