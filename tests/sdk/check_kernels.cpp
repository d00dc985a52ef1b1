// Known answers of the kernels' arithmetic, on the host. Needs nothing but a C++ compiler; run by ctest.
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "kernels.cu"

namespace {

int failures = 0;

void expect(bool good, const char* what, double got, double expected) {
  if (good) return;
  std::printf("%s: got %g, expected %g\n", what, got, expected);
  ++failures;
}

void equal(const char* what, double got, double expected) { expect(got == expected, what, got, expected); }

using Image = std::vector<Bgr>;

Bgr gray(int value) {
  const auto level = static_cast<uint8_t>(value);
  return {{level, level, level}};
}

Image grays(std::initializer_list<int> values) {
  Image image;
  for (int value : values) image.push_back(gray(value));
  return image;
}

void equal(const char* what, const Image& got, const Image& expected) {
  for (size_t i = 0; i < expected.size(); ++i)
    for (int c = 0; c < stylesdk::kChannels; ++c) equal(what, got[i].channel[c], expected[i].channel[c]);
}

void resizing() {
  Image four(4), eight(8), two(2), one(1);
  resize_linear(grays({0, 100}).data(), four.data(), 2, 1, 2, 1, 4, 1, 4);
  equal("bilinear, twice the width", four, grays({0, 25, 75, 100}));
  resize_linear(grays({0, 100}).data(), eight.data(), 2, 1, 2, 1, 4, 2, 4);
  equal("one row below repeats it", eight, grays({0, 25, 75, 100, 0, 25, 75, 100}));
  resize_linear(grays({7, 9}).data(), four.data(), 2, 1, 2, 1, 2, 1, 4);
  equal("same size, two columns beside repeat the edge", four, grays({7, 9, 9, 9}));
  resize_area(grays({0, 90, 30}).data(), two.data(), 3, 1, 3, 1, 2, 1, 2);
  equal("average of one pixel and a half", two, grays({30, 50}));
  resize_area(grays({10, 20, 99, 30, 40, 99}).data(), one.data(), 3, 2, 2, 1, 1, 1, 1);
  equal("average of two by two, of rows of three", one, grays({25}));
  resize_area(grays({1, 2}).data(), one.data(), 2, 1, 2, 1, 1, 1, 1);
  equal("1.5 rounds to even", one, grays({2}));
  resize_area(grays({2, 3}).data(), one.data(), 2, 1, 2, 1, 1, 1, 1);
  equal("2.5 rounds to even", one, grays({2}));
  Image wide(32767, gray(255));
  resize_area(wide.data(), one.data(), 32767, 1, 32767, 1, 1, 1, 1);
  equal("the widest image", one, grays({255}));
  resize_linear(one.data(), wide.data(), 1, 1, 1, 1, 32767, 1, 32767);
  equal("one pixel to the widest image", wide[32766].channel[0], 255);
}

void colours() {
  // Black, white, and the red of BT.601: 81, 90, 240.
  const uint8_t yuyv[] = {16, 128, 235, 128, 81, 90, 81, 240};
  const Image expected = {gray(0), gray(255), {{0, 0, 254}}, {{0, 0, 254}}};
  Image out(4);
  bgr_from_yuyv(yuyv, out.data(), 1, 4);
  equal("YUYV", out, expected);
  const uint8_t nv12[] = {81, 81, 16, 235, 81, 81, 16, 235, 90, 240, 128, 128};
  Image both(8);
  bgr_from_nv12(nv12, both.data(), 2, 4);
  for (int row = 0; row < 2; ++row)
    equal("NV12", Image(both.begin() + 4 * row, both.begin() + 4 * row + 4),
          {{{0, 0, 254}}, {{0, 0, 254}}, gray(0), gray(255)});
  const uint8_t below[] = {0, 128, 255, 128};
  bgr_from_yuyv(below, out.data(), 1, 2);
  equal("blacker than black, whiter than white", {out[0], out[1]}, {gray(0), gray(255)});
}

// The smoothing of a frame of 64 x 64 of one grey, as smoothing.py drives it.
struct Clip {
  static constexpr int kSize = 64, kMap = 16;
  Image small{kMap * kMap}, styled{kSize * kSize}, out{kSize * kSize};
  std::vector<BgrFloat> past{kMap * kMap, nothing()}, seen{kMap * kMap}, shown{kSize * kSize, nothing()};
  std::vector<float> change = std::vector<float>(kMap * kMap), around = change, keep = change;
  uint32_t moved = 12345;

  static BgrFloat nothing() {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    return {{nan, nan, nan}};
  }

  int next(const Image& photo, int style, float amount) {
    styled.assign(styled.size(), gray(style));
    resize_area(photo.data(), small.data(), kSize, kSize, kSize, kMap, kMap, kMap, kMap);
    smooth_compare(small.data(), past.data(), seen.data(), change.data(), &moved, kMap, kMap);
    smooth_spread(change.data(), around.data(), &moved, kMap, kMap);
    smooth_keep(around.data(), &moved, seen.data(), past.data(), keep.data(), kMap, kMap, amount);
    smooth_blend(styled.data(), keep.data(), shown.data(), out.data(), kSize, kSize);
    return out[0].channel[0];
  }
  int next(int photo, int style, float amount) { return next(Image(kSize * kSize, gray(photo)), style, amount); }
};

void smoothing() {
  Clip clip;
  equal("the first frame, whatever the memory held", clip.next(60, 100, 0.0f), 100);
  equal("a still photo keeps (1 - 0.25) / (1 + 0.25) of the past at 0.5", clip.next(60, 200, 0.5f), 140);
  equal("nothing moved", clip.moved, 0);
  equal("half way between still and moved, half of that: 140 and 200 by 0.3", clip.next(64, 200, 0.5f), 182);
  // The past photo is 60 there, not 64: 64 + 0.3 (60 - 64) = 62.8.
  expect(std::fabs(clip.past[0].channel[0] - 62.8f) < 1e-4f, "the photo that is shown", clip.past[0].channel[0], 62.8);
  equal("a cut starts anew", clip.next(90, 10, 0.5f), 10);
  equal("all moved", clip.moved, Clip::kMap * Clip::kMap);
  Image corner(Clip::kSize * Clip::kSize, gray(90));
  for (int y = 48; y < 64; ++y)
    for (int x = 48; x < 64; ++x) corner[static_cast<size_t>(y * Clip::kSize + x)] = gray(250);
  equal("far from what moved the past stays", clip.next(corner, 110, 1.0f), 18);
  equal("what moved is new", clip.out.back().channel[0], 110);
  // 4 x 4 of the map, one more by the blur, two more by the spread.
  equal("moved, of the map", clip.moved, 7 * 7);
}

}  // namespace

int main() {
  resizing();
  colours();
  smoothing();
  if (failures) std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
