#include "codec/progressive/block.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "codec/progressive/float16.h"

namespace reprise::progressive {
namespace {

// 16-bit values in memory of their own, in some layout, between guard bytes.
struct Tensor {
  Tensor(Dtype dtype, uint32_t tokens, uint32_t heads, uint32_t dims, uint32_t layout) {
    const auto row = static_cast<int64_t>(dims) * 2 + (layout % 2) * 6;
    view.dtype = dtype;
    view.shape = {1, tokens, heads, dims};
    view.stride_bytes = {0, row * heads, row};
    if (layout % 3 == 1) view.stride_bytes = {0, row, row * tokens};
    memory.assign(static_cast<size_t>(row) * tokens * heads + 2 * kGuard, std::byte{0xA5});
    view.data = memory.data() + kGuard;
    if (layout % 3 == 2) {
      view.data += (tokens - 1) * view.stride_bytes[1];
      view.stride_bytes[1] = -view.stride_bytes[1];
    }
  }
  std::byte* At(uint32_t token, uint32_t head, uint32_t dim) const {
    return view.data + token * view.stride_bytes[1] + head * view.stride_bytes[2] +
           2 * int64_t{dim};
  }
  uint16_t Get(uint32_t token, uint32_t head, uint32_t dim) const {
    uint16_t bits = 0;
    std::memcpy(&bits, At(token, head, dim), sizeof(bits));
    return bits;
  }
  void Set(uint32_t token, uint32_t head, uint32_t dim, uint16_t bits) const {
    std::memcpy(At(token, head, dim), &bits, sizeof(bits));
  }
  template <typename Visit>
  void ForEach(Visit visit) const {
    for (uint32_t token = 0; token < view.shape[1]; ++token) {
      for (uint32_t head = 0; head < view.shape[2]; ++head) {
        for (uint32_t dim = 0; dim < view.shape[3]; ++dim) visit(token, head, dim);
      }
    }
  }

  static constexpr size_t kGuard = 64;
  std::vector<std::byte> memory;
  TensorView view;
};

uint16_t BitsOf(Dtype dtype, float value) {
  return dtype == Dtype::kBf16 ? Bf16Of(value) : Fp16Of(value);
}

enum class Content : uint8_t { kGaussian, kRandomBits, kZero, kSpecial, kOutliers, kLast };

void Fill(const Tensor& tensor, Content content, std::mt19937_64& random) {
  std::normal_distribution<float> gauss;
  constexpr std::array<uint16_t, 10> kSpecials = {0,      0x8000, 1,      0x8001, 0x7F80,
                                                  0xFF80, 0x7FC1, 0x7C00, 0x0080, 0x7F7F};
  tensor.ForEach([&](uint32_t token, uint32_t head, uint32_t dim) {
    const float size = std::exp2(static_cast<float>((head * 7 + dim * 5) % 9) - 5);
    uint16_t bits = 0;
    switch (content) {
      case Content::kGaussian:
        bits = BitsOf(tensor.view.dtype, gauss(random) * size + static_cast<float>(dim % 5));
        break;
      case Content::kRandomBits:
        bits = static_cast<uint16_t>(random());
        break;
      case Content::kSpecial:
        bits = random() % 4 == 0 ? kSpecials[random() % kSpecials.size()]
                                 : BitsOf(tensor.view.dtype, gauss(random));
        break;
      case Content::kOutliers:
        bits = BitsOf(tensor.view.dtype, gauss(random) * (random() % 97 == 0 ? 1000.0F : 1.0F) *
                                             (token % 13 == 3 ? 0.01F : 1.0F));
        break;
      case Content::kZero:
      case Content::kLast:
        break;
    }
    tensor.Set(token, head, dim, bits);
  });
}

BlockShape ShapeFor(Dtype dtype, uint32_t heads, uint32_t dims, uint32_t kind) {
  BlockShape shape;
  shape.dtype = dtype;
  shape.heads = heads;
  shape.dims = dims;
  if (kind == 0) {
    shape.token_scales = true;
  } else if (dims % 2 == 0 && kind < 4) {
    const uint32_t first = kind == 3 ? dims / 2 / 2 * 2 : 0;
    shape.rope = {kind == 1 ? RopePairing::kInterleaved : RopePairing::kHalves, first,
                  dims - first};
    for (uint32_t pair = 0; pair < shape.rope.dims / 2; ++pair) {
      shape.rope_rates.push_back(TurnsOf(std::pow(10000.0, -2.0 * pair / shape.rope.dims)));
    }
  }
  return shape;
}

// Steps of a profile that somebody made up.
struct Steps {
  Steps(const BlockShape& shape, std::mt19937_64& random) {
    if (random() % 2 == 0) return;
    choice.octaves = static_cast<int32_t>(random() % 5) - 2;
    if (random() % 2 == 0) return;
    octaves.resize(size_t{shape.heads} * shape.dims);
    for (int8_t& octave : octaves) octave = static_cast<int8_t>(random() % 16 - 8);
    choice.channels = octaves;
  }

  std::vector<int8_t> octaves;
  StepChoice choice;
};

std::vector<ByteSpan> SpansOf(const EncodedBlock& block, size_t count) {
  std::vector<ByteSpan> spans;
  for (size_t plane = 0; plane < count; ++plane) {
    spans.push_back(std::as_bytes(std::span(block.planes[plane])));
  }
  return spans;
}

constexpr std::array<uint32_t, 9> kTokenCounts = {1, 2, 5, 31, 32, 64, 255, 256, 300};
constexpr std::array<uint32_t, 8> kDims = {1, 8, 16, 40, 64, 72, 128, 576};

class BlockTest : public ::testing::TestWithParam<InstructionSet> {
 protected:
  void SetUp() override {
    // Such kernels cannot run here; the scalar ones are tested on every machine.
    if (KernelsOf(GetParam()) == nullptr) GTEST_SKIP() << "this machine has no such instructions";
  }
};

TEST_P(BlockTest, EveryTensorComesBackBitForBit) {
  const Kernels& kernels = *KernelsOf(GetParam());
  std::mt19937_64 random(7);
  for (uint32_t i = 0; i < 240; ++i) {
    const Dtype dtype = i % 2 == 0 ? Dtype::kBf16 : Dtype::kFp16;
    const uint32_t tokens = kTokenCounts[random() % kTokenCounts.size()];
    const uint32_t dims = kDims[random() % kDims.size()];
    const uint32_t heads = 1 + static_cast<uint32_t>(random() % 3);
    const auto content = static_cast<Content>(random() % static_cast<uint64_t>(Content::kLast));
    const uint64_t position = random() % 3 == 0 ? 0 : random() % 100000;
    const Tensor original(dtype, tokens, heads, dims, static_cast<uint32_t>(random()));
    Fill(original, content, random);
    const BlockShape shape = ShapeFor(dtype, heads, dims, static_cast<uint32_t>(random() % 5));
    BlockEncoder encoder(shape, kernels);
    EncodedBlock block;
    const Steps steps(shape, random);
    encoder.Encode(original.view, position, &block, steps.choice);
    EXPECT_LE(block.bytes(), size_t{2} * tokens * heads * dims + kPlanes);

    Tensor decoded(dtype, tokens, heads, dims, static_cast<uint32_t>(random()));
    BlockDecoder decoder(shape, kernels);
    ASSERT_TRUE(decoder.Decode(SpansOf(block, kPlanes), position, decoded.view).ok());
    bool same = true;
    original.ForEach([&](uint32_t token, uint32_t head, uint32_t dim) {
      same = same && original.Get(token, head, dim) == decoded.Get(token, head, dim);
    });
    EXPECT_TRUE(same) << "tokens " << tokens << " heads " << heads << " dims " << dims
                      << " content " << static_cast<int>(content) << " round " << i;
  }
}

TEST_P(BlockTest, SameBytesAndSameNumbersAsTheReference) {
  const Kernels& kernels = *KernelsOf(GetParam());
  std::mt19937_64 random(11);
  for (uint32_t i = 0; i < 160; ++i) {
    const Dtype dtype = i % 2 == 0 ? Dtype::kBf16 : Dtype::kFp16;
    const uint32_t tokens = kTokenCounts[random() % kTokenCounts.size()];
    const uint32_t dims = kDims[random() % kDims.size()];
    const uint32_t heads = 1 + static_cast<uint32_t>(random() % 2);
    const auto content = static_cast<Content>(random() % static_cast<uint64_t>(Content::kLast));
    const Tensor original(dtype, tokens, heads, dims, static_cast<uint32_t>(random()));
    Fill(original, content, random);
    const BlockShape shape = ShapeFor(dtype, heads, dims, static_cast<uint32_t>(random() % 5));
    BlockEncoder encoder(shape, kernels);
    BlockEncoder reference(shape, ScalarKernels());
    EncodedBlock block;
    EncodedBlock expected;
    const Steps steps(shape, random);
    encoder.Encode(original.view, i, &block, steps.choice);
    reference.Encode(original.view, i, &expected, steps.choice);
    ASSERT_EQ(block.planes, expected.planes) << "round " << i;
    EXPECT_EQ(block.squared_error, expected.squared_error);
    EXPECT_EQ(block.squared_norm, expected.squared_norm);

    BlockDecoder decoder(shape, kernels);
    BlockDecoder reference_decoder(shape, ScalarKernels());
    for (size_t count = 1; count <= kPlanes; ++count) {
      Tensor decoded(dtype, tokens, heads, dims, 0);
      Tensor wanted(dtype, tokens, heads, dims, 0);
      ASSERT_TRUE(decoder.Decode(SpansOf(block, count), i, decoded.view).ok());
      ASSERT_TRUE(reference_decoder.Decode(SpansOf(block, count), i, wanted.view).ok());
      EXPECT_EQ(decoded.memory, wanted.memory) << "planes " << count << " round " << i;
    }
  }
}

// Encoders hold cells to kCellLimit; bytes that somebody made up do not.
TEST_P(BlockTest, CellsBeyondTheLimitLieWhereTheReferencePutsThem) {
  std::array<int16_t, kTileTokens> cells{};
  for (size_t i = 0; i < cells.size(); ++i) cells[i] = static_cast<int16_t>(i * 257 - 32768);
  const Placement placement{.scale = 0.5F, .mean = 0.25F};
  std::array<float, kTileTokens> values{};
  std::array<float, kTileTokens> wanted{};
  KernelsOf(GetParam())->place(cells.data(), kTileRows, placement, values.data());
  ScalarKernels().place(cells.data(), kTileRows, placement, wanted.data());
  EXPECT_EQ(values, wanted);
}

TEST_P(BlockTest, EachPlaneHalvesTheErrorThatTheEncoderMeasured) {
  std::mt19937_64 random(3);
  for (const uint32_t kind : {0U, 1U, 2U}) {
    const Tensor original(Dtype::kBf16, 256, 2, 64, 0);
    std::normal_distribution<float> gauss;
    original.ForEach([&](uint32_t token, uint32_t head, uint32_t dim) {
      original.Set(token, head, dim, Bf16Of(2 * gauss(random)));
    });
    const BlockShape shape = ShapeFor(Dtype::kBf16, 2, 64, kind);
    BlockEncoder encoder(shape, *KernelsOf(GetParam()));
    BlockDecoder decoder(shape, *KernelsOf(GetParam()));
    EncodedBlock block;
    encoder.Encode(original.view, 512, &block);
    double before = 0;
    for (size_t level = 0; level < kLossyPlanes; ++level) {
      Tensor decoded(Dtype::kBf16, 256, 2, 64, 0);
      ASSERT_TRUE(decoder.Decode(SpansOf(block, level + 1), 512, decoded.view).ok());
      double error = 0;
      double norm = 0;
      original.ForEach([&](uint32_t token, uint32_t head, uint32_t dim) {
        const double value = FloatOfBf16(original.Get(token, head, dim));
        const double e = value - FloatOfBf16(decoded.Get(token, head, dim));
        error += e * e;
        norm += value * value;
      });
      // The encoder measures a quarter of the rows, and rounding to bf16 comes on top.
      const double measured = block.squared_error[level] / block.squared_norm;
      EXPECT_NEAR(std::sqrt(error / norm / measured), 1, 0.05) << "level " << level;
      if (level > 0) {
        EXPECT_LT(std::sqrt(error), 0.62 * before) << "level " << level;
      }
      before = std::sqrt(error);
    }
  }
}

TEST_P(BlockTest, DamagedBytesAreRefusedOrDecodeWithinTheView) {
  std::mt19937_64 random(5);
  const BlockShape shape = ShapeFor(Dtype::kFp16, 1, 72, 1);
  const Tensor original(Dtype::kFp16, 300, 1, 72, 0);
  Fill(original, Content::kGaussian, random);
  BlockEncoder encoder(shape, *KernelsOf(GetParam()));
  BlockDecoder decoder(shape, *KernelsOf(GetParam()));
  EncodedBlock good;
  encoder.Encode(original.view, 0, &good);
  ASSERT_EQ(good.planes[0][0], 1) << "the block is not stored raw";
  uint32_t refused = 0;
  for (uint32_t i = 0; i < 3000; ++i) {
    EncodedBlock bad = good;
    std::vector<uint8_t>& plane = bad.planes[random() % kPlanes];
    if (i % 3 == 0) {
      plane.resize(random() % plane.size());
    } else {
      const size_t at =
          i % 3 == 1 ? random() % plane.size() : random() % std::min<size_t>(plane.size(), 700);
      plane[at] = static_cast<uint8_t>(random());
    }
    const Tensor decoded(Dtype::kFp16, 300, 1, 72, 0);
    if (!decoder.Decode(SpansOf(bad, kPlanes), 0, decoded.view).ok()) ++refused;
    for (size_t g = 0; g < Tensor::kGuard; ++g) {
      ASSERT_EQ(decoded.memory[g], std::byte{0xA5});
      ASSERT_EQ(decoded.memory[decoded.memory.size() - 1 - g], std::byte{0xA5});
    }
  }
  EXPECT_GT(refused, 1000U);
}

std::string NameOf(const ::testing::TestParamInfo<InstructionSet>& set) {
  constexpr std::array kNames = {"Scalar", "Avx2", "Avx512"};
  return kNames[static_cast<size_t>(set.param)];
}

INSTANTIATE_TEST_SUITE_P(All, BlockTest,
                         ::testing::Values(InstructionSet::kScalar, InstructionSet::kAvx2,
                                           InstructionSet::kAvx512),
                         NameOf);

}  // namespace
}  // namespace reprise::progressive
