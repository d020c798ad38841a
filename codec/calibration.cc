#include "codec/calibration.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <span>

#include "absl/strings/str_cat.h"

#include "codec/progressive/float16.h"
#include "codec/progressive/format.h"

namespace reprise {
namespace {

// Energies are taken to be at least this part of their mean, so that channels that nobody reads do
// not decide what the others get.
constexpr double kLeastShare = 0x1p-24;

std::vector<uint32_t> PartnersIn(const LayerGroup& group) {
  std::vector<uint32_t> partners(group.key_dim);
  std::iota(partners.begin(), partners.end(), 0U);
  const Rope& rope = group.rope;
  if (rope.pairing == RopePairing::kNone) return partners;
  const uint32_t first = group.kind == GroupKind::kLatent ? group.key_dim - rope.rotated_dims : 0;
  const bool halves = rope.pairing == RopePairing::kHalves;
  for (uint32_t pair = 0; pair < rope.rotated_dims / 2; ++pair) {
    const uint32_t a = first + (halves ? pair : 2 * pair);
    const uint32_t b = halves ? a + rope.rotated_dims / 2 : a + 1;
    std::swap(partners[a], partners[b]);
  }
  return partners;
}

void Widen(const std::byte* row, Dtype dtype, std::span<float> values) {
  if (dtype == Dtype::kFp32) {
    std::memcpy(values.data(), row, values.size_bytes());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, row + i * sizeof(bits), sizeof(bits));
    values[i] =
        dtype == Dtype::kFp16 ? progressive::FloatOfFp16(bits) : progressive::FloatOfBf16(bits);
  }
}

absl::Status CheckQueries(uint32_t layer, const LayerGroup& group, const TensorView& queries) {
  const auto wrong = [&](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat("layer ", layer, ": ", what));
  };
  if (IsOpaque(group.kind)) return wrong("its group is no attention");
  if (queries.dtype == Dtype::kOpaque) return wrong("queries must be bf16, fp16 or fp32");
  if (group.kv_heads == 0 || group.key_dim == 0) return wrong("its group has no heads or no dims");
  if (absl::Status rope = ValidateRope(group.rope, group.key_dim); !rope.ok()) {
    return wrong(std::string(rope.message()));
  }
  const auto& shape = queries.shape;
  if (shape[0] == 1 && shape[2] > 0 && shape[2] % group.kv_heads == 0 &&
      shape[3] == group.key_dim) {
    return absl::OkStatus();
  }
  return wrong(absl::StrCat("queries are [", shape[0], ", ", shape[1], ", ", shape[2], ", ",
                            shape[3], "]; they must be [1, tokens, a multiple of ", group.kv_heads,
                            ", ", group.key_dim, "]"));
}

}  // namespace

absl::StatusOr<Calibration> Calibration::Create(absl::string_view model, uint32_t layer_count) {
  if (layer_count > kMaxProfileLayers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the model has ", layer_count, " layers; a profile has at most ", kMaxProfileLayers));
  }
  std::string name(model.substr(0, kMaxProfileModelLength));
  std::ranges::replace_if(
      name, [](char c) { return c < ' ' || c > '~'; }, '?');
  return Calibration(std::move(name), layer_count);
}

absl::Status Calibration::Take(uint32_t layer, const LayerGroup& group, const TensorView& queries,
                               uint64_t first_position) {
  if (layer >= layers_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no layer ", layer, "; the model has ", layers_.size()));
  }
  REPRISE_RETURN_IF_ERROR(CheckQueries(layer, group, queries));
  Layer& to = layers_[layer];
  std::vector<uint32_t> partners = PartnersIn(group);
  if (to.rows.empty()) {
    const size_t channels = size_t{group.kv_heads} * group.key_dim;
    if (channels > kMaxProfileChannels - channels_) {
      return absl::InvalidArgumentError(
          absl::StrCat("layer ", layer, " has ", channels, " channels of K, the layers before ",
                       channels_, "; a profile has at most ", kMaxProfileChannels));
    }
    channels_ += channels;
    to.dims = group.key_dim;
    to.partners = std::move(partners);
    to.rows.resize(group.kv_heads);
    to.squares.resize(channels);
  } else if (to.rows.size() != group.kv_heads || to.partners != partners) {
    return absl::InvalidArgumentError(
        absl::StrCat("layer ", layer, " had other heads, dims or rope before"));
  }
  const uint32_t sharing = queries.shape[2] / group.kv_heads;
  const uint64_t begin = std::min<uint64_t>(
      queries.shape[1],
      std::max<uint64_t>(first_position, progressive::kSinkTokens) - first_position);
  std::vector<float> row(to.dims);
  for (uint32_t token = static_cast<uint32_t>(begin); token < queries.shape[1]; ++token) {
    for (uint32_t head = 0; head < queries.shape[2]; ++head) {
      Widen(queries.data + token * queries.stride_bytes[1] + head * queries.stride_bytes[2],
            queries.dtype, row);
      if (!std::ranges::all_of(row, [](float value) { return std::isfinite(value); })) continue;
      const uint32_t kv_head = head / sharing;
      ++to.rows[kv_head];
      double* const squares = to.squares.data() + size_t{kv_head} * to.dims;
      for (uint32_t dim = 0; dim < to.dims; ++dim) squares[dim] += double{row[dim]} * row[dim];
    }
  }
  return absl::OkStatus();
}

bool Calibration::Layer::known() const {
  return !rows.empty() && std::ranges::all_of(rows, [](uint64_t count) { return count > 0; });
}

std::vector<double> Calibration::Layer::Energies() const {
  std::vector<double> energies(squares.size());
  for (size_t head = 0; head < rows.size(); ++head) {
    for (uint32_t dim = 0; dim < dims; ++dim) {
      const double both = squares[head * dims + dim] + squares[head * dims + partners[dim]];
      energies[head * dims + dim] = both / 2 / static_cast<double>(rows[head]);
    }
  }
  return energies;
}

Profile Calibration::Finish() const {
  Profile profile{.model = model_, .layers = std::vector<Profile::Layer>(layers_.size())};
  std::vector<double> all;
  for (const Layer& layer : layers_) {
    if (!layer.known()) continue;
    const std::vector<double> energies = layer.Energies();
    all.insert(all.end(), energies.begin(), energies.end());
  }
  const auto count = static_cast<double>(all.size());
  const double least = kLeastShare * std::accumulate(all.begin(), all.end(), 0.0) / count;
  if (!(least > 0)) return profile;
  const auto octaves_of = [least](double energy) { return std::log2(std::max(energy, least)) / 2; };
  double reference = 0;
  for (const double energy : all) reference += octaves_of(energy) / count;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i].known()) continue;
    for (const double energy : layers_[i].Energies()) {
      const auto octaves = static_cast<int32_t>(std::lround(octaves_of(energy) - reference));
      profile.layers[i].key_channels.push_back(
          static_cast<int8_t>(std::clamp(octaves, kCoarsestOctaves, kFinestOctaves)));
    }
  }
  return profile;
}

}  // namespace reprise
