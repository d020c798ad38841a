#include <algorithm>
#include <cstring>
#include <utility>

#include "codec/progressive/block.h"
#include "codec/progressive/block_format.h"
#include "codec/progressive/tile_format.h"

namespace reprise::progressive {

size_t EncodedBlock::bytes() const {
  size_t total = 0;
  for (const std::vector<uint8_t>& plane : planes) total += plane.size();
  return total;
}

BlockEncoder::BlockEncoder(BlockShape shape, const Kernels& kernels)
    : shape_(std::move(shape)),
      tiling_(Tiling::Of(shape_.heads, shape_.dims, shape_.rope)),
      encoder_(kernels, shape_.dtype) {}

void BlockEncoder::Encode(const TensorView& view, uint64_t first_position, EncodedBlock* block,
                          const StepChoice& choice) {
  const uint32_t tokens = view.shape[1];
  const uint32_t sinks = SinkCount(first_position, tokens);
  for (std::vector<uint8_t>& plane : block->planes) plane.clear();
  block->squared_error.fill(0);
  block->squared_norm = 0;
  const size_t raw_bytes = RawBytes(shape_, tokens);
  if (EncodeTiles(view, first_position, sinks, block, choice) && block->bytes() < raw_bytes) return;
  for (std::vector<uint8_t>& plane : block->planes) plane.assign(1, kModeRaw);
  block->squared_error.fill(0);
  block->squared_norm = 0;
  AppendTokens(view, 0, tokens, block->planes[0]);
}

float BlockEncoder::ChooseStep() const {
  // Measured from each token's own size, so that the step is the same everywhere.
  if (shape_.token_scales) return kTokenStep;
  // Errors of K become errors of logits by way of queries, whose size no K tells; but it varies far
  // less from model to model and layer to layer than that of K does. Only powers of two, so that
  // cells lie alike among the representable numbers.
  const float deviation = encoder_.Deviation();
  if (!(deviation > kSmallestDeviation)) return kKeyStep * kSmallestDeviation;
  const float nearest = std::clamp(kKeyStep, deviation / kFinestStep, deviation * kCoarsestStep);
  const float step = kKeyStep * PowerOfTwoBelow(nearest / kKeyStep);
  return shape_.rope.pairing == RopePairing::kNone ? PowerOfTwoBelow(step) : step;
}

void BlockEncoder::SetOctaves(std::span<const int8_t> channels) {
  octaves_.assign(channels.size(), 0);
  if (channels.empty()) return;
  for (const Group& group : tiling_.groups) {
    for (uint32_t k = 0; k < group.channels; ++k) {
      const Run& run = group.runs[group.rows[k] / kRunChannels];
      const uint32_t dim = run.dim + group.rows[k] % kRunChannels;
      octaves_[group.position + k] = channels[size_t{group.head} * shape_.dims + dim];
    }
  }
}

std::span<const int8_t> BlockEncoder::OctavesOf(const Tile& tile) const {
  if (octaves_.empty()) return {};
  return std::span(octaves_).subspan(tiling_.groups[tile.first_group].position, tile.channels);
}

bool BlockEncoder::EncodeTiles(const TensorView& view, uint64_t first_position, uint32_t sinks,
                               EncodedBlock* block, const StepChoice& choice) {
  const uint32_t tokens = view.shape[1];
  const uint32_t tile_count = SpanCount(tokens) * static_cast<uint32_t>(tiling_.tiles.size());
  for (std::vector<uint8_t>& plane : block->planes) plane.push_back(kModeCoded);
  std::vector<uint8_t>& base = block->planes[0];
  float step = 0;
  const size_t step_at = base.size();
  base.resize(step_at + sizeof(step));
  SetOctaves(choice.channels);
  AppendTokens(view, 0, sinks, base);
  // Room for the length of each tile's part.
  std::array<size_t, kPlanes> lengths{};
  for (uint32_t plane = 0; plane < kPlanes; ++plane) {
    lengths[plane] = block->planes[plane].size();
    block->planes[plane].resize(lengths[plane] + tile_count * sizeof(uint32_t));
  }
  uint32_t index = 0;
  for (uint32_t first = 0; first < tokens; first += kTileTokens) {
    rope_.Fill(shape_.rope_rates, first_position + first);
    for (const Tile& tile : tiling_.tiles) {
      const bool loaded = encoder_.Load({.view = &view,
                                         .tiling = &tiling_,
                                         .tile = &tile,
                                         .rope = &rope_,
                                         .first_token = first,
                                         .tokens = std::min(kTileTokens, tokens - first),
                                         .sinks = first == 0 ? sinks : 0,
                                         .token_scales = shape_.token_scales,
                                         .octaves = OctavesOf(tile)});
      if (!loaded) return false;
      if (index == 0) {
        step = ChooseStep() * PowerOfTwo(-choice.octaves);
        std::memcpy(base.data() + step_at, &step, sizeof(step));
      }
      if (!encoder_.Quantize(step)) return false;
      encoder_.AddErrors(block->squared_error, block->squared_norm);
      for (uint32_t plane = 0; plane < kPlanes; ++plane) {
        std::vector<uint8_t>& bytes = block->planes[plane];
        const size_t before = bytes.size();
        if (plane < kLossyPlanes) {
          encoder_.AppendPlane(plane, bytes);
        } else {
          encoder_.AppendTail(bytes);
        }
        const auto length = static_cast<uint32_t>(bytes.size() - before);
        std::memcpy(bytes.data() + lengths[plane] + index * sizeof(length), &length,
                    sizeof(length));
      }
      ++index;
    }
  }
  return true;
}

}  // namespace reprise::progressive
