// Resizing: bilinear by pixel centres (cv2.INTER_LINEAR), and the average of the area that a pixel covers
// (cv2.INTER_AREA). Positions are integers, in parts of a source pixel: nothing is lost at any size up to 32767.
#pragma once
#include "pixel.h"

namespace stylesdk {

struct Between {  // a position between two neighbours, which are one where the image ends
  int low, high;
  float part;  // share of `high`, 0-1
};

// Where the centre of pixel `index` of `size` lies among the centres of `source` pixels.
STYLESDK_PIXEL Between between(int index, int size, int source) {
  const int units = 2 * size, position = (2 * index + 1) * source - size;
  if (position <= 0) return {0, 0, 0.0f};
  const int low = position / units;
  if (low >= source - 1) return {source - 1, source - 1, 0.0f};
  return {low, low + 1, static_cast<float>(position - low * units) / static_cast<float>(units)};
}

STYLESDK_PIXEL float mixed(float low, float high, float part) { return low + part * (high - low); }

STYLESDK_PIXEL Bgr linear_pixel(const Bgr* image, int stride, Between y, Between x) {
  const Bgr a = image[at(y.low, x.low, stride)], b = image[at(y.low, x.high, stride)];
  const Bgr c = image[at(y.high, x.low, stride)], d = image[at(y.high, x.high, stride)];
  Bgr out;
  for (int i = 0; i < kChannels; ++i) {
    const float upper = mixed(a.channel[i], b.channel[i], x.part), lower = mixed(c.channel[i], d.channel[i], x.part);
    out.channel[i] = rounded(mixed(upper, lower, y.part));
  }
  return out;
}

// As the pixel of an image of one channel.
STYLESDK_PIXEL float linear_value(const float* map, int stride, Between y, Between x) {
  const float upper = mixed(map[at(y.low, x.low, stride)], map[at(y.low, x.high, stride)], x.part);
  const float lower = mixed(map[at(y.high, x.low, stride)], map[at(y.high, x.high, stride)], x.part);
  return mixed(upper, lower, y.part);
}

struct Box {  // what pixel `index` of `size` covers of `source` pixels; each of those is `size` units wide
  int from, to, size;

  STYLESDK_PIXEL int first() const { return from / size; }
  STYLESDK_PIXEL int last() const { return (to - 1) / size; }
  // Units of `pixel` inside the box. They sum to `source`.
  STYLESDK_PIXEL uint32_t share(int pixel) const {
    const int left = pixel * size, right = left + size;
    return static_cast<uint32_t>((right < to ? right : to) - (left > from ? left : from));
  }
};

STYLESDK_PIXEL Box box(int index, int size, int source) { return {index * source, (index + 1) * source, size}; }

// `count` is the area of a box in units: source height times source width.
STYLESDK_PIXEL Bgr area_pixel(const Bgr* image, int stride, Box rows, Box columns, uint64_t count) {
  uint64_t sum[kChannels] = {0, 0, 0};
  for (int y = rows.first(); y <= rows.last(); ++y) {
    uint32_t row[kChannels] = {0, 0, 0};
    for (int x = columns.first(); x <= columns.last(); ++x) {
      const Bgr pixel = image[at(y, x, stride)];
      for (int i = 0; i < kChannels; ++i) row[i] += columns.share(x) * pixel.channel[i];
    }
    for (int i = 0; i < kChannels; ++i) sum[i] += static_cast<uint64_t>(rows.share(y)) * row[i];
  }
  Bgr out;
  for (int i = 0; i < kChannels; ++i) out.channel[i] = rounded(sum[i], count);
  return out;
}

}  // namespace stylesdk
