// Finds the bulk inside a protobuf message, without knowing the message.
//
// On gRPC a part's bulk travels as the message's field 15, of type bytes, so that any gRPC client
// can speak to a store. This carrier appends that field to what it sends, and on receipt looks for
// it among the top-level fields. Every length is hostile. Stateless; no function keeps what it is
// given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "common/bytes.h"
#include "common/status.h"

namespace reprise::transport {

inline constexpr uint32_t kBulkFieldNumber = 15;

// Offsets into the whole message.
struct BulkField {
  size_t field_begin = 0;  // where the field's tag begins
  size_t bulk_begin = 0;   // where its bytes begin; they end the field
  size_t bulk_size = 0;
};

// Looks through the top-level fields of the message that `slices` hold one after the other. nullopt
// when it has no field 15. INVALID_ARGUMENT when it is not a well-formed message, has two of them,
// or one of another type. (Groups, which proto3 does not have, count as malformed.)
absl::StatusOr<std::optional<BulkField>> FindBulkField(std::span<const ByteSpan> slices);

// Copies the out.size() bytes from `offset` on, which must lie within the slices.
void CopyFromSlices(std::span<const ByteSpan> slices, size_t offset, MutableByteSpan out);

// Tag and length of a bulk field of `bulk_size` bytes: what stands between the message and the
// bulk.
std::string BulkFieldHeader(size_t bulk_size);

}  // namespace reprise::transport
