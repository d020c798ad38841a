// Frames from a hostile peer: whatever decodes must encode to the same header, within the limits.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "common/limits.h"
#include "transport/ucx/frame.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reprise;             // NOLINT
  using namespace reprise::transport;  // NOLINT
  uint64_t data_bytes = 0;
  if (size < sizeof(data_bytes)) return 0;
  std::memcpy(&data_bytes, data, sizeof(data_bytes));
  const ByteSpan header(reinterpret_cast<const std::byte*>(data) + sizeof(data_bytes),
                        size - sizeof(data_bytes));
  const absl::StatusOr<Frame> frame = DecodeFrame(header, data_bytes);
  if (!frame.ok()) return 0;
  const FrameHeader encoded = EncodeFrame(*frame);
  const bool same = std::memcmp(encoded.data(), header.data(), encoded.size()) == 0;
  const bool within =
      frame->bulk_bytes <= kMaxPartBytes && frame->message_bytes <= kMaxMessageBytes;
  const bool message_fits =
      !frame->carries_bulk() || MessageBesideBulk(header).size() == frame->message_bytes;
  const bool lent_fits = frame->kind != FrameKind::kLentPart ||
                         (frame->bulk_bytes > 0 && frame->message_bytes <= kMaxBulkMessageBytes &&
                          frame->address + frame->bulk_bytes > frame->address);
  if (!same || !within || !message_fits || !lent_fits) std::abort();
  return 0;
}
