#include "chunk/rope.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "absl/strings/str_cat.h"

namespace reprise {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("rope", parts...));
}

bool IsPositive(double value) { return std::isfinite(value) && value > 0; }
// 0 has one spelling: -0.0 equals it, but is encoded differently.
bool IsZero(double value) { return value == 0 && !std::signbit(value); }
bool IsTokenCount(double value) {
  constexpr double kMaxTokens = 4294967296.0;  // 2^32
  return value >= 1 && value <= kMaxTokens && value == std::floor(value);
}

absl::Status Wrong(size_t index, double value, const char* wanted) {
  return Invalid(".scaling_parameters[", index, "] is ", value, "; it must be ", wanted);
}

// A factor of 1 scales nothing, which is kind none.
absl::Status CheckFactor(double factor) {
  if (IsPositive(factor) && factor != 1) return absl::OkStatus();
  return Wrong(0, factor, "a factor above 0 other than 1, which is spelled as kind none");
}

absl::Status CheckLlama3(std::span<const double> parameters) {
  REPRISE_RETURN_IF_ERROR(CheckFactor(parameters[0]));
  if (!IsPositive(parameters[1])) return Wrong(1, parameters[1], "above 0");
  if (!IsPositive(parameters[2]) || parameters[2] <= parameters[1]) {
    return Wrong(2, parameters[2], "above the low frequency factor");
  }
  if (!IsTokenCount(parameters[3])) return Wrong(3, parameters[3], "a number of tokens");
  return absl::OkStatus();
}

absl::Status CheckYarn(std::span<const double> parameters) {
  REPRISE_RETURN_IF_ERROR(CheckFactor(parameters[0]));
  if (!IsTokenCount(parameters[1])) return Wrong(1, parameters[1], "a number of tokens");
  if (!IsPositive(parameters[2])) return Wrong(2, parameters[2], "above 0");
  if (!IsPositive(parameters[3]) || parameters[3] >= parameters[2]) {
    return Wrong(3, parameters[3], "above 0 and below beta fast");
  }
  if (!IsPositive(parameters[4]) && !IsZero(parameters[4])) {
    return Wrong(4, parameters[4], "above 0, or 0 for the paper's");
  }
  if (parameters[5] != 1 && !IsZero(parameters[5])) return Wrong(5, parameters[5], "0 or 1");
  return absl::OkStatus();
}

absl::Status CheckPerPair(std::span<const double> parameters) {
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (!IsPositive(parameters[i])) return Wrong(i, parameters[i], "finite and above 0");
  }
  const std::span<const double> divisors = parameters.subspan(1);
  const bool all_equal = std::all_of(divisors.begin(), divisors.end(),
                                     [&](double divisor) { return divisor == divisors[0]; });
  if (all_equal && parameters[0] == 1) {
    return Invalid(".scaling_parameters divide every pair's frequency by ", divisors[0],
                   ", which is spelled as kind ", divisors[0] == 1 ? "none" : "linear");
  }
  return absl::OkStatus();
}

absl::Status CheckScaling(const Rope& rope) {
  const std::span<const double> parameters = rope.scaling_parameters;
  if (rope.scaling > RopeScaling::kPerPair) {
    return Invalid(".scaling is ", static_cast<int>(rope.scaling), ", unknown");
  }
  if (const size_t wanted = RopeParameterCount(rope.scaling, rope.rotated_dims);
      parameters.size() != wanted) {
    return Invalid(".scaling_parameters has ", parameters.size(), " numbers; scaling kind ",
                   static_cast<int>(rope.scaling), " has ", wanted);
  }
  switch (rope.scaling) {
    case RopeScaling::kNone:
      return absl::OkStatus();
    case RopeScaling::kLinear:
      return CheckFactor(parameters[0]);
    case RopeScaling::kLlama3:
      return CheckLlama3(parameters);
    case RopeScaling::kYarn:
      return CheckYarn(parameters);
    case RopeScaling::kPerPair:
      return CheckPerPair(parameters);
  }
  return absl::OkStatus();
}

}  // namespace

size_t RopeParameterCount(RopeScaling scaling, uint32_t rotated_dims) {
  switch (scaling) {
    case RopeScaling::kNone:
      return 0;
    case RopeScaling::kLinear:
      return 1;
    case RopeScaling::kLlama3:
      return 4;
    case RopeScaling::kYarn:
      return 6;
    case RopeScaling::kPerPair:
      return 1 + size_t{rotated_dims} / 2;
  }
  return 0;
}

absl::Status ValidateRope(const Rope& rope, uint32_t key_dim) {
  if (rope.pairing > RopePairing::kHalves) {
    return Invalid(".pairing is ", static_cast<int>(rope.pairing), ", unknown");
  }
  if (rope.pairing == RopePairing::kNone) {
    // One spelling of "no rope", or equal tensors would get different keys.
    if (rope.rotated_dims != 0 || !IsZero(rope.theta) || rope.scaling != RopeScaling::kNone ||
        !rope.scaling_parameters.empty()) {
      return Invalid(" has pairing none but sets rotated_dims ", rope.rotated_dims, ", theta ",
                     rope.theta, ", scaling kind ", static_cast<int>(rope.scaling), " or ",
                     rope.scaling_parameters.size(), " scaling parameters; leave them 0 and empty");
    }
    return absl::OkStatus();
  }
  if (rope.rotated_dims == 0 || rope.rotated_dims % 2 != 0 || rope.rotated_dims > key_dim) {
    return Invalid(".rotated_dims is ", rope.rotated_dims, "; it must be even, from 2 to key_dim ",
                   key_dim);
  }
  if (!IsPositive(rope.theta)) {
    return Invalid(".theta is ", rope.theta, "; it must be finite and above 0");
  }
  return CheckScaling(rope);
}

}  // namespace reprise
