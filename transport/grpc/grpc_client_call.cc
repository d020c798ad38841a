#include "transport/grpc/grpc_client_call.h"

#include "absl/strings/str_cat.h"
#include <grpc/support/time.h>

namespace reprise::transport {

// Gives back the credit of one part together with its memory.
class GrpcClientCall::PartBuffer {
 public:
  PartBuffer(std::shared_ptr<GrpcClientCall> call, BufferPool::Buffer buffer)
      : call_(std::move(call)), buffer_(std::move(buffer)) {}
  ~PartBuffer() {
    buffer_.owner.reset();
    call_->ReturnCredit();
  }
  PartBuffer(const PartBuffer&) = delete;
  PartBuffer& operator=(const PartBuffer&) = delete;

 private:
  const std::shared_ptr<GrpcClientCall> call_;
  BufferPool::Buffer buffer_;
};

GrpcClientCall::GrpcClientCall(std::shared_ptr<GrpcClientCore> core, uint32_t credit,
                               std::shared_ptr<CallObserver> observer)
    : core_(std::move(core)), credit_(credit), observer_(std::move(observer)) {}

void GrpcClientCall::Start(CallRequest request, std::optional<Deadline> deadline, bool hold) {
  deadline_ = deadline;
  rpc_ = std::make_unique<Rpc>();
  grpc::ClientContext& context = rpc_->context;
  if (deadline.has_value()) context.set_deadline(ToGrpcDeadline(*deadline));
  const std::optional<std::string>& hello = core_->options().hello;
  if (hello.has_value()) context.AddMetadata(kHelloMetadata, *hello);
  if (hold) context.AddMetadata(kHoldMetadata, "1");
  // Corked: headers, message and end of stream leave as one batch.
  context.set_initial_metadata_corked(true);
  rpc_->stream =
      core_->stub().PrepareCall(&context, core_->options().paths[request.method], core_->queue());
  const grpc::ByteBuffer message =
      EncodePart(request.message, std::move(request.bulk), core_->loans());
  pending_ = 2;
  reading_ = true;
  // gRPC keeps the deadline too, but does not report the end of a call of which it has something to
  // write for as long as the connection takes nothing.
  if (deadline_.has_value()) {
    ++pending_;
    deadline_alarm_.emplace();
    deadline_alarm_->Set(core_->queue(), ToGrpcDeadline(*deadline_), deadline_passed_.Arm());
  }
  // Completions may run, and retire the call, while these return: nothing unlocked may follow them.
  grpc::GenericClientAsyncReaderWriter& stream = *rpc_->stream;
  grpc::ByteBuffer& incoming = rpc_->incoming;
  void* const read = read_.Arm();
  stream.StartCall(nullptr);
  stream.Write(message, grpc::WriteOptions().set_last_message(), written_.Arm());
  stream.Read(&incoming, read);

  bool poke = false;
  {
    MutexLock lock(mutex_);
    if (phase_ == Phase::kStarting) {
      phase_ = Phase::kLive;
      poke = poke_wanted_;
    }
  }
  if (poke) Poke();
}

void GrpcClientCall::End(absl::Status status) {
  {
    MutexLock lock(mutex_);
    if (ended_.has_value() || phase_ == Phase::kRetired) return;
    ended_ = std::move(status);
  }
  Poke();
}

void GrpcClientCall::Cancel() { End(absl::CancelledError("the caller cancelled")); }

void GrpcClientCall::Poke() {
  {
    MutexLock lock(mutex_);
    poke_wanted_ = true;
    if (phase_ != Phase::kLive || poke_pending_) return;
    poke_wanted_ = false;
    poke_pending_ = true;
  }
  if (!poke_alarm_.has_value()) poke_alarm_.emplace();
  // Read before the tag is armed, which is what the queue's end is ordered after.
  grpc::CompletionQueue* const queue = core_->queue();
  poke_alarm_->Set(queue, gpr_now(GPR_CLOCK_MONOTONIC), poked_.Arm());
}

void GrpcClientCall::OnPoked(bool /*ok*/) {
  {
    // What was noted since the alarm was set is seen by this Advance.
    MutexLock lock(mutex_);
    poke_pending_ = false;
    poke_wanted_ = false;
  }
  Advance();
}

void GrpcClientCall::OnWritten(bool /*ok*/) {
  --pending_;
  Advance();
}

void GrpcClientCall::OnRead(bool ok) {
  --pending_;
  reading_ = false;
  if (ok) {
    absl::StatusOr<IncomingPart> part = IncomingPart::Parse(rpc_->incoming);
    rpc_->incoming.Clear();
    if (part.ok()) {
      waiting_ = *std::move(part);
    } else {
      End(absl::InternalError(
          absl::StrCat(core_->options().address, " sent ", part.status().ToString())));
    }
  } else {
    read_closed_ = true;
  }
  if (!finish_started_) {
    // Only now: gRPC wants the initial metadata, which the first read brings, before the status.
    finish_started_ = true;
    ++pending_;
    rpc_->stream->Finish(&rpc_->status, finish_.Arm());
  }
  Advance();
}

void GrpcClientCall::OnFinished(bool /*ok*/) {
  --pending_;
  finished_ = true;
  Advance();
}

void GrpcClientCall::OnDeadline(bool ok) {
  --pending_;
  if (ok) End(absl::DeadlineExceededError("the call's deadline passed"));
  Advance();
}

void GrpcClientCall::Advance() {
  std::optional<absl::Status> ended;
  {
    MutexLock lock(mutex_);
    ended = ended_;
  }
  if (ended.has_value()) {
    dropped_part_ |= waiting_.has_value();
    waiting_.reset();
    if (!std::exchange(cancel_sent_, true)) rpc_->context.TryCancel();
    // The observer does not wait for what gRPC still has to report.
    if (!finished_ || reading_) Conclude(*std::move(ended));
  }
  const bool failed = finished_ && !rpc_->status.ok();
  if (waiting_.has_value() && !DeliverWaiting()) {
    if (!failed) return;
    waiting_.reset();
  }
  if (!reading_ && !read_closed_ && !failed) {
    reading_ = true;
    ++pending_;
    rpc_->stream->Read(&rpc_->incoming, read_.Arm());
    return;
  }
  if (!finished_ || reading_) return;
  Conclude(FinalStatus());
  if (pending_ > 0) {
    if (deadline_alarm_.has_value()) deadline_alarm_->Cancel();
    return;
  }
  Retire();
}

bool GrpcClientCall::DeliverWaiting() {
  if (waiting_->bulk_size() > 0) {
    MutexLock lock(mutex_);
    if (credit_used_ >= credit_) {
      credit_wanted_ = true;
      return false;
    }
    credit_wanted_ = false;
    ++credit_used_;
  }
  Part part{waiting_->CopyMessage(), SharedBytes()};
  if (waiting_->bulk_size() > 0) {
    BufferPool::Buffer buffer = waiting_->CopyBulk(core_->pool());
    const ByteSpan bytes = buffer.bytes;
    part.bulk =
        SharedBytes(bytes, std::make_shared<PartBuffer>(shared_from_this(), std::move(buffer)));
  }
  waiting_.reset();
  observer_->OnPart(std::move(part));
  return true;
}

absl::Status GrpcClientCall::FinalStatus() {
  absl::Status status = FromGrpcStatus(rpc_->status);
  if (status.ok() && !dropped_part_) return status;
  MutexLock lock(mutex_);
  if (ended_.has_value()) return *ended_;
  if (absl::IsCancelled(status) &&
      rpc_->context.GetServerTrailingMetadata().count(kCancelledMetadata) == 0) {
    // The server's end of the same deadline may be the first to give up, and resets the stream.
    if (deadline_.has_value() && deadline_->PassedAt(Clock::Steady().Now())) {
      return absl::DeadlineExceededError("the call's deadline passed");
    }
    return absl::UnavailableError(
        absl::StrCat(core_->options().address, " dropped the call: ", status.ToString()));
  }
  return status;
}

void GrpcClientCall::Conclude(absl::Status status) {
  const std::shared_ptr<CallObserver> observer = std::exchange(observer_, nullptr);
  if (observer != nullptr) observer->OnDone(std::move(status));
}

void GrpcClientCall::Retire() {
  {
    MutexLock lock(mutex_);
    // With a poke under way its completion comes here again.
    if (poke_pending_) return;
    phase_ = Phase::kRetired;
  }
  rpc_.reset();
  core_->Remove(shared_from_this());
}

void GrpcClientCall::ReturnCredit() {
  {
    MutexLock lock(mutex_);
    --credit_used_;
    if (!credit_wanted_) return;
    credit_wanted_ = false;
  }
  Poke();
}

}  // namespace reprise::transport
