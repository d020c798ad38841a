#include "chunk/container_format.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

#include "chunk/container_rules.h"
#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

constexpr absl::StatusCode kDataLoss = absl::StatusCode::kDataLoss;
// A byte above 127 first, so that no text file and no file mangled by a text transfer looks like a
// container.
constexpr std::string_view kMagic = "\x89REPRISE";
constexpr size_t kFixedHeaderBytes = 168;
constexpr size_t kDirectoryEntryBytes = 32;
constexpr size_t kLevelFixedBytes = 8;
constexpr size_t kDistortionBytes = 8;
constexpr size_t kDigestBytes = sizeof(Digest::bytes);

struct Counts {
  uint32_t levels = 0;
  uint32_t segments = 0;
  uint32_t codec_parameter_bytes = 0;
};

template <typename... Parts>
absl::Status Damaged(const Parts&... parts) {
  return absl::DataLossError(absl::StrCat("container: ", parts...));
}

Digest ReadDigest(ByteReader& reader) {
  Digest digest;
  const ByteSpan bytes = reader.Bytes(kDigestBytes);
  std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
  return digest;
}

// The fields from the content id to the counts; `reader` stands behind the preamble and has enough
// bytes.
Counts ReadFixedFields(ByteReader& reader, PieceHeader& header) {
  header.content_id = {ReadDigest(reader)};
  header.key = {ReadDigest(reader)};
  header.namespace_fingerprint = ReadDigest(reader);
  header.group_kind = static_cast<GroupKind>(reader.U8());
  header.dtype = static_cast<Dtype>(reader.U8());
  header.codec = static_cast<CodecId>(reader.U16());
  header.slot.group = reader.U32();
  header.slot.layer_begin = reader.U32();
  header.slot.layer_end = reader.U32();
  header.slot.head_begin = reader.U32();
  header.slot.head_end = reader.U32();
  header.key_dim = reader.U32();
  header.value_dim = reader.U32();
  header.token_begin = reader.U64();
  header.token_count = reader.U32();
  Counts counts;
  counts.levels = reader.U32();
  counts.segments = reader.U32();
  counts.codec_parameter_bytes = reader.U32();
  return counts;
}

absl::Status CheckCounts(const Counts& counts, uint32_t layer_count, size_t meta_bytes) {
  if (counts.levels == 0 || counts.levels > kMaxPlanes) {
    return Damaged("level count ", counts.levels, " is outside 1 to ", kMaxPlanes);
  }
  if (counts.segments == 0 || counts.segments > kMaxSegmentsPerPiece) {
    return Damaged("segment count ", counts.segments, " is outside 1 to ", kMaxSegmentsPerPiece);
  }
  if (counts.codec_parameter_bytes > kMaxCodecParameterBytes) {
    return Damaged(counts.codec_parameter_bytes, " bytes of codec parameters are more than ",
                   kMaxCodecParameterBytes);
  }
  // Bounded by the limits above, far below 2^64.
  const uint64_t fields =
      kFixedHeaderBytes + uint64_t{counts.codec_parameter_bytes} +
      uint64_t{counts.levels} * (kLevelFixedBytes + uint64_t{layer_count} * kDistortionBytes) +
      uint64_t{counts.segments} * kDirectoryEntryBytes;
  if (AlignUp(fields, kPlaneAlignment) != meta_bytes) {
    return Damaged("the preamble states ", meta_bytes, " bytes of header and directory, but ",
                   counts.levels, " levels of ", layer_count, " layers, ", counts.segments,
                   " segments and ", counts.codec_parameter_bytes,
                   " bytes of codec parameters take ", AlignUp(fields, kPlaneAlignment));
  }
  return absl::OkStatus();
}

void ReadLevels(ByteReader& reader, uint32_t level_count, uint32_t layer_count,
                std::vector<Level>& levels) {
  levels.resize(level_count);
  for (Level& level : levels) {
    level.body_bytes = reader.U64();
    level.distortions.resize(layer_count);
    for (Distortion& distortion : level.distortions) {
      distortion.key = reader.F32();
      distortion.value = reader.F32();
    }
  }
}

absl::Status ReadDirectory(ByteReader& reader, uint32_t segment_count, ParsedMeta& meta) {
  SegmentWalk walk(meta.header, kDataLoss);
  meta.segments.reserve(segment_count);
  for (uint32_t i = 0; i < segment_count; ++i) {
    Segment segment;
    segment.plane = reader.U16();
    segment.part = static_cast<TensorPart>(reader.U8());
    const uint8_t reserved = reader.U8();
    segment.layer = reader.U32();
    segment.token_begin = reader.U32();
    segment.token_count = reader.U32();
    segment.offset = reader.U64();
    segment.length = reader.U32();
    segment.crc32c = reader.U32();
    if (reserved != 0) return Damaged("segment ", i, " has reserved byte ", reserved, ", not 0");
    REPRISE_ASSIGN_OR_RETURN(const uint64_t offset, walk.Next(segment));
    if (segment.offset != offset) {
      return Damaged("segment ", i, " states offset ", segment.offset, " where ", offset,
                     " belongs");
    }
    meta.segments.push_back(segment);
  }
  REPRISE_ASSIGN_OR_RETURN(const std::vector<uint64_t> ends, walk.Finish());
  for (size_t level = 0; level < ends.size(); ++level) {
    if (meta.header.levels[level].body_bytes != ends[level]) {
      return Damaged("level ", level, " states ", meta.header.levels[level].body_bytes,
                     " body bytes, but its segments end at ", ends[level]);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<size_t> PieceMeta::PeekMetaBytes(ByteSpan start) {
  if (start.size() < kContainerPreambleBytes) {
    return Damaged("cut short: ", start.size(), " bytes, less than the preamble of ",
                   kContainerPreambleBytes);
  }
  ByteReader reader(start.first(kContainerPreambleBytes));
  const ByteSpan magic = reader.Bytes(kMagic.size());
  if (AsText(magic) != kMagic) {
    return Damaged("not a Reprise container: it starts with ", ToHex(magic), " instead of ",
                   ToHex(AsBytes(kMagic)));
  }
  const uint16_t version = reader.U16();
  if (version != kContainerVersion) {
    return absl::UnimplementedError(absl::StrCat("container: format version ", version,
                                                 "; this build reads version ", kContainerVersion,
                                                 " only"));
  }
  const uint16_t reserved = reader.U16();
  if (reserved != 0) return Damaged("reserved field of the preamble is ", reserved, ", not 0");
  const uint32_t meta_bytes = reader.U32();
  if (meta_bytes == 0 || meta_bytes % kPlaneAlignment != 0 || meta_bytes > kMaxPieceMetaBytes) {
    return Damaged("the preamble states ", meta_bytes,
                   " bytes of header and directory, which is not a multiple of ", kPlaneAlignment,
                   " from 1 to ", kMaxPieceMetaBytes, " bytes");
  }
  return size_t{meta_bytes};
}

absl::StatusOr<ParsedMeta> ParseFields(ByteSpan bytes) {
  ParsedMeta meta;
  REPRISE_ASSIGN_OR_RETURN(meta.meta_bytes, PieceMeta::PeekMetaBytes(bytes));
  if (bytes.size() < meta.meta_bytes) {
    return Damaged("cut short: ", bytes.size(), " bytes of a header and directory of ",
                   meta.meta_bytes);
  }
  // One page at least, so the fixed fields are there; CheckCounts makes sure that the rest is.
  ByteReader reader(bytes.first(meta.meta_bytes));
  reader.Bytes(kContainerPreambleBytes);
  const Counts counts = ReadFixedFields(reader, meta.header);
  REPRISE_RETURN_IF_ERROR(CheckShape(meta.header, kDataLoss));
  const uint32_t layer_count = meta.header.slot.layer_end - meta.header.slot.layer_begin;
  REPRISE_RETURN_IF_ERROR(CheckCounts(counts, layer_count, meta.meta_bytes));
  const ByteSpan parameters = reader.Bytes(counts.codec_parameter_bytes);
  meta.header.codec_parameters.assign(parameters.begin(), parameters.end());
  ReadLevels(reader, counts.levels, layer_count, meta.header.levels);
  REPRISE_RETURN_IF_ERROR(CheckLevels(meta.header, kDataLoss));
  REPRISE_RETURN_IF_ERROR(ReadDirectory(reader, counts.segments, meta));
  if (!reader.ok()) return Damaged("header and directory are cut short");
  meta.field_bytes = reader.position();
  if (!IsZero(bytes.subspan(meta.field_bytes, meta.meta_bytes - meta.field_bytes))) {
    return Damaged("the padding behind the directory (bytes ", meta.field_bytes, " to ",
                   meta.meta_bytes, ") is not zero");
  }
  return meta;
}

size_t FieldBytes(const PieceHeader& header, size_t segment_count) {
  const size_t layer_count = header.slot.layer_end - header.slot.layer_begin;
  return kFixedHeaderBytes + header.codec_parameters.size() +
         header.levels.size() * (kLevelFixedBytes + layer_count * kDistortionBytes) +
         segment_count * kDirectoryEntryBytes;
}

std::vector<std::byte> WriteFields(const PieceHeader& header, std::span<const Segment> segments) {
  ByteWriter out;
  out.Bytes(AsBytes(kMagic));
  out.U16(kContainerVersion);
  out.U16(0);
  out.U32(static_cast<uint32_t>(AlignUp(FieldBytes(header, segments.size()), kPlaneAlignment)));
  out.Bytes(header.content_id.digest.bytes);
  out.Bytes(header.key.digest.bytes);
  out.Bytes(header.namespace_fingerprint.bytes);
  out.U8(static_cast<uint8_t>(header.group_kind));
  out.U8(static_cast<uint8_t>(header.dtype));
  out.U16(static_cast<uint16_t>(header.codec));
  out.U32(header.slot.group);
  out.U32(header.slot.layer_begin);
  out.U32(header.slot.layer_end);
  out.U32(header.slot.head_begin);
  out.U32(header.slot.head_end);
  out.U32(header.key_dim);
  out.U32(header.value_dim);
  out.U64(header.token_begin);
  out.U32(header.token_count);
  out.U32(static_cast<uint32_t>(header.levels.size()));
  out.U32(static_cast<uint32_t>(segments.size()));
  out.U32(static_cast<uint32_t>(header.codec_parameters.size()));
  out.Bytes(header.codec_parameters);
  for (const Level& level : header.levels) {
    out.U64(level.body_bytes);
    for (const Distortion& distortion : level.distortions) {
      out.F32(distortion.key);
      out.F32(distortion.value);
    }
  }
  for (const Segment& segment : segments) {
    out.U16(segment.plane);
    out.U8(static_cast<uint8_t>(segment.part));
    out.U8(0);
    out.U32(segment.layer);
    out.U32(segment.token_begin);
    out.U32(segment.token_count);
    out.U64(segment.offset);
    out.U32(segment.length);
    out.U32(segment.crc32c);
  }
  return std::move(out).Take();
}

ContentId ComputeContentId(ByteSpan fields) {
  return {Sha256()
              .Update(fields.first(kContentIdOffset))
              .Update(fields.subspan(kContentIdOffset + kDigestBytes))
              .Finish()};
}

bool IsZero(ByteSpan bytes) {
  // A span of zeros equals itself shifted by one byte, and memcmp is the fastest way to say so.
  return bytes.empty() || (bytes.front() == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

}  // namespace reprise
