#include "storage/index/piece_record.h"

#include <cmath>

#include "absl/strings/str_cat.h"

#include "common/crc32c.h"
#include "common/limits.h"

namespace reprise::storage {
namespace {

// A record without an expiry is as in version 1, and readable to builds that know only that.
constexpr uint8_t kRecordVersion = 1;
constexpr uint8_t kExpiringRecordVersion = 2;

constexpr uint8_t kDurable = 1;
constexpr uint8_t kHasParent = 2;
// The last level errs neither in K nor in V: its distortion is left out.
constexpr uint8_t kLastIsExact = 4;
constexpr uint8_t kAllFlags = kDurable | kHasParent | kLastIsExact;

constexpr size_t kChecksumBytes = 4;

void WriteU24(ByteWriter& writer, uint32_t value) {
  writer.U16(static_cast<uint16_t>(value));
  writer.U8(static_cast<uint8_t>(value >> 16));
}

uint32_t ReadU24(ByteReader& reader) {
  const uint32_t low = reader.U16();
  return low | static_cast<uint32_t>(reader.U8()) << 16;
}

void WritePlace(ByteWriter& writer, const RunPlace& place) {
  WriteU24(writer, place.segment);
  WriteU24(writer, place.page);
}

RunPlace ReadPlace(ByteReader& reader) {
  const uint32_t segment = ReadU24(reader);
  return {.segment = segment, .page = ReadU24(reader)};
}

// LEB128: seven bits a byte, the lowest first.
void WriteVarint(ByteWriter& writer, uint64_t value) {
  while (value >= 0x80) {
    writer.U8(static_cast<uint8_t>(value | 0x80));
    value >>= 7;
  }
  writer.U8(static_cast<uint8_t>(value));
}

// False for what does not fit 64 bits or has more bytes than it needs.
bool ReadVarint(ByteReader& reader, uint64_t& value) {
  value = 0;
  for (uint32_t shift = 0; shift < 64; shift += 7) {
    const uint8_t byte = reader.U8();
    if (!reader.ok()) return false;
    const uint64_t bits = byte & 0x7f;
    if (shift == 63 && bits > 1) return false;
    value |= bits << shift;
    if ((byte & 0x80) == 0) return byte != 0 || shift == 0;
  }
  return false;
}

void WriteDigest(ByteWriter& writer, const Digest& digest) { writer.Bytes(digest.bytes); }

Digest ReadDigest(ByteReader& reader) {
  Digest digest;
  const ByteSpan bytes = reader.Bytes(digest.bytes.size());
  std::copy(bytes.begin(), bytes.end(), digest.bytes.begin());
  return digest;
}

absl::Status Malformed(const std::string& what) {
  return absl::DataLossError(absl::StrCat("a record of the index is malformed: ", what));
}

bool IsExact(const Distortion& distortion) { return distortion == Distortion{}; }

absl::Status ReadLevels(ByteReader& reader, bool last_is_exact, PieceSummary& summary) {
  uint64_t total = 0;
  for (uint32_t level = 0; level < summary.level_count; ++level) {
    uint64_t more = 0;
    if (!ReadVarint(reader, more)) return Malformed("cut short in its levels");
    if (more == 0 || more > kMaxPieceMetaBytes + kMaxPieceBodyBytes - total) {
      return Malformed(absl::StrCat("level ", level, " of ", more, " bytes behind ", total));
    }
    total += more;
    Distortion distortion;
    if (level + 1 < summary.level_count || !last_is_exact) {
      distortion.key = reader.F32();
      distortion.value = reader.F32();
      if (!std::isfinite(distortion.key) || !std::isfinite(distortion.value) ||
          distortion.key < 0 || distortion.value < 0) {
        return Malformed(absl::StrCat("the distortion of level ", level));
      }
      // It would have another length when it is written again.
      if (level + 1 == summary.level_count && IsExact(distortion)) {
        return Malformed("its last level is exact and its flags say that it is not");
      }
    }
    summary.all_levels[level] = {.bytes = total, .distortion = distortion};
  }
  return absl::OkStatus();
}

uint32_t Checksum(TenantId tenant, const Key& key, ByteSpan value) {
  ByteWriter name;
  name.U32(tenant);
  name.Bytes(key.digest.bytes);
  return ExtendCrc32c(Crc32c(name.bytes()), value);
}

}  // namespace

std::vector<std::byte> EncodeRecord(const PieceRecord& record) {
  const PieceSummary& summary = record.summary;
  const bool last_is_exact = IsExact(summary.all_levels[summary.level_count - 1].distortion);
  ByteWriter writer;
  const bool expires = summary.attributes.expires_at_s != 0;
  writer.U8(expires ? kExpiringRecordVersion : kRecordVersion);
  writer.U8(static_cast<uint8_t>((record.durable ? kDurable : 0) |
                                 (summary.attributes.parent.has_value() ? kHasParent : 0) |
                                 (last_is_exact ? kLastIsExact : 0)));
  writer.U8(static_cast<uint8_t>(summary.level_count));
  writer.U8(static_cast<uint8_t>(summary.planes_held));
  writer.U8(static_cast<uint8_t>(record.base_planes));
  WritePlace(writer, record.base);
  WritePlace(writer, record.refinement);
  WriteDigest(writer, summary.content_id.digest);
  if (summary.attributes.parent.has_value()) {
    WriteDigest(writer, summary.attributes.parent->digest);
  }
  if (expires) writer.U32(summary.attributes.expires_at_s);
  writer.F64(summary.attributes.recompute_seconds);
  WriteVarint(writer, summary.attributes.position);
  WriteVarint(writer, summary.token_begin);
  uint64_t before = 0;
  for (uint32_t level = 0; level < summary.level_count; ++level) {
    const PieceSummary::Level& at = summary.all_levels[level];
    WriteVarint(writer, at.bytes - before);
    before = at.bytes;
    if (level + 1 < summary.level_count || !last_is_exact) {
      writer.F32(at.distortion.key);
      writer.F32(at.distortion.value);
    }
  }
  return std::move(writer).Take();
}

absl::StatusOr<PieceRecord> ParseRecord(ByteSpan bytes) {
  ByteReader reader(bytes);
  const uint8_t version = reader.U8();
  if (!reader.ok()) return Malformed("empty");
  if (version != kRecordVersion && version != kExpiringRecordVersion) {
    return absl::UnimplementedError(absl::StrCat("a record of the index has version ", version,
                                                 "; this build knows ", kRecordVersion, " and ",
                                                 kExpiringRecordVersion));
  }
  const uint8_t flags = reader.U8();
  PieceRecord record;
  PieceSummary& summary = record.summary;
  summary.tier = Tier::kNvme;
  summary.level_count = reader.U8();
  summary.planes_held = reader.U8();
  record.base_planes = reader.U8();
  record.base = ReadPlace(reader);
  record.refinement = ReadPlace(reader);
  summary.content_id.digest = ReadDigest(reader);
  if (!reader.ok()) return Malformed("cut short");
  if ((flags & ~kAllFlags) != 0) return Malformed(absl::StrCat("flags ", flags));
  if (summary.level_count == 0 || summary.level_count > kMaxPlanes || summary.planes_held == 0 ||
      summary.planes_held > summary.level_count || record.base_planes == 0 ||
      record.base_planes > summary.level_count) {
    return Malformed(absl::StrCat(summary.planes_held, " planes of ", summary.level_count, ", ",
                                  record.base_planes, " in the base run"));
  }
  record.durable = (flags & kDurable) != 0;
  if ((flags & kHasParent) != 0) summary.attributes.parent = Key{ReadDigest(reader)};
  if (version == kExpiringRecordVersion) {
    summary.attributes.expires_at_s = reader.U32();
    // It would have the other version when it is written again.
    if (reader.ok() && summary.attributes.expires_at_s == 0) return Malformed("it never expires");
  }
  summary.attributes.recompute_seconds = reader.F64();
  if (!std::isfinite(summary.attributes.recompute_seconds)) return Malformed("recompute seconds");
  if (!ReadVarint(reader, summary.attributes.position) ||
      !ReadVarint(reader, summary.token_begin)) {
    return Malformed("its position");
  }
  REPRISE_RETURN_IF_ERROR(ReadLevels(reader, (flags & kLastIsExact) != 0, summary));
  if (!reader.AtEnd()) return Malformed("cut short, or bytes behind its end");
  return record;
}

std::vector<std::byte> EncodeCatalogValue(TenantId tenant, const Key& key,
                                          const PieceRecord& record) {
  ByteWriter writer;
  WriteDigest(writer, record.summary.namespace_fingerprint);
  writer.Bytes(EncodeRecord(record));
  writer.U32(Checksum(tenant, key, writer.bytes()));
  return std::move(writer).Take();
}

absl::StatusOr<PieceRecord> ParseCatalogValue(TenantId tenant, const Key& key, ByteSpan value) {
  constexpr size_t kDigestBytes = sizeof(Digest::bytes);
  if (value.size() < kDigestBytes + kChecksumBytes) return Malformed("cut short");
  const ByteSpan checked = value.first(value.size() - kChecksumBytes);
  ByteReader checksum(value.last(kChecksumBytes));
  if (checksum.U32() != Checksum(tenant, key, checked)) return Malformed("its checksum");
  ByteReader fingerprint(checked.first(kDigestBytes));
  REPRISE_ASSIGN_OR_RETURN(PieceRecord record, ParseRecord(checked.subspan(kDigestBytes)));
  record.summary.namespace_fingerprint = ReadDigest(fingerprint);
  return record;
}

}  // namespace reprise::storage
