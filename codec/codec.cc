#include "codec/codec.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

#include "codec/progressive/piece.h"
#include "codec/raw/raw.h"
#include "common/limits.h"

namespace reprise {
namespace {

using Shape = std::array<uint32_t, 4>;

std::string ShapeText(const Shape& shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

// That `view` is present with this dtype and shape, or, for a piece without such a tensor (dim 0),
// absent.
absl::Status CheckView(absl::string_view name, const TensorView& view, Dtype dtype,
                       const Shape& shape) {
  const bool wanted = shape[3] != 0;
  if (view.present() != wanted) {
    return absl::InvalidArgumentError(absl::StrCat(
        name, wanted ? " is absent, but the piece has it" : " is given, but the piece has none"));
  }
  if (!wanted) return absl::OkStatus();
  if (view.dtype != dtype) {
    return absl::InvalidArgumentError(absl::StrCat(name, " has dtype ",
                                                   static_cast<int>(view.dtype), ", the piece ",
                                                   static_cast<int>(dtype)));
  }
  if (view.shape != shape) {
    return absl::InvalidArgumentError(absl::StrCat(name, " has shape ", ShapeText(view.shape),
                                                   ", the piece ", ShapeText(shape),
                                                   " (layers, tokens, KV heads, dims)"));
  }
  return absl::OkStatus();
}

absl::Status CheckViews(const PieceHeader& header, const TensorView& key, const TensorView& value) {
  if (header.token_count == 0 || header.key_dim == 0) {
    return absl::InvalidArgumentError("the piece holds plain bytes and has no tensor shape");
  }
  const PieceSlot& slot = header.slot;
  Shape shape = {slot.layer_end - slot.layer_begin, header.token_count,
                 slot.head_end - slot.head_begin, header.key_dim};
  REPRISE_RETURN_IF_ERROR(CheckView("K", key, header.dtype, shape));
  shape[3] = header.value_dim;
  return CheckView("V", value, header.dtype, shape);
}

// That `slot` is one of PiecesPerChunk(name_space), which is valid.
absl::Status CheckSlot(const Namespace& name_space, const PieceSlot& slot) {
  if (slot.group < name_space.groups.size()) {
    const LayerGroup& group = name_space.groups[slot.group];
    const auto layers = static_cast<uint32_t>(group.layers.size());
    const bool layers_fit =
        slot.layer_begin < layers && slot.layer_begin % group.layers_per_piece == 0 &&
        slot.layer_end == std::min(slot.layer_begin + group.layers_per_piece, layers);
    const bool heads_fit =
        slot.head_begin < group.kv_heads && slot.head_begin % group.heads_per_piece == 0 &&
        slot.head_end == std::min(slot.head_begin + group.heads_per_piece, group.kv_heads);
    if (layers_fit && heads_fit) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "group ", slot.group, ", layers [", slot.layer_begin, ", ", slot.layer_end, "), heads [",
      slot.head_begin, ", ", slot.head_end, ") is not a piece of the namespace's partition"));
}

// The view of the tokens that segment `index` holds, or what is wrong with the segment.
absl::StatusOr<TensorView> SegmentRows(const PieceMeta& meta, uint32_t index, const TensorView& key,
                                       const TensorView& value) {
  if (index >= meta.segments().size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment ", index, " does not exist; the piece has ", meta.segments().size()));
  }
  const Segment& segment = meta.segments()[index];
  const TensorView& view = segment.part == TensorPart::kValue ? value : key;
  const uint64_t row_bytes = RawRowBytes(view.shape[2], view.shape[3], view.dtype);
  if (row_bytes > kMaxPartBytes) {
    return absl::DataLossError(absl::StrCat("segment ", index, " of a raw piece has rows of ",
                                            row_bytes, " bytes, more than a segment holds"));
  }
  const TokenRange tokens = RawTokens(segment, view.shape[1], row_bytes);
  const uint64_t expected = (tokens.end - tokens.begin) * row_bytes;
  if (expected == 0 || segment.length != expected) {
    return absl::DataLossError(absl::StrCat("segment ", index, " has ", segment.length,
                                            " bytes where its shape takes ", expected));
  }
  return view.Sub(segment.layer, segment.layer + 1, tokens.begin, tokens.end, 0, view.shape[2]);
}

class RawDecoder final : public PieceDecoder {
 public:
  RawDecoder(const PieceMeta& meta, const TensorView& key, const TensorView& value)
      : meta_(meta), key_(key), value_(value) {}

  absl::Status Take(uint32_t segment, ByteSpan bytes) override {
    REPRISE_ASSIGN_OR_RETURN(const TensorView rows, SegmentRows(meta_, segment, key_, value_));
    if (bytes.size() != meta_.segments()[segment].length) {
      return absl::DataLossError(absl::StrCat("segment ", segment, " has ", bytes.size(),
                                              " bytes instead of ",
                                              meta_.segments()[segment].length));
    }
    ScatterRows(bytes, rows);
    return absl::OkStatus();
  }
  absl::Status Finish() override { return absl::OkStatus(); }

 private:
  const PieceMeta& meta_;
  const TensorView key_;
  const TensorView value_;
};

}  // namespace

GroupShape ShapeOf(const Namespace& name_space, const LayerGroup& group, uint32_t chunk_count) {
  GroupShape shape;
  shape.dtype = IsOpaque(group.kind) ? Dtype::kOpaque : name_space.kv_dtype;
  shape.chunk_rows = group.kind == GroupKind::kState ? 1 : name_space.chunk_tokens;
  const uint64_t rows = uint64_t{chunk_count} * shape.chunk_rows;
  shape.key = {group.layers.size(), rows, group.kv_heads, group.key_dim};
  shape.value = {group.layers.size(), rows, group.kv_heads, group.value_dim};
  return shape;
}

absl::StatusOr<std::vector<std::byte>> EncodePiece(const Namespace& name_space,
                                                   const PieceIdentity& identity,
                                                   const TensorView& key, const TensorView& value,
                                                   CodecId codec, const Profile* profile,
                                                   std::vector<std::byte> memory) {
  REPRISE_RETURN_IF_ERROR(Validate(name_space));
  REPRISE_RETURN_IF_ERROR(CheckSlot(name_space, identity.slot));
  if (!key.present() || key.shape[1] == 0) {
    return absl::InvalidArgumentError("K is absent or has no tokens");
  }
  const LayerGroup& group = name_space.groups[identity.slot.group];
  const GroupShape shape = ShapeOf(name_space, group, 1);
  PieceHeader header;
  header.key = identity.key;
  header.namespace_fingerprint = identity.namespace_fingerprint;
  header.group_kind = group.kind;
  header.dtype = shape.dtype;
  header.codec = CodecId::kRaw;
  header.slot = identity.slot;
  header.key_dim = group.key_dim;
  header.value_dim = group.value_dim;
  header.token_begin = identity.token_begin;
  header.token_count = key.shape[1];
  if (header.token_count > shape.chunk_rows) {
    return absl::InvalidArgumentError(absl::StrCat(
        "K has ", header.token_count, " tokens, but a chunk of the group has ", shape.chunk_rows));
  }
  REPRISE_RETURN_IF_ERROR(CheckViews(header, key, value));
  if (codec == CodecId::kProgressive && progressive::CanCode(group, header.dtype)) {
    REPRISE_RETURN_IF_ERROR(CheckProfile(name_space, profile));
    return progressive::EncodePiece(std::move(header), group, key, value, profile);
  }
  // Raw is lossless: one level with distortion 0 everywhere.
  const uint32_t layers = identity.slot.layer_end - identity.slot.layer_begin;
  header.levels.push_back({.distortions = std::vector<Distortion>(layers)});

  std::vector<Segment> segments = RawSegments(header);
  REPRISE_ASSIGN_OR_RETURN(PieceLayout layout,
                           PieceLayout::Create(std::move(header), std::move(segments)));
  // Growing would copy what is there.
  if (memory.capacity() < layout.total_bytes()) memory.clear();
  std::vector<std::byte> container = std::move(memory);
  container.resize(layout.total_bytes());
  for (uint32_t i = 0; i < layout.meta().segments().size(); ++i) {
    REPRISE_ASSIGN_OR_RETURN(const TensorView rows, SegmentRows(layout.meta(), i, key, value));
    GatherRows(rows, layout.SegmentBytes(i, container));
  }
  layout.Seal(container);
  return container;
}

absl::StatusOr<std::unique_ptr<PieceDecoder>> PieceDecoder::Create(const PieceMeta& meta,
                                                                   const TensorView& key,
                                                                   const TensorView& value) {
  const PieceHeader& header = meta.header();
  REPRISE_RETURN_IF_ERROR(CheckViews(header, key, value));
  switch (header.codec) {
    case CodecId::kRaw:
      if (header.levels.size() != 1 || !header.codec_parameters.empty()) {
        return absl::UnimplementedError(
            absl::StrCat("the raw piece has ", header.levels.size(), " levels and ",
                         header.codec_parameters.size(),
                         " bytes of codec parameters; this build knows raw with 1 level and none"));
      }
      return std::make_unique<RawDecoder>(meta, key, value);
    case CodecId::kProgressive:
      return progressive::CreateDecoder(meta, key, value);
  }
  return absl::UnimplementedError(absl::StrCat("the piece was made by codec ",
                                               static_cast<int>(header.codec),
                                               "; this build knows 0 (raw) and 1 (progressive)"));
}

absl::StatusOr<std::vector<std::byte>> EncodeFile(const Key& key,
                                                  const Digest& namespace_fingerprint,
                                                  ByteSpan file) {
  if (file.empty() || file.size() > kMaxPieceBodyBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the file has ", file.size(), " bytes; allowed are 1 to ", kMaxPieceBodyBytes));
  }
  PieceHeader header;
  header.key = key;
  header.namespace_fingerprint = namespace_fingerprint;
  header.group_kind = GroupKind::kOpaque;
  header.dtype = Dtype::kOpaque;
  header.codec = CodecId::kRaw;
  header.slot = {.group = 0, .layer_begin = 0, .layer_end = 1, .head_begin = 0, .head_end = 1};
  header.levels.push_back({.distortions = std::vector<Distortion>(1)});
  std::vector<Segment> segments;
  for (size_t offset = 0; offset < file.size(); offset += kMaxPartBytes) {
    segments.push_back(
        {.token_begin = static_cast<uint32_t>(segments.size()),
         .length = static_cast<uint32_t>(std::min(kMaxPartBytes, file.size() - offset))});
  }
  REPRISE_ASSIGN_OR_RETURN(PieceLayout layout,
                           PieceLayout::Create(std::move(header), std::move(segments)));
  std::vector<std::byte> container(layout.total_bytes());
  std::ranges::copy(file, container.begin() + static_cast<ptrdiff_t>(layout.meta_bytes()));
  layout.Seal(container);
  return container;
}

}  // namespace reprise
