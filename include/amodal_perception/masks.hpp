// Decode the masks of an amodal_perception/msg/AmodalScene. Header only, C++17, no dependency but
// the standard library: use it as installed, or copy it.
//
// Each function takes any type with the fields of amodal_perception/msg/BinaryMask.

#ifndef AMODAL_PERCEPTION__MASKS_HPP_
#define AMODAL_PERCEPTION__MASKS_HPP_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace amodal_perception
{

/// Check that a mask's runs fill its box and that the box lies in the image.
///
/// \param image_width, image_height size of the source image, pixels (AmodalScene has them).
/// \throws std::invalid_argument with one line that says what is wrong.
template<typename BinaryMask>
void check_mask(const BinaryMask & mask, std::uint32_t image_width, std::uint32_t image_height)
{
  // 64 bits: neither a sum of 32-bit runs nor a product of 32-bit sides may wrap around.
  const std::uint64_t area = std::uint64_t{mask.width} * mask.height;
  const std::uint64_t covered =
    std::accumulate(mask.counts.begin(), mask.counts.end(), std::uint64_t{0});
  if (covered != area) {
    throw std::invalid_argument(
            "mask runs sum to " + std::to_string(covered) + ", but " +
            std::to_string(mask.width) + " x " + std::to_string(mask.height) + " was expected");
  }
  const bool inside = mask.x >= 0 && mask.y >= 0 &&
    std::int64_t{mask.x} + mask.width <= image_width &&
    std::int64_t{mask.y} + mask.height <= image_height;
  if (area > 0 && !inside) {
    throw std::invalid_argument(
            "mask at column " + std::to_string(mask.x) + ", row " + std::to_string(mask.y) +
            " leaves the " + std::to_string(image_width) + " x " + std::to_string(image_height) +
            " image");
  }
}

/// Draw a mask into an image that the caller owns, e.g. a cv::Mat of CV_8U:
/// `draw_mask(mask, m.data, m.cols, m.rows, m.step)`. Other pixels stay as they are.
///
/// \param pixels first of `image_height` rows of `image_width` bytes, `row_bytes` apart.
/// \param value what to write where the mask is set.
/// \throws std::invalid_argument before anything is drawn.
template<typename BinaryMask>
void draw_mask(
  const BinaryMask & mask, std::uint8_t * pixels, std::uint32_t image_width,
  std::uint32_t image_height, std::size_t row_bytes, std::uint8_t value = 255)
{
  check_mask(mask, image_width, image_height);
  if (mask.width == 0) {
    return;
  }
  std::uint8_t * const corner = pixels + mask.y * row_bytes + mask.x;
  std::uint64_t at = 0;  // position in the crop, row by row
  bool set = false;
  for (const std::uint32_t count : mask.counts) {
    const std::uint64_t end = at + count;
    while (set && at < end) {  // a run may go on in the next row
      const std::uint64_t row = at / mask.width;
      const std::uint64_t column = at % mask.width;
      const std::uint64_t length = std::min<std::uint64_t>(end - at, mask.width - column);
      std::fill_n(corner + row * row_bytes + column, length, value);
      at += length;
    }
    at = end;
    set = !set;
  }
}

/// Decode a mask to a whole image: `image_width * image_height` bytes, row by row, 0 or 255.
///
/// \throws std::invalid_argument if the mask contradicts itself or leaves the image.
template<typename BinaryMask>
std::vector<std::uint8_t> decode_mask(
  const BinaryMask & mask, std::uint32_t image_width, std::uint32_t image_height)
{
  std::vector<std::uint8_t> pixels(std::size_t{image_width} * image_height, 0);
  draw_mask(mask, pixels.data(), image_width, image_height, image_width);
  return pixels;
}

}  // namespace amodal_perception

#endif  // AMODAL_PERCEPTION__MASKS_HPP_
