// All instruction sets make the same bytes and numbers of 20,000 random tensors: small ones, so
// that every remainder of rows, runs, groups and lanes comes by.

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "codec/progressive/block.h"

namespace reprise::progressive {
namespace {

constexpr uint32_t kRounds = 20000;
constexpr size_t kGuard = 64;
constexpr std::byte kUntouched{0xA5};

struct Random {
  uint32_t operator()() { return static_cast<uint32_t>(engine()); }

  std::mt19937 engine;
};

// A tensor somewhere in guarded memory, its rows apart by more than they need.
struct Tensor {
  Tensor(const BlockShape& shape, uint32_t tokens, Random& random) {
    const auto head = static_cast<int64_t>(2 * (shape.dims + random() % 3));
    const bool heads_outside = random() % 2 == 0;
    view.dtype = shape.dtype;
    view.shape = {1, tokens, shape.heads, shape.dims};
    view.stride_bytes = heads_outside ? std::array<int64_t, 3>{0, head, head * tokens}
                                      : std::array<int64_t, 3>{0, head * shape.heads, head};
    memory.assign(static_cast<size_t>(head) * tokens * shape.heads + 2 * kGuard, kUntouched);
    view.data = memory.data() + kGuard;
  }
  std::byte* At(uint32_t token, uint32_t head, uint32_t dim) const {
    return view.data + token * view.stride_bytes[1] + head * view.stride_bytes[2] +
           2 * int64_t{dim};
  }

  std::vector<std::byte> memory;
  TensorView view;
};

BlockShape RandomShape(Random& random) {
  BlockShape shape;
  shape.dtype = random() % 2 == 0 ? Dtype::kBf16 : Dtype::kFp16;
  shape.heads = 1 + random() % 3;
  shape.dims = 1 + random() % 72;
  const uint32_t kind = random() % 4;
  shape.token_scales = kind == 0;
  if (kind >= 2) {
    const uint32_t pairs = random() % (shape.dims / 2 + 1);
    const uint32_t first = random() % (shape.dims - 2 * pairs + 1);
    if (pairs > 0) {
      shape.rope = {kind == 2 ? RopePairing::kInterleaved : RopePairing::kHalves, first, 2 * pairs};
    }
    for (uint32_t pair = 0; pair < pairs; ++pair) {
      shape.rope_rates.push_back(TurnsOf(std::pow(10000.0, -1.0 * pair / pairs)));
    }
  }
  return shape;
}

// Values of many sizes, sometimes bits of any kind.
void Fill(const Tensor& tensor, Random& random) {
  const uint32_t content = random() % 8;
  const int octave = static_cast<int>(random() % 40) - 20;
  for (uint32_t token = 0; token < tensor.view.shape[1]; ++token) {
    for (uint32_t head = 0; head < tensor.view.shape[2]; ++head) {
      for (uint32_t dim = 0; dim < tensor.view.shape[3]; ++dim) {
        uint16_t bits = static_cast<uint16_t>(random());
        if (content != 0) {
          // Sums of uniform numbers are near enough to a bell.
          const float bell = static_cast<float>(random() % 4096 + random() % 4096) / 4096 - 1;
          const float value = std::ldexp(bell + static_cast<float>(dim % content), octave / 2);
          bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
          if (tensor.view.dtype == Dtype::kFp16)
            bits = static_cast<uint16_t>(0x2000 + bits % 0x2000);
        }
        std::memcpy(tensor.At(token, head, dim), &bits, sizeof(bits));
      }
    }
  }
}

TEST(IdentityTest, InstructionSetsAgreeOnTwentyThousandTensors) {
  std::vector<const Kernels*> sets;
  for (const InstructionSet set : {InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (const Kernels* kernels = KernelsOf(set); kernels != nullptr) sets.push_back(kernels);
  }
  // Then there is nothing to compare the reference with.
  if (sets.empty()) GTEST_SKIP() << "this machine has scalar instructions only";
  Random random{std::mt19937(20000)};
  for (uint32_t round = 0; round < kRounds; ++round) {
    const BlockShape shape = RandomShape(random);
    const uint32_t tokens = 1 + random() % (round % 50 == 0 ? 300 : 70);
    const uint64_t position = random() % 4 == 0 ? 0 : random();
    const Tensor source(shape, tokens, random);
    Fill(source, random);
    EncodedBlock expected;
    BlockEncoder(shape, ScalarKernels()).Encode(source.view, position, &expected);
    std::array<ByteSpan, kPlanes> planes;
    for (size_t plane = 0; plane < kPlanes; ++plane) {
      planes[plane] = std::as_bytes(std::span(expected.planes[plane]));
    }
    const auto count = 1 + random() % kPlanes;
    const Tensor blank(shape, tokens, random);
    std::vector<std::byte> wanted = blank.memory;
    TensorView to = blank.view;
    to.data = wanted.data() + kGuard;
    ASSERT_TRUE(BlockDecoder(shape, ScalarKernels())
                    .Decode(std::span(planes).first(count), position, to)
                    .ok());
    for (const Kernels* kernels : sets) {
      const std::string where = std::string(kernels->name) + ", round " + std::to_string(round);
      EncodedBlock block;
      BlockEncoder(shape, *kernels).Encode(source.view, position, &block);
      ASSERT_EQ(block.planes, expected.planes) << where;
      ASSERT_EQ(block.squared_error, expected.squared_error) << where;
      ASSERT_EQ(block.squared_norm, expected.squared_norm) << where;
      std::vector<std::byte> decoded = blank.memory;
      to.data = decoded.data() + kGuard;
      ASSERT_TRUE(
          BlockDecoder(shape, *kernels).Decode(std::span(planes).first(count), position, to).ok());
      ASSERT_EQ(decoded, wanted) << where;
    }
  }
}

}  // namespace
}  // namespace reprise::progressive
