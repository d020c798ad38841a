// A tensor for tests that notices every byte written outside it.
//
// Test code only. Not thread-safe.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

#include "codec/codec.h"

namespace reprise {

// A tensor in a buffer of its own, with a gap after every element row and guards on both sides.
// Axes may lie in any order and run backwards.
class GuardedTensor {
 public:
  // `order` lists layer (0), token (1) and head (2) from the slowest axis to the fastest; `gap`
  // bytes follow each row of dims; axis a runs backwards when reversed[a].
  GuardedTensor(Dtype dtype, std::array<uint32_t, 4> shape, std::array<int, 3> order, size_t gap,
                std::array<bool, 3> reversed) {
    view_.dtype = dtype;
    view_.shape = shape;
    row_bytes_ = shape[3] * DtypeBytes(dtype);
    auto stride = static_cast<int64_t>(row_bytes_ + gap);
    int64_t start = kGuardBytes;
    for (int i = 2; i >= 0; --i) {
      const auto axis = static_cast<size_t>(order[static_cast<size_t>(i)]);
      view_.stride_bytes[axis] = reversed[axis] ? -stride : stride;
      if (reversed[axis]) start += stride * (int64_t{shape[axis]} - 1);
      stride *= shape[axis];
    }
    buffer_.assign(2 * kGuardBytes + static_cast<size_t>(stride), kGuard);
    view_.data = buffer_.data() + start;
  }
  GuardedTensor(const GuardedTensor&) = delete;
  GuardedTensor& operator=(const GuardedTensor&) = delete;

  const TensorView& view() const { return view_; }

  std::byte* Row(uint32_t layer, uint32_t token, uint32_t head) const {
    return view_.data + layer * view_.stride_bytes[0] + token * view_.stride_bytes[1] +
           head * view_.stride_bytes[2];
  }

  // Sets every element to what Expected says, or to zero.
  void Fill(uint32_t seed) {
    ForEachRow([&](uint32_t l, uint32_t t, uint32_t h, std::byte* row) {
      for (size_t i = 0; i < row_bytes_; ++i) row[i] = Expected(seed, l, t, h, i);
    });
  }
  void Wipe() {
    ForEachRow([&](uint32_t, uint32_t, uint32_t, std::byte* row) {
      std::fill_n(row, row_bytes_, std::byte{0});
    });
  }

  // Every element is as Fill(seed) left it.
  void ExpectHolds(uint32_t seed) {
    size_t wrong = 0;
    ForEachRow([&](uint32_t l, uint32_t t, uint32_t h, std::byte* row) {
      for (size_t i = 0; i < row_bytes_; ++i) wrong += row[i] != Expected(seed, l, t, h, i);
    });
    EXPECT_EQ(wrong, 0u) << "elements differ";
  }

  // Everything that is no element still has the guard's value. Destroys the elements.
  void ExpectGuardsIntact() {
    ForEachRow([&](uint32_t, uint32_t, uint32_t, std::byte* row) {
      std::fill_n(row, row_bytes_, kGuard);
    });
    const auto touched = std::count_if(buffer_.begin(), buffer_.end(),
                                       [](std::byte byte) { return byte != kGuard; });
    EXPECT_EQ(touched, 0) << "bytes outside the view were written";
  }

  // The element at a place of the format: what byte `i` of row (layer, token, head) must be.
  static std::byte Expected(uint32_t seed, uint32_t l, uint32_t t, uint32_t h, size_t i) {
    const uint64_t place = ((uint64_t{l} * 8192 + t) * 1024 + h) * 16384 + i;
    return static_cast<std::byte>(((place + seed) * 0x9E3779B97F4A7C15u) >> 56);
  }

 private:
  static constexpr std::byte kGuard{0xA5};
  static constexpr size_t kGuardBytes = 64;

  template <typename Visit>
  void ForEachRow(Visit visit) {
    for (uint32_t l = 0; l < view_.shape[0]; ++l) {
      for (uint32_t t = 0; t < view_.shape[1]; ++t) {
        for (uint32_t h = 0; h < view_.shape[2]; ++h) visit(l, t, h, Row(l, t, h));
      }
    }
  }
  TensorView view_;
  size_t row_bytes_ = 0;
  std::vector<std::byte> buffer_;
};

}  // namespace reprise
