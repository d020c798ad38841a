#include "codec/progressive/parameters.h"

#include <cmath>
#include <cstring>
#include <numbers>

#include "absl/strings/str_cat.h"

#include "codec/progressive/byte_reader.h"
#include "codec/progressive/format.h"
#include "codec/progressive/rope_angles.h"

namespace reprise::progressive {
namespace {

template <typename T>
void Put(std::vector<std::byte>& bytes, T value) {
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(value));
}

// docs/keys.md, "Rope".
double Frequency(const Rope& rope, uint32_t pair) {
  const double plain = std::pow(rope.theta, -2.0 * pair / rope.rotated_dims);
  const std::vector<double>& p = rope.scaling_parameters;
  switch (rope.scaling) {
    case RopeScaling::kLinear:
      return plain / p[0];
    case RopeScaling::kPerPair:
      return plain / p[1 + pair];
    case RopeScaling::kLlama3: {
      const double wavelength = 2 * std::numbers::pi / plain;
      if (wavelength < p[3] / p[2]) return plain;
      if (wavelength > p[3] / p[1]) return plain / p[0];
      const double kept = (p[3] / wavelength - p[1]) / (p[2] - p[1]);
      return kept * plain + (1 - kept) * plain / p[0];
    }
    case RopeScaling::kNone:
    case RopeScaling::kYarn:
      break;
  }
  return plain;
}

}  // namespace

Parameters ParametersFor(const Rope& rope, uint32_t key_dim, bool latent) {
  Parameters parameters;
  if (rope.pairing == RopePairing::kNone || rope.scaling == RopeScaling::kYarn) return parameters;
  parameters.rope.pairing = rope.pairing;
  parameters.rope.dims = rope.rotated_dims;
  parameters.rope.first_dim = latent ? key_dim - rope.rotated_dims : 0;
  for (uint32_t pair = 0; pair < rope.rotated_dims / 2; ++pair) {
    parameters.rope_rates.push_back(TurnsOf(Frequency(rope, pair)));
  }
  return parameters;
}

std::vector<std::byte> Serialize(const Parameters& parameters) {
  std::vector<std::byte> bytes;
  Put(bytes, kFormatVersion);
  Put(bytes, static_cast<uint8_t>(parameters.rope.pairing));
  Put(bytes, uint16_t{0});
  Put(bytes, parameters.block_tokens);
  Put(bytes, parameters.rope.first_dim);
  Put(bytes, parameters.rope.dims);
  for (const uint64_t rate : parameters.rope_rates) Put(bytes, rate);
  return bytes;
}

absl::StatusOr<Parameters> ParseParameters(ByteSpan bytes, uint32_t key_dim) {
  ByteReader reader(bytes);
  const auto version = reader.Read<uint8_t>();
  if (reader.ok() && version != kFormatVersion) {
    return absl::UnimplementedError(absl::StrCat("the piece has version ", int{version},
                                                 " of the progressive codec; this build knows ",
                                                 int{kFormatVersion}));
  }
  const auto pairing = reader.Read<uint8_t>();
  const auto reserved = reader.Read<uint16_t>();
  Parameters parameters;
  parameters.block_tokens = reader.Read<uint32_t>();
  parameters.rope.pairing = static_cast<RopePairing>(pairing);
  parameters.rope.first_dim = reader.Read<uint32_t>();
  parameters.rope.dims = reader.Read<uint32_t>();
  const RopeShape& rope = parameters.rope;
  const bool rotated = pairing != 0;
  if (!reader.ok() || reserved != 0 || pairing > static_cast<uint8_t>(RopePairing::kHalves) ||
      parameters.block_tokens == 0 || parameters.block_tokens % kTileTokens != 0 ||
      rope.first_dim > key_dim || rope.dims > key_dim - rope.first_dim || rope.dims % 2 != 0 ||
      rotated != (rope.dims != 0) || (!rotated && rope.first_dim != 0) ||
      reader.left() != rope.dims / 2 * sizeof(uint64_t)) {
    return absl::DataLossError("the piece's codec parameters are not what an encoder makes");
  }
  for (uint32_t pair = 0; pair < rope.dims / 2; ++pair) {
    parameters.rope_rates.push_back(reader.Read<uint64_t>());
  }
  return parameters;
}

}  // namespace reprise::progressive
