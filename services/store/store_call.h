// One request on its way through the store: counted when it comes and when it is answered, and
// charged to its session and to the whole store while it is worked on.
//
// Handlers hold it by shared pointer and answer it once; dropping the last one unanswered answers
// INTERNAL. One thread at a time uses it.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "services/store/fair_executor.h"
#include "services/store/gather_pool.h"
#include "services/store/metrics.h"
#include "services/store/sessions.h"
#include "services/store/work_class.h"
#include "storage/piece_store.h"
#include "transport/transport.h"

namespace reprise::store {

// Largest request message: a Fetch of kMaxPiecesPerFetch pieces takes a third of it.
inline constexpr size_t kMaxRequestBytes = 1 * kMiB;
// Messages of all requests being worked on.
inline constexpr size_t kMaxRequestBytesInAll = 32 * kMiB;

// What every handler works with. All of it outlives every call.
struct StoreContext {
  storage::PieceStore& pieces;
  SessionTable& sessions;
  StoreMetrics& metrics;
  std::shared_ptr<GatherPool> gather;
  const Clock& clock;
  FairExecutor& executor;
  std::string software;
  // For pieces.
  uint64_t memory_bytes = 0;
  std::string data_address = {};
  bool same_host = false;
  std::atomic<size_t> request_bytes{0};
  // The second, on `clock`, of the last line about a refused login.
  std::atomic<int64_t> login_logged_s{-1};
  // Calls that have not gone yet: a disk may still be at work for one whose client has.
  Mutex calls_mutex{};
  CondVar calls_gone{};
  size_t calls ABSL_GUARDED_BY(calls_mutex) = 0;
};

// One of a context's calls, while it lives.
class CountedCall {
 public:
  explicit CountedCall(StoreContext& context);
  ~CountedCall();
  CountedCall(const CountedCall&) = delete;
  CountedCall& operator=(const CountedCall&) = delete;

 private:
  StoreContext& context_;
};

class StoreCall {
 public:
  // `session` is null only for OpenSession.
  StoreCall(StoreContext& context, transport::Request request,
            std::unique_ptr<transport::Responder> responder, const CarrierMetrics& carrier);
  ~StoreCall();
  StoreCall(const StoreCall&) = delete;
  StoreCall& operator=(const StoreCall&) = delete;

  // Charges the request to its session and the store. RESOURCE_EXHAUSTED when either has too much
  // under way, INVALID_ARGUMENT when the message is longer than any that is meant. Once, before any
  // work.
  absl::Status Admit();
  // Counts the wait, and answers what nobody waits for any more: false then.
  bool Begin(WorkClass work_class);

  transport::MethodId method() const { return request_.method; }
  const std::string& message() const { return request_.message; }
  const SharedBytes& bulk() const { return request_.bulk; }
  // Gives the bulk's buffer back to the carrier.
  void DropBulk() { request_.bulk = SharedBytes(); }
  StoreSession& session() { return *session_; }
  SessionName session_name() const { return session_.get(); }
  storage::TenantId tenant() const { return session_->tenant(); }

  // OK, or why going on is pointless.
  absl::Status StillWanted() const;
  void Send(transport::Part part);
  void WhenWritable(absl::AnyInvocable<void() &&> ready) {
    responder_->WhenWritable(std::move(ready));
  }

  // The three ways to end: one reply message, the end of the parts, or an error.
  void Reply(std::string message);
  void Finish() { Complete(absl::OkStatus()); }
  void Fail(absl::Status status) { Complete(std::move(status)); }

 private:
  void Complete(absl::Status status);

  // First, so that it ends last.
  const CountedCall counted_;
  StoreContext& context_;
  transport::Request request_;
  const std::unique_ptr<transport::Responder> responder_;
  const std::shared_ptr<StoreSession> session_;
  const CarrierMetrics& carrier_;
  const TimePoint arrived_;
  size_t charged_bytes_ = 0;
  bool admitted_ = false;
  bool completed_ = false;
};

using CallPtr = std::shared_ptr<StoreCall>;

}  // namespace reprise::store
