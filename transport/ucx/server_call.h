// One request at the server, between the handler that answers it (any thread) and the loop that
// sends the answer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/transport.h"
#include "transport/ucx/endpoint.h"
#include "transport/ucx/io_loop.h"
#include "transport/ucx/ring_queue.h"

namespace reprise::transport {

class ServerCall final : public LoopTask,
                         public BulkSentObserver,
                         public std::enable_shared_from_this<ServerCall> {
 public:
  // Told on the loop's thread, in RunOnLoop, that the call's last frame was sent.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnCallCompleted(uint64_t endpoint_id, uint64_t call_id) = 0;
  };

  ServerCall(IoLoop& loop, Owner& owner, Endpoint& endpoint, uint64_t call_id, uint32_t credit);

  // ---- any thread: what Responder does ----
  void Send(Part part) ABSL_LOCKS_EXCLUDED(mutex_);
  void WhenWritable(absl::AnyInvocable<void() &&> ready) ABSL_LOCKS_EXCLUDED(mutex_);
  bool dead() const { return dead_; }
  void Complete(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);

  // ---- the loop's thread ----
  // Nobody waits for the answer any more: neither loop nor endpoint is used again, so that handlers
  // may keep their responders for longer than the server lives.
  void Kill() ABSL_LOCKS_EXCLUDED(mutex_);
  // INVALID_ARGUMENT, the peer's fault, for more credit than bulk parts were sent.
  absl::Status AddCredit(uint32_t parts) ABSL_LOCKS_EXCLUDED(mutex_);
  void RunOnLoop() override ABSL_LOCKS_EXCLUDED(mutex_);
  void OnBulkSent() override;

  // The request while its bulk is on its way.
  Request request{
      .method = 0, .message = "", .bulk = {}, .deadline = Deadline(TimePoint()), .session = {}};

 private:
  bool TooFarAhead() const {
    return bulk_in_flight_ > 0 &&
           (parts_ahead_ >= kMaxPartsAhead || bytes_ahead_ >= kMaxBytesAhead);
  }
  // The part that may be sent now.
  std::optional<Part> NextToSend() ABSL_LOCKS_EXCLUDED(mutex_);
  void SendPart(Part part);
  void SendDone(const absl::Status& status);

  IoLoop& loop_;
  Owner& owner_;
  const uint64_t call_id_;
  const std::shared_ptr<UnsentBytes> unsent_bytes_;  // of the endpoint
  std::atomic<bool> dead_{false};

  Mutex mutex_;
  RingQueue<Part> queue_ ABSL_GUARDED_BY(mutex_);
  size_t queued_bulk_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t credit_ ABSL_GUARDED_BY(mutex_);  // bulk parts that may still be sent
  absl::AnyInvocable<void() &&> waiter_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> completed_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);  // why a part could not travel

  // The loop's thread only.
  Endpoint* endpoint_;
  uint32_t next_sequence_ = 0;
  uint64_t uncredited_ = 0;  // bulk parts sent whose credit has not come back
  size_t bulk_in_flight_ = 0;
  size_t parts_ahead_ = 0;  // parts, and bytes of messages, sent since bulk went under way
  size_t bytes_ahead_ = 0;
};

// The handle that a handler gets.
class UcxResponder final : public Responder {
 public:
  // `held` counts the responders in handlers' hands.
  UcxResponder(std::shared_ptr<ServerCall> call, std::shared_ptr<std::atomic<size_t>> held);
  ~UcxResponder() override;
  UcxResponder(const UcxResponder&) = delete;
  UcxResponder& operator=(const UcxResponder&) = delete;

  void Send(Part part) override { call_->Send(std::move(part)); }
  void WhenWritable(absl::AnyInvocable<void() &&> ready) override {
    call_->WhenWritable(std::move(ready));
  }
  bool dead() const override { return call_->dead(); }
  void Complete(absl::Status status) override;

 private:
  const std::shared_ptr<ServerCall> call_;
  const std::shared_ptr<std::atomic<size_t>> held_;
  bool completed_ = false;
};

}  // namespace reprise::transport
