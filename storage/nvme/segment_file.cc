#include "storage/nvme/segment_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "common/byte_io.h"
#include "common/crc32c.h"
#include "common/log.h"

namespace reprise::storage {
namespace {

constexpr std::string_view kMagic = "\x89RPRSSEG";
constexpr uint16_t kSegmentVersion = 1;
constexpr std::string_view kSuffix = ".seg";
constexpr size_t kDigits = 8;

struct alignas(kDirectAlignmentBytes) HeaderPage {
  std::array<std::byte, kDirectAlignmentBytes> bytes{};
};

}  // namespace

std::string SegmentFileName(uint32_t number) { return absl::StrFormat("%08d.seg", number); }

std::optional<uint32_t> ParseSegmentFileName(std::string_view name) {
  if (name.size() != kDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  uint32_t number = 0;
  const char* end = name.data() + kDigits;
  const auto [stop, error] = std::from_chars(name.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

absl::Status WriteSegmentHeader(EnvFile& file, const SegmentIdentity& identity) {
  ByteWriter writer;
  writer.Bytes(AsBytes(kMagic));
  writer.U16(kSegmentVersion);
  writer.U16(0);
  writer.U32(identity.number);
  writer.Bytes(AsBytes(identity.node_id));
  writer.U32(Crc32c(writer.bytes()));
  HeaderPage page;
  std::copy(writer.bytes().begin(), writer.bytes().end(), page.bytes.begin());
  return file.WriteAt(0, page.bytes);
}

absl::StatusOr<std::optional<SegmentIdentity>> ReadSegmentHeader(const EnvFile& file) {
  HeaderPage page;
  REPRISE_RETURN_IF_ERROR(file.ReadAt(0, page.bytes));
  ByteReader reader(page.bytes);
  const ByteSpan magic = reader.Bytes(kMagic.size());
  const uint16_t version = reader.U16();
  const uint16_t reserved = reader.U16();
  SegmentIdentity identity;
  identity.number = reader.U32();
  identity.node_id = AsText(reader.Bytes(kNodeIdBytes));
  const uint32_t checksum = Crc32c(ByteSpan(page.bytes).first(reader.position()));
  const bool intact = reader.U32() == checksum &&
                      std::ranges::all_of(ByteSpan(page.bytes).subspan(reader.position()),
                                          [](std::byte byte) { return byte == std::byte{0}; });
  if (!intact || AsText(magic) != kMagic || version != kSegmentVersion || reserved != 0) {
    return std::nullopt;
  }
  return identity;
}

absl::StatusOr<std::unique_ptr<EnvFile>> CreateSegmentFile(Env& env, const std::string& directory,
                                                           const SegmentIdentity& identity,
                                                           uint64_t segment_bytes) {
  const std::string path = absl::StrCat(directory, "/", SegmentFileName(identity.number));
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<EnvFile> file,
                           env.Open(path, OpenMode::kReplace, /*direct=*/true));
  const absl::Status made = [&] {
    REPRISE_RETURN_IF_ERROR(file->Preallocate(segment_bytes));
    REPRISE_RETURN_IF_ERROR(WriteSegmentHeader(*file, identity));
    REPRISE_RETURN_IF_ERROR(file->Sync());
    return env.SyncDirectory(directory);
  }();
  if (made.ok()) return file;
  file.reset();
  if (const absl::Status deleted = env.Delete(path); !deleted.ok()) {
    LogWarning("a segment that could not be made stays",
               {{"reason", std::string(deleted.message())}});
  }
  return made;
}

absl::StatusOr<std::unique_ptr<EnvFile>> OpenSegmentFile(Env& env, const std::string& directory,
                                                         uint32_t number, uint64_t segment_bytes) {
  const std::string path = absl::StrCat(directory, "/", SegmentFileName(number));
  REPRISE_ASSIGN_OR_RETURN(std::unique_ptr<EnvFile> file,
                           env.Open(path, OpenMode::kReadWrite, /*direct=*/true));
  REPRISE_ASSIGN_OR_RETURN(const uint64_t size_bytes, file->SizeBytes());
  if (size_bytes != segment_bytes) {
    // Cut by a crash while it was made, or by somebody: what was behind reads as zeros now, which
    // match no checksum.
    LogWarning("segment file has another size",
               {{"file", path}, {"bytes", size_bytes}, {"expected_bytes", segment_bytes}});
    if (size_bytes > segment_bytes) REPRISE_RETURN_IF_ERROR(file->Truncate(segment_bytes));
    REPRISE_RETURN_IF_ERROR(file->Preallocate(segment_bytes));
  }
  return file;
}

}  // namespace reprise::storage
