#include "codec/progressive/piece.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"

#include "codec/progressive/block.h"
#include "codec/progressive/parameters.h"
#include "common/limits.h"

namespace reprise::progressive {
namespace {

// A tensor's view and shape for the blocks of one part.
struct Part {
  TensorPart part = TensorPart::kKey;
  const TensorView* view = nullptr;
  BlockShape shape;
};

// V has token scales and no rope; a latent is K.
std::vector<Part> PartsOf(Dtype dtype, const Parameters& parameters, const TensorView& key,
                          const TensorView& value) {
  std::vector<Part> parts;
  const auto add = [&](TensorPart part, const TensorView& view) -> BlockShape& {
    Part& added = parts.emplace_back();
    added.part = part;
    added.view = &view;
    added.shape.dtype = dtype;
    added.shape.heads = view.shape[2];
    added.shape.dims = view.shape[3];
    return added.shape;
  };
  BlockShape& key_shape = add(TensorPart::kKey, key);
  key_shape.rope = parameters.rope;
  key_shape.rope_rates = parameters.rope_rates;
  if (value.present()) add(TensorPart::kValue, value).token_scales = true;
  return parts;
}

// What a level has of the planes of K and of V: each level halves the error of one of them, then
// of both; the last is exact. A segment of a plane that says nothing new is one byte.
struct LevelPlanes {
  uint32_t key;
  uint32_t value;

  uint32_t Of(TensorPart part) const { return part == TensorPart::kValue ? value : key; }
};
constexpr std::array<LevelPlanes, kProgressiveLevels> kLevels = {
    {{1, 1}, {2, 1}, {2, 2}, {3, 2}, {3, 3}, {4, 4}, {5, 5}, {kPlanes, kPlanes}}};
constexpr std::byte kNothing{2};

// The plane of a block that a piece's plane holds of `part`, if any.
std::optional<uint32_t> BlockPlane(uint32_t plane, TensorPart part) {
  const uint32_t count = kLevels[plane].Of(part);
  if (plane > 0 && kLevels[plane - 1].Of(part) == count) return std::nullopt;
  return count - 1;
}

uint32_t BlockCount(uint32_t tokens, uint32_t block_tokens) {
  return (tokens + block_tokens - 1) / block_tokens;
}

TensorView BlockView(const TensorView& view, uint32_t layer, uint32_t block,
                     uint32_t block_tokens) {
  const uint32_t begin = block * block_tokens;
  return view.Sub(layer, layer + 1, begin, std::min(begin + block_tokens, view.shape[1]), 0,
                  view.shape[2]);
}

// Tokens of a block such that no plane of it can outgrow a segment: at worst a plane holds the
// block as it is and a little more.
uint32_t BlockTokens(const TensorView& key, const TensorView& value) {
  const uint64_t row_bytes =
      uint64_t{2} * std::max(key.shape[2] * uint64_t{key.shape[3]},
                             value.present() ? value.shape[2] * uint64_t{value.shape[3]} : 0);
  const uint64_t tokens = kMaxPartBytes * 3 / 4 / row_bytes / kTileTokens * kTileTokens;
  return static_cast<uint32_t>(std::min<uint64_t>(tokens, kMaxTokensPerChunk));
}

// What the profile says of the slot's `layer`th layer.
StepChoice ChoiceFor(const Profile* profile, const LayerGroup& group, const PieceSlot& slot,
                     uint32_t layer, TensorPart part) {
  StepChoice choice;
  if (profile == nullptr) return choice;
  const Profile::Layer& steps = profile->layers[group.layers[slot.layer_begin + layer]];
  choice.octaves = part == TensorPart::kValue ? steps.value_octaves : steps.key_octaves;
  if (part == TensorPart::kKey && !steps.key_channels.empty()) {
    choice.channels = std::span(steps.key_channels)
                          .subspan(size_t{slot.head_begin} * group.key_dim,
                                   size_t{slot.head_end - slot.head_begin} * group.key_dim);
  }
  return choice;
}

float RelativeError(double squared_error, double squared_norm) {
  return squared_norm > 0 ? static_cast<float>(std::sqrt(squared_error / squared_norm)) : 0;
}

}  // namespace

bool CanCode(const LayerGroup& group, Dtype dtype) {
  return !IsOpaque(group.kind) && (dtype == Dtype::kBf16 || dtype == Dtype::kFp16);
}

absl::StatusOr<std::vector<std::byte>> EncodePiece(PieceHeader header, const LayerGroup& group,
                                                   const TensorView& key, const TensorView& value,
                                                   const Profile* profile) {
  Parameters parameters =
      ParametersFor(group.rope, header.key_dim, header.group_kind == GroupKind::kLatent);
  parameters.block_tokens = BlockTokens(key, value);
  if (parameters.block_tokens == 0) {
    return absl::InvalidArgumentError("one tile of the piece is larger than a segment");
  }
  const std::vector<Part> parts = PartsOf(header.dtype, parameters, key, value);
  const uint32_t layers = key.shape[0];
  const uint32_t blocks = BlockCount(key.shape[1], parameters.block_tokens);

  // By layer, then part, then block: the order inside a plane.
  std::vector<EncodedBlock> encoded(size_t{layers} * parts.size() * blocks);
  header.levels.assign(kLevels.size(), {.distortions = std::vector<Distortion>(layers)});
  for (size_t p = 0; p < parts.size(); ++p) {
    BlockEncoder encoder(parts[p].shape);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      const StepChoice choice = ChoiceFor(profile, group, header.slot, layer, parts[p].part);
      std::array<double, kLossyPlanes> squared_error{};
      double squared_norm = 0;
      for (uint32_t block = 0; block < blocks; ++block) {
        EncodedBlock& result = encoded[(layer * parts.size() + p) * blocks + block];
        encoder.Encode(BlockView(*parts[p].view, layer, block, parameters.block_tokens),
                       header.token_begin + uint64_t{block} * parameters.block_tokens, &result,
                       choice);
        for (uint32_t level = 0; level < kLossyPlanes; ++level) {
          squared_error[level] += result.squared_error[level];
        }
        squared_norm += result.squared_norm;
      }
      for (uint32_t level = 0; level + 1 < kLevels.size(); ++level) {
        const uint32_t plane = kLevels[level].Of(parts[p].part) - 1;
        Distortion& distortion = header.levels[level].distortions[layer];
        (parts[p].part == TensorPart::kValue ? distortion.value : distortion.key) =
            RelativeError(squared_error[plane], squared_norm);
      }
    }
  }

  header.codec = CodecId::kProgressive;
  header.codec_parameters = Serialize(parameters);
  std::vector<Segment> segments;
  for (uint16_t plane = 0; plane < kLevels.size(); ++plane) {
    for (size_t i = 0; i < encoded.size(); ++i) {
      const auto block = static_cast<uint32_t>(i % blocks);
      const uint32_t begin = block * parameters.block_tokens;
      const TensorPart part = parts[i / blocks % parts.size()].part;
      const std::optional<uint32_t> source = BlockPlane(plane, part);
      const size_t length = source ? encoded[i].planes[*source].size() : sizeof(kNothing);
      segments.push_back({.plane = plane,
                          .part = part,
                          .layer = static_cast<uint32_t>(i / blocks / parts.size()),
                          .token_begin = begin,
                          .token_count = std::min(parameters.block_tokens, key.shape[1] - begin),
                          .length = static_cast<uint32_t>(length)});
    }
  }
  REPRISE_ASSIGN_OR_RETURN(PieceLayout layout,
                           PieceLayout::Create(std::move(header), std::move(segments)));
  std::vector<std::byte> container(layout.total_bytes());
  uint32_t index = 0;
  for (uint32_t plane = 0; plane < kLevels.size(); ++plane) {
    for (size_t i = 0; i < encoded.size(); ++i) {
      const MutableByteSpan to = layout.SegmentBytes(index++, container);
      const auto source = BlockPlane(plane, parts[i / blocks % parts.size()].part);
      if (source) {
        std::memcpy(to.data(), encoded[i].planes[*source].data(), to.size());
      } else {
        to.front() = kNothing;
      }
    }
  }
  layout.Seal(container);
  return container;
}

namespace {

class Decoder final : public PieceDecoder {
 public:
  Decoder(const PieceMeta& meta, Parameters parameters, const TensorView& key,
          const TensorView& value, const Kernels& kernels)
      : meta_(meta),
        parameters_(std::move(parameters)),
        key_(key),
        value_(value),
        kernels_(kernels),
        taken_(meta.segments().size(), false) {}

  absl::Status Take(uint32_t segment, ByteSpan bytes) override;
  absl::Status Finish() override;

 private:
  absl::Status FinishBlock(BlockDecoder& decoder, const Part& part, uint32_t layer, uint32_t block,
                           size_t index_in_plane, size_t plane_segments);

  const PieceMeta& meta_;
  const Parameters parameters_;
  const TensorView key_;
  const TensorView value_;
  const Kernels& kernels_;
  std::vector<bool> taken_;
  std::vector<std::byte> body_;
};

absl::Status Decoder::Take(uint32_t segment, ByteSpan bytes) {
  if (segment >= taken_.size()) {
    return absl::InvalidArgumentError(absl::StrCat("segment ", segment, " does not exist"));
  }
  const Segment& described = meta_.segments()[segment];
  if (bytes.size() != described.length) {
    return absl::DataLossError(absl::StrCat("segment ", segment, " has ", bytes.size(),
                                            " bytes instead of ", described.length));
  }
  const size_t end = described.offset + described.length;
  if (body_.size() < end) body_.resize(end);
  std::ranges::copy(bytes, body_.begin() + static_cast<ptrdiff_t>(described.offset));
  taken_[segment] = true;
  return absl::OkStatus();
}

absl::Status Decoder::Finish() {
  const std::vector<Part> parts = PartsOf(meta_.header().dtype, parameters_, key_, value_);
  const uint32_t layers = meta_.layer_count();
  const uint32_t blocks = BlockCount(key_.shape[1], parameters_.block_tokens);
  const size_t plane_segments = layers * parts.size() * blocks;
  if (plane_segments * meta_.level_count() != taken_.size()) {
    return absl::DataLossError("the piece's directory does not go with its codec parameters");
  }
  for (size_t p = 0; p < parts.size(); ++p) {
    BlockDecoder decoder(parts[p].shape, kernels_);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      for (uint32_t block = 0; block < blocks; ++block) {
        const size_t index = (layer * parts.size() + p) * blocks + block;
        REPRISE_RETURN_IF_ERROR(
            FinishBlock(decoder, parts[p], layer, block, index, plane_segments));
      }
    }
  }
  return absl::OkStatus();
}

absl::Status Decoder::FinishBlock(BlockDecoder& decoder, const Part& part, uint32_t layer,
                                  uint32_t block, size_t index_in_plane, size_t plane_segments) {
  const TensorView view = BlockView(*part.view, layer, block, parameters_.block_tokens);
  std::array<ByteSpan, kPlanes> planes;
  size_t count = 0;
  for (uint32_t plane = 0; plane < meta_.level_count(); ++plane) {
    const size_t index = plane * plane_segments + index_in_plane;
    if (!taken_[index]) break;
    const Segment& segment = meta_.segments()[index];
    if (segment.part != part.part || segment.layer != layer ||
        segment.token_begin != block * parameters_.block_tokens ||
        segment.token_count != view.shape[1]) {
      return absl::DataLossError(
          absl::StrCat("segment ", index, " is not the block that an encoder puts there"));
    }
    const ByteSpan bytes = ByteSpan(body_).subspan(segment.offset, segment.length);
    if (BlockPlane(plane, part.part)) {
      planes[count++] = bytes;
    } else if (bytes.size() != 1 || bytes.front() != kNothing) {
      return absl::DataLossError(absl::StrCat("segment ", index, " should say nothing new"));
    }
  }
  if (count == 0) return absl::OkStatus();  // a layer that was not asked for
  const uint64_t position = meta_.header().token_begin + uint64_t{block} * parameters_.block_tokens;
  return Annotate(decoder.Decode(std::span(planes).first(count), position, view),
                  absl::StrCat("layer ", layer, part.part == TensorPart::kValue ? " V" : " K"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PieceDecoder>> CreateDecoder(const PieceMeta& meta,
                                                            const TensorView& key,
                                                            const TensorView& value,
                                                            const Kernels& kernels) {
  const PieceHeader& header = meta.header();
  if (header.dtype != Dtype::kBf16 && header.dtype != Dtype::kFp16) {
    return absl::UnimplementedError(
        absl::StrCat("the progressive codec does not know dtype ", static_cast<int>(header.dtype)));
  }
  REPRISE_ASSIGN_OR_RETURN(Parameters parameters,
                           ParseParameters(header.codec_parameters, header.key_dim));
  if (meta.level_count() != kLevels.size()) {
    return absl::DataLossError(absl::StrCat("a progressive piece has ", meta.level_count(),
                                            " levels instead of ", kLevels.size()));
  }
  return std::make_unique<Decoder>(meta, std::move(parameters), key, value, kernels);
}

}  // namespace reprise::progressive
