// Fuzz target: hostile bytes where a protobuf message with bulk should be.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "transport/grpc/bulk_field.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using reprise::ByteSpan;
  using reprise::transport::BulkField;
  const ByteSpan all = std::as_bytes(std::span(data, size));
  const auto whole = reprise::transport::FindBulkField(std::vector<ByteSpan>{all});
  // However the bytes are cut into slices, the answer is the same, and within the message.
  const size_t step = size == 0 ? 1 : 1 + data[0] % 7;
  std::vector<ByteSpan> slices;
  for (size_t at = 0; at < size; at += step) {
    slices.push_back(all.subspan(at, std::min(step, size - at)));
  }
  const auto sliced = reprise::transport::FindBulkField(slices);
  if (whole.ok() != sliced.ok()) std::abort();
  if (!whole.ok() || !whole->has_value()) return 0;
  const BulkField& field = **whole;
  if (field.bulk_begin > size || field.bulk_size > size - field.bulk_begin) std::abort();
  if (!sliced->has_value() || (*sliced)->bulk_begin != field.bulk_begin) std::abort();
  std::vector<std::byte> bulk(field.bulk_size);
  reprise::transport::CopyFromSlices(slices, field.bulk_begin, bulk);
  if (!std::equal(bulk.begin(), bulk.end(),
                  all.begin() + static_cast<ptrdiff_t>(field.bulk_begin))) {
    std::abort();
  }
  return 0;
}
