#include "transport/grpc/bulk_field.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace reprise::transport {
namespace {

// Protobuf's wire types (protobuf.dev, "Encoding").
constexpr uint64_t kVarint = 0;
constexpr uint64_t kFixed64 = 1;
constexpr uint64_t kLengthDelimited = 2;
constexpr uint64_t kFixed32 = 5;
constexpr uint64_t kMaxFieldNumber = (uint64_t{1} << 29) - 1;

// Walks over slices as if they were one run of bytes.
class SliceReader {
 public:
  explicit SliceReader(std::span<const ByteSpan> slices) : slices_(slices) {
    for (const ByteSpan& slice : slices) total_ += slice.size();
  }

  size_t position() const { return position_; }
  bool at_end() const { return position_ == total_; }

  [[nodiscard]] bool Skip(uint64_t count) {
    if (count > total_ - position_) return false;
    position_ += static_cast<size_t>(count);
    offset_ += static_cast<size_t>(count);
    while (index_ < slices_.size() && offset_ >= slices_[index_].size()) {
      offset_ -= slices_[index_].size();
      ++index_;
    }
    return true;
  }

  [[nodiscard]] bool Varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      // Empty slices at the front are passed over by Skip, a leading one by this.
      while (index_ < slices_.size() && offset_ >= slices_[index_].size()) {
        offset_ = 0;
        ++index_;
      }
      if (at_end()) return false;
      const auto byte = static_cast<uint64_t>(slices_[index_][offset_]);
      if (!Skip(1)) return false;
      if (shift == 63 && byte > 1) return false;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

 private:
  const std::span<const ByteSpan> slices_;
  size_t total_ = 0;
  size_t position_ = 0;
  size_t index_ = 0;   // of the slice that the next byte is in
  size_t offset_ = 0;  // of the next byte in it
};

absl::Status Malformed(size_t position) {
  return absl::InvalidArgumentError(
      absl::StrCat("not a protobuf message: malformed field at byte ", position));
}

}  // namespace

absl::StatusOr<std::optional<BulkField>> FindBulkField(std::span<const ByteSpan> slices) {
  std::optional<BulkField> found;
  SliceReader reader(slices);
  while (!reader.at_end()) {
    const size_t begin = reader.position();
    uint64_t tag = 0;
    if (!reader.Varint(tag)) return Malformed(begin);
    const uint64_t number = tag >> 3;
    const uint64_t type = tag & 7;
    if (number == 0 || number > kMaxFieldNumber) return Malformed(begin);
    if (number == kBulkFieldNumber && (type != kLengthDelimited || found.has_value())) {
      return absl::InvalidArgumentError(
          absl::StrCat("field 15 at byte ", begin,
                       found.has_value() ? " comes twice" : " is not of type bytes"));
    }
    bool ok = false;
    uint64_t value = 0;
    if (type == kVarint) {
      ok = reader.Varint(value);
    } else if (type == kFixed64 || type == kFixed32) {
      ok = reader.Skip(type == kFixed64 ? 8 : 4);
    } else if (type == kLengthDelimited) {
      ok = reader.Varint(value);
      const size_t bulk_begin = reader.position();
      ok = ok && reader.Skip(value);
      if (ok && number == kBulkFieldNumber) {
        found = BulkField{begin, bulk_begin, static_cast<size_t>(value)};
      }
    }
    if (!ok) return Malformed(begin);
  }
  return found;
}

void CopyFromSlices(std::span<const ByteSpan> slices, size_t offset, MutableByteSpan out) {
  for (const ByteSpan& slice : slices) {
    if (out.empty()) return;
    if (offset >= slice.size()) {
      offset -= slice.size();
      continue;
    }
    const size_t count = std::min(slice.size() - offset, out.size());
    std::memcpy(out.data(), slice.data() + offset, count);
    out = out.subspan(count);
    offset = 0;
  }
}

std::string BulkFieldHeader(size_t bulk_size) {
  std::string header(1, static_cast<char>(kBulkFieldNumber << 3 | kLengthDelimited));
  for (; bulk_size >= 0x80; bulk_size >>= 7) {
    header += static_cast<char>(0x80 | (bulk_size & 0x7f));
  }
  header += static_cast<char>(bulk_size);
  return header;
}

}  // namespace reprise::transport
