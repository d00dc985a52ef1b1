// The kernels. Compiled by nvcc into kernels.fatbin, and by the host's C++ compiler, through host.cpp, into the same
// functions as loops. Images are rows of BGR without gaps unless a stride, in pixels, is given. launch.py and
// smoothing.py call them; tests compare their signatures with these.
#include "pixel.h"
#include "resize.h"
#include "smooth.h"
#include "yuv.h"

using stylesdk::at;
using stylesdk::Bgr;
using stylesdk::BgrFloat;

// The source, scaled to `inner` pixels, in the canvas' upper left; what is left over repeats its edge.
STYLESDK_KERNEL resize_linear(const Bgr* source, Bgr* canvas, int stride, int source_height, int source_width,
                              int inner_height, int inner_width, int height, int width) {
  STYLESDK_EACH_PIXEL(y, x, height, width) {
    const int row = stylesdk::clamped(y, 0, inner_height - 1), column = stylesdk::clamped(x, 0, inner_width - 1);
    canvas[at(y, x, width)] =
        stylesdk::linear_pixel(source, stride, stylesdk::between(row, inner_height, source_height),
                               stylesdk::between(column, inner_width, source_width));
  }
}

STYLESDK_KERNEL resize_area(const Bgr* source, Bgr* canvas, int stride, int source_height, int source_width,
                            int inner_height, int inner_width, int height, int width) {
  const uint64_t count = static_cast<uint64_t>(source_height) * static_cast<uint64_t>(source_width);
  STYLESDK_EACH_PIXEL(y, x, height, width) {
    const int row = stylesdk::clamped(y, 0, inner_height - 1), column = stylesdk::clamped(x, 0, inner_width - 1);
    canvas[at(y, x, width)] =
        stylesdk::area_pixel(source, stride, stylesdk::box(row, inner_height, source_height),
                             stylesdk::box(column, inner_width, source_width), count);
  }
}

STYLESDK_KERNEL bgr_from_yuyv(const uint8_t* source, Bgr* out, int height, int width) {
  STYLESDK_EACH_PIXEL(y, x, height, width) out[at(y, x, width)] = stylesdk::yuyv_pixel(source, y, x, width);
}

STYLESDK_KERNEL bgr_from_nv12(const uint8_t* source, Bgr* out, int height, int width) {
  STYLESDK_EACH_PIXEL(y, x, height, width) out[at(y, x, width)] = stylesdk::nv12_pixel(source, y, x, height, width);
}

// Smoothing, in this order. The first three run over the map of changes, `small` is the photo resized to it. A cut is
// decided here, not by the host, so that nothing waits.
STYLESDK_KERNEL smooth_compare(const Bgr* small, const BgrFloat* past, BgrFloat* seen, float* change, uint32_t* moved,
                               int height, int width) {
  STYLESDK_EACH_PIXEL(y, x, height, width) {
    const BgrFloat now = stylesdk::blurred(small, y, x, height, width);
    seen[at(y, x, width)] = now;
    change[at(y, x, width)] = stylesdk::largest_difference(now, past[at(y, x, width)]);
    if (y == 0 && x == 0) *moved = 0;  // the next kernel counts
  }
}

STYLESDK_KERNEL smooth_spread(const float* change, float* around, uint32_t* moved, int height, int width) {
  STYLESDK_EACH_PIXEL(y, x, height, width) {
    const float largest = stylesdk::largest_around(change, y, x, height, width);
    around[at(y, x, width)] = largest;
    if (largest > stylesdk::kMoved) stylesdk::add(moved);
  }
}

STYLESDK_KERNEL smooth_keep(const float* around, const uint32_t* moved, const BgrFloat* seen, BgrFloat* past,
                            float* keep, int height, int width, float amount) {
  const bool anew = stylesdk::is_cut(*moved, height, width);
  STYLESDK_EACH_PIXEL(y, x, height, width) {
    const int64_t here = at(y, x, width);
    keep[here] = anew ? 0.0f : stylesdk::kept(amount, around[here]);
    for (int i = 0; i < stylesdk::kChannels; ++i)
      past[here].channel[i] = stylesdk::blended(seen[here].channel[i], past[here].channel[i], keep[here]);
  }
}

// Over the frame. `shown` is the result before rounding, which would stop the blend some levels before its goal.
STYLESDK_KERNEL smooth_blend(const Bgr* styled, const float* keep, BgrFloat* shown, Bgr* out, int height, int width) {
  STYLESDK_EACH_PIXEL(y, x, height, width) {
    const int rows = stylesdk::coarse(height), columns = stylesdk::coarse(width);
    const float old = stylesdk::linear_value(keep, columns, stylesdk::between(y, height, rows),
                                             stylesdk::between(x, width, columns));
    const int64_t here = at(y, x, width);
    const Bgr fresh = styled[here];  // `out` may be `styled`
    for (int i = 0; i < stylesdk::kChannels; ++i) {
      const float value = stylesdk::blended(fresh.channel[i], shown[here].channel[i], old);
      shown[here].channel[i] = value;
      out[here].channel[i] = stylesdk::rounded(value);
    }
  }
}
