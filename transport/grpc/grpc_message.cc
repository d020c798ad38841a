#include "transport/grpc/grpc_message.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include <grpc/support/time.h>

#include "transport/grpc/tsan_marks.h"
#include "transport/part_limits.h"

namespace reprise::transport {
namespace {

// What peers accept as metadata is 8 KiB together, and percent-encoding may triple a message.
constexpr size_t kMaxStatusMessageBytes = 2 * kKiB;

}  // namespace

struct BulkLoans::Loan {
  std::shared_ptr<BulkLoans> loans;
  SharedBytes bulk;
};

grpc::Slice BulkLoans::Lend(const std::shared_ptr<BulkLoans>& loans, SharedBytes bulk) {
  {
    MutexLock lock(loans->mutex_);
    ++loans->count_;
  }
  const ByteSpan bytes = bulk.bytes();
  auto loan = std::make_unique<Loan>(Loan{loans, std::move(bulk)});
  TsanRelease(loan.get());
  return grpc::Slice(
      const_cast<std::byte*>(bytes.data()), bytes.size(),
      [](void* raw) {
        TsanAcquire(raw);
        std::unique_ptr<Loan> ended(static_cast<Loan*>(raw));
        ended->bulk = SharedBytes();
        MutexLock lock(ended->loans->mutex_);
        if (--ended->loans->count_ == 0) ended->loans->none_.notify_all();
      },
      loan.release());
}

void BulkLoans::WaitUntilNone() {
  MutexLock lock(mutex_);
  while (count_ > 0) none_.wait(mutex_);
}

grpc::ByteBuffer EncodePart(const std::string& message, SharedBytes bulk,
                            const std::shared_ptr<BulkLoans>& loans) {
  if (bulk.empty()) {
    const grpc::Slice slice(message);
    return grpc::ByteBuffer(&slice, 1);
  }
  const std::string head = absl::StrCat(message, BulkFieldHeader(bulk.size()));
  const grpc::Slice slices[] = {grpc::Slice(head), BulkLoans::Lend(loans, std::move(bulk))};
  return grpc::ByteBuffer(slices, 2);
}

absl::StatusOr<IncomingPart> IncomingPart::Parse(const grpc::ByteBuffer& buffer) {
  IncomingPart part;
  if (!buffer.Dump(&part.slices_).ok()) {
    return absl::InvalidArgumentError("the message cannot be decompressed");
  }
  part.spans_.reserve(part.slices_.size());
  for (const grpc::Slice& slice : part.slices_) {
    part.spans_.push_back(std::as_bytes(std::span(slice.begin(), slice.size())));
    part.total_ += slice.size();
  }
  REPRISE_ASSIGN_OR_RETURN(std::optional<BulkField> field, FindBulkField(part.spans_));
  part.field_ = field.value_or(BulkField{part.total_, part.total_, 0});
  const size_t field_bytes =
      part.field_.bulk_begin + part.field_.bulk_size - part.field_.field_begin;
  REPRISE_RETURN_IF_ERROR(CheckPartSizes(part.total_ - field_bytes, part.field_.bulk_size));
  return part;
}

std::string IncomingPart::CopyMessage() const {
  const size_t after = field_.bulk_begin + field_.bulk_size;
  std::string message(field_.field_begin + (total_ - after), '\0');
  const MutableByteSpan out = std::as_writable_bytes(std::span(message.data(), message.size()));
  CopyFromSlices(spans_, 0, out.first(field_.field_begin));
  CopyFromSlices(spans_, after, out.subspan(field_.field_begin));
  return message;
}

BufferPool::Buffer IncomingPart::CopyBulk(BufferPool& pool) const {
  BufferPool::Buffer buffer = pool.Take(field_.bulk_size);
  CopyFromSlices(spans_, field_.bulk_begin, buffer.bytes);
  return buffer;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message().data(), status.message().size());
  if (message.size() > kMaxStatusMessageBytes) message.resize(kMaxStatusMessageBytes);
  // The two libraries share one numbering.
  return {static_cast<grpc::StatusCode>(status.code()), message};
}

absl::Status FromGrpcStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

gpr_timespec ToGrpcDeadline(Deadline deadline) {
  const Duration left = deadline.RemainingAt(Clock::Steady().Now());
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(left.count(), GPR_TIMESPAN));
}

Deadline FromGrpcDeadline(gpr_timespec deadline) {
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) == 0) {
    return Deadline::After(kMaxDeadline);
  }
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  const auto seconds =
      std::clamp<int64_t>(left.tv_sec, -1, std::chrono::seconds(kMaxDeadline).count());
  return Deadline::After(std::chrono::seconds(seconds) + std::chrono::nanoseconds(left.tv_nsec));
}

}  // namespace reprise::transport
