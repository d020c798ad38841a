// Between the transport's parts and what gRPC carries. Internal to the carrier.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include "common/clock.h"
#include "common/limits.h"
#include "common/mutex.h"
#include "transport/buffer_pool.h"
#include "transport/grpc/bulk_field.h"
#include "transport/transport.h"

namespace reprise::transport {

// Largest message that either side accepts: bulk with the message beside it and the header of its
// field, which is more than the largest message without bulk.
inline constexpr int kMaxGrpcMessageBytes =
    static_cast<int>(kMaxPartBytes + kMaxBulkMessageBytes + 64);
static_assert(kMaxMessageBytes <= kMaxPartBytes);
// Largest hello message: it travels as metadata of every call.
inline constexpr size_t kMaxGrpcHelloBytes = kKiB;
// Unused receive buffers that a channel or a server keeps.
inline constexpr size_t kGrpcPoolBytes = 64 * kMiB;

// Metadata that ties calls to their session, and that asks for the session to last as long as the
// call.
inline constexpr char kHelloMetadata[] = "reprise-hello-bin";
inline constexpr char kHoldMetadata[] = "reprise-hold";

// Trailing metadata with a CANCELLED that the service itself completed with; another one is gRPC's
// word for a call that it dropped.
inline constexpr char kCancelledMetadata[] = "reprise-cancelled";

// Bulk that gRPC refers to without having copied it. Thread-safe.
class BulkLoans {
 public:
  // The owner of `bulk` is dropped when gRPC has dropped the slice.
  static grpc::Slice Lend(const std::shared_ptr<BulkLoans>& loans, SharedBytes bulk);
  void WaitUntilNone() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Loan;

  Mutex mutex_;
  CondVar none_;
  size_t count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The message with its bulk, which is lent, appended as field 15.
grpc::ByteBuffer EncodePart(const std::string& message, SharedBytes bulk,
                            const std::shared_ptr<BulkLoans>& loans);

// A message as it came, checked but not yet copied out of gRPC's memory.
class IncomingPart {
 public:
  // INVALID_ARGUMENT when it is malformed or over the limits.
  static absl::StatusOr<IncomingPart> Parse(const grpc::ByteBuffer& buffer);

  size_t bulk_size() const { return field_.bulk_size; }
  std::string CopyMessage() const;
  // Only when bulk_size() > 0.
  BufferPool::Buffer CopyBulk(BufferPool& pool) const;

 private:
  std::vector<grpc::Slice> slices_;
  std::vector<ByteSpan> spans_;
  size_t total_ = 0;
  BulkField field_;
};

// Long messages are cut: they travel as metadata.
grpc::Status ToGrpcStatus(const absl::Status& status);
absl::Status FromGrpcStatus(const grpc::Status& status);

gpr_timespec ToGrpcDeadline(Deadline deadline);
// The time left counts from now; none at all means kMaxDeadline.
Deadline FromGrpcDeadline(gpr_timespec deadline);

}  // namespace reprise::transport
