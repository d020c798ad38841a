#include "chunk/container_rules.h"

#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

constexpr std::array kKeyAndValue = {TensorPart::kKey, TensorPart::kValue};
constexpr std::array kKeyOnly = {TensorPart::kKey};
constexpr std::array kOpaqueOnly = {TensorPart::kOpaque};

absl::string_view PartName(TensorPart part) {
  switch (part) {
    case TensorPart::kKey:
      return "K";
    case TensorPart::kValue:
      return "V";
    case TensorPart::kOpaque:
      return "opaque";
  }
  return "unknown";
}

template <typename... Parts>
absl::Status Wrong(absl::StatusCode code, const Parts&... parts) {
  return {code, absl::StrCat("container: ", parts...)};
}

absl::Status CheckKinds(const PieceHeader& header, absl::StatusCode code) {
  if (header.group_kind < GroupKind::kFullAttention || header.group_kind > GroupKind::kOpaque) {
    return Wrong(code, "group kind ", static_cast<int>(header.group_kind), " is unknown");
  }
  if (header.dtype > Dtype::kFp32) {
    return Wrong(code, "dtype ", static_cast<int>(header.dtype), " is unknown");
  }
  if (IsOpaque(header.group_kind) != (header.dtype == Dtype::kOpaque)) {
    return Wrong(code, "dtype ", static_cast<int>(header.dtype), " does not go with group kind ",
                 static_cast<int>(header.group_kind));
  }
  return absl::OkStatus();
}

absl::Status CheckSlot(const PieceSlot& slot, absl::StatusCode code) {
  if (slot.layer_begin >= slot.layer_end || slot.layer_end > kMaxLayers) {
    return Wrong(code, "layers [", slot.layer_begin, ", ", slot.layer_end, ") are empty or beyond ",
                 kMaxLayers);
  }
  if (slot.head_begin >= slot.head_end || slot.head_end > kMaxKvHeads) {
    return Wrong(code, "KV heads [", slot.head_begin, ", ", slot.head_end, ") are empty or beyond ",
                 kMaxKvHeads);
  }
  return absl::OkStatus();
}

absl::Status CheckDistortion(float value, bool must_be_zero, size_t level, size_t layer,
                             absl::StatusCode code) {
  if (std::isfinite(value) && value >= 0 && !(must_be_zero && value != 0)) {
    return absl::OkStatus();
  }
  return Wrong(code, "distortion ", value, " of level ", level, ", layer ", layer,
               must_be_zero ? " belongs to a V that the piece has not; it must be 0"
                            : " is not a finite number from 0 up");
}

}  // namespace

std::span<const TensorPart> PartsOf(GroupKind kind) {
  if (IsOpaque(kind)) return kOpaqueOnly;
  if (kind == GroupKind::kLatent) return kKeyOnly;
  return kKeyAndValue;
}

absl::Status CheckShape(const PieceHeader& header, absl::StatusCode code) {
  REPRISE_RETURN_IF_ERROR(CheckKinds(header, code));
  REPRISE_RETURN_IF_ERROR(CheckSlot(header.slot, code));
  if (header.key_dim > kMaxHeadDim || header.value_dim > kMaxHeadDim) {
    return Wrong(code, "key_dim ", header.key_dim, " or value_dim ", header.value_dim, " is above ",
                 kMaxHeadDim);
  }
  const bool opaque = IsOpaque(header.group_kind);
  const bool has_value = PartsOf(header.group_kind).size() == 2;
  if ((header.key_dim == 0 && !opaque) || (header.value_dim != 0) != has_value) {
    return Wrong(code, "key_dim ", header.key_dim, " and value_dim ", header.value_dim,
                 " do not go with group kind ", static_cast<int>(header.group_kind));
  }
  if (header.token_count > kMaxTokensPerChunk || (header.token_count == 0 && !opaque)) {
    return Wrong(code, "token count ", header.token_count, " is outside ", opaque ? 0 : 1, " to ",
                 kMaxTokensPerChunk);
  }
  if (!CheckedAdd(header.token_begin, header.token_count).has_value()) {
    return Wrong(code, "token position ", header.token_begin, " is too large");
  }
  return absl::OkStatus();
}

absl::Status CheckLevels(const PieceHeader& header, absl::StatusCode code) {
  if (header.codec_parameters.size() > kMaxCodecParameterBytes) {
    return Wrong(code, header.codec_parameters.size(), " bytes of codec parameters are more than ",
                 kMaxCodecParameterBytes);
  }
  if (header.levels.empty() || header.levels.size() > kMaxPlanes) {
    return Wrong(code, "level count ", header.levels.size(), " is outside 1 to ", kMaxPlanes);
  }
  const uint32_t layer_count = header.slot.layer_end - header.slot.layer_begin;
  const bool has_value = PartsOf(header.group_kind).size() == 2;
  for (size_t level = 0; level < header.levels.size(); ++level) {
    const std::vector<Distortion>& distortions = header.levels[level].distortions;
    if (distortions.size() != layer_count) {
      return Wrong(code, "level ", level, " has ", distortions.size(), " distortions for ",
                   layer_count, " layers");
    }
    for (size_t layer = 0; layer < distortions.size(); ++layer) {
      const Distortion& distortion = distortions[layer];
      REPRISE_RETURN_IF_ERROR(CheckDistortion(distortion.key, false, level, layer, code));
      REPRISE_RETURN_IF_ERROR(CheckDistortion(distortion.value, !has_value, level, layer, code));
    }
  }
  return absl::OkStatus();
}

SegmentWalk::SegmentWalk(const PieceHeader& header, absl::StatusCode code)
    : header_(header),
      code_(code),
      parts_(PartsOf(header.group_kind)),
      layer_count_(header.slot.layer_end - header.slot.layer_begin) {
  level_ends_.reserve(header.levels.size());
}

bool SegmentWalk::CurrentIsCovered() const {
  return opaque() ? covered_ > 0 : covered_ == header_.token_count;
}

void SegmentWalk::Advance() {
  covered_ = 0;
  if (++part_ < parts_.size()) return;
  part_ = 0;
  if (++layer_ < layer_count_) return;
  layer_ = 0;
  ++plane_;
  level_ends_.push_back(end_);
  end_ = AlignUp(end_, kPlaneAlignment);
}

absl::Status SegmentWalk::CheckBlock(const Segment& segment) const {
  if (segment.token_begin != covered_) {
    return Wrong(code_, "segment ", index_, " begins at ", opaque() ? "block " : "token ",
                 segment.token_begin, " instead of ", covered_);
  }
  const bool count_fits =
      opaque() ? segment.token_count == 0
               : segment.token_count > 0 && segment.token_count <= header_.token_count - covered_;
  if (!count_fits) {
    return Wrong(code_, "segment ", index_, " states ", segment.token_count, " tokens from token ",
                 covered_, " of ", opaque() ? 0 : header_.token_count);
  }
  if (segment.length == 0 || segment.length > kMaxPartBytes) {
    return Wrong(code_, "segment ", index_, " has length ", segment.length, "; allowed are 1 to ",
                 kMaxPartBytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> SegmentWalk::Next(const Segment& segment) {
  const auto is_current = [&] {
    return segment.plane == plane_ && segment.layer == layer_ && segment.part == parts_[part_];
  };
  // Tokens say when a part is complete; opaque blocks go on until another layer begins.
  if (CurrentIsCovered() && !(opaque() && is_current())) Advance();
  if (index_ >= kMaxSegmentsPerPiece) {
    return Wrong(code_, "there are more than ", kMaxSegmentsPerPiece, " segments");
  }
  if (plane_ == header_.levels.size()) {
    return Wrong(code_, "segment ", index_, " comes after the last plane is complete");
  }
  if (!is_current()) {
    return Wrong(code_, "segment ", index_, " is plane ", segment.plane, ", layer ", segment.layer,
                 ", part ", PartName(segment.part), " where plane ", plane_, ", layer ", layer_,
                 ", part ", PartName(parts_[part_]), " belongs");
  }
  REPRISE_RETURN_IF_ERROR(CheckBlock(segment));
  const uint64_t offset = end_;
  const auto end = CheckedAdd(offset, segment.length);
  if (!end.has_value() || *end > kMaxPieceBodyBytes) {
    return Wrong(code_, "segment ", index_, " of length ", segment.length, " at offset ", offset,
                 " ends beyond the largest body of ", kMaxPieceBodyBytes, " bytes");
  }
  covered_ += opaque() ? 1 : segment.token_count;
  end_ = *end;
  ++index_;
  return offset;
}

absl::StatusOr<std::vector<uint64_t>> SegmentWalk::Finish() const {
  SegmentWalk last = *this;
  if (last.CurrentIsCovered()) last.Advance();
  if (last.plane_ != header_.levels.size()) {
    return Wrong(code_, "the directory ends after ", index_, " segments, before plane ",
                 last.plane_, ", layer ", last.layer_, ", part ", PartName(parts_[last.part_]),
                 " is complete (", header_.levels.size(), " planes of ", layer_count_,
                 " layers are stated)");
  }
  return last.level_ends_;
}

}  // namespace reprise
