#include "chunk/rope.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kKeyDim = 64;

Rope Scaled(RopeScaling scaling, std::vector<double> parameters) {
  return {.pairing = RopePairing::kHalves,
          .rotated_dims = 4,
          .theta = 10000,
          .scaling = scaling,
          .scaling_parameters = std::move(parameters)};
}

TEST(ValidateRope, AcceptsEveryKindWithWhatModelsState) {
  const std::vector<Rope> ropes = {
      {},
      Scaled(RopeScaling::kNone, {}),
      Scaled(RopeScaling::kLinear, {8}),                          // Gemma 3 4B, full layers
      Scaled(RopeScaling::kLlama3, {8, 1, 4, 8192}),              // Llama 3.1
      Scaled(RopeScaling::kYarn, {4, 32768, 32, 1, 0, 1}),        // Qwen2.5
      Scaled(RopeScaling::kYarn, {40, 4096, 32, 1, 1.0, 1}),      // DeepSeek-V3
      Scaled(RopeScaling::kYarn, {32, 4096, 32, 1, 0, 0}),        // gpt-oss
      Scaled(RopeScaling::kPerPair, {1.1902380714238083, 1, 2}),  // Phi-3
  };
  for (const Rope& rope : ropes) {
    EXPECT_TRUE(ValidateRope(rope, kKeyDim).ok()) << ValidateRope(rope, kKeyDim);
  }
}

TEST(ValidateRope, RefusesParametersThatMakeNoSenseAndSecondSpellings) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<std::string, Rope>> refused = {
      {"scaling is 5", Scaled(static_cast<RopeScaling>(5), {})},
      {"has 1 numbers; scaling kind 0 has 0", Scaled(RopeScaling::kNone, {8})},
      {"has 0 numbers; scaling kind 1 has 1", Scaled(RopeScaling::kLinear, {})},
      {"kind none", Scaled(RopeScaling::kLinear, {1})},
      {"parameters[0]", Scaled(RopeScaling::kLinear, {0})},
      {"parameters[0]", Scaled(RopeScaling::kLinear, {-2})},
      {"parameters[0]", Scaled(RopeScaling::kLinear, {nan})},
      {"parameters[0]", Scaled(RopeScaling::kLinear, {infinity})},
      {"has 3 numbers", Scaled(RopeScaling::kLlama3, {8, 1, 4})},
      {"kind none", Scaled(RopeScaling::kLlama3, {1, 1, 4, 8192})},
      {"parameters[1]", Scaled(RopeScaling::kLlama3, {8, 0, 4, 8192})},
      {"parameters[2]", Scaled(RopeScaling::kLlama3, {8, 4, 4, 8192})},
      {"parameters[3]", Scaled(RopeScaling::kLlama3, {8, 1, 4, 8192.5})},
      {"parameters[1]", Scaled(RopeScaling::kYarn, {4, 0, 32, 1, 0, 1})},
      {"parameters[2]", Scaled(RopeScaling::kYarn, {4, 32768, nan, 1, 0, 1})},
      {"parameters[3]", Scaled(RopeScaling::kYarn, {4, 32768, 32, 32, 0, 1})},
      {"parameters[4]", Scaled(RopeScaling::kYarn, {4, 32768, 32, 1, -0.0, 1})},
      {"parameters[5]", Scaled(RopeScaling::kYarn, {4, 32768, 32, 1, 0, 2})},
      {"parameters[5]", Scaled(RopeScaling::kYarn, {4, 32768, 32, 1, 0, -0.0})},
      {"has 2 numbers; scaling kind 4 has 3", Scaled(RopeScaling::kPerPair, {1, 2})},
      {"parameters[0]", Scaled(RopeScaling::kPerPair, {0, 1, 2})},
      {"parameters[2]", Scaled(RopeScaling::kPerPair, {1, 1, -2})},
      {"kind none", Scaled(RopeScaling::kPerPair, {1, 1, 1})},
      {"kind linear", Scaled(RopeScaling::kPerPair, {1, 8, 8})},
  };
  for (const auto& [message, rope] : refused) {
    const absl::Status status = ValidateRope(rope, kKeyDim);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(ValidateRope, WithoutPairingEverythingElseIsEmpty) {
  EXPECT_FALSE(ValidateRope({.rotated_dims = 2}, kKeyDim).ok());
  EXPECT_FALSE(ValidateRope({.theta = 1}, kKeyDim).ok());
  EXPECT_FALSE(ValidateRope({.theta = -0.0}, kKeyDim).ok());
  EXPECT_FALSE(ValidateRope({.scaling = RopeScaling::kLinear}, kKeyDim).ok());
  EXPECT_FALSE(ValidateRope({.scaling_parameters = {1}}, kKeyDim).ok());
}

}  // namespace
}  // namespace reprise
