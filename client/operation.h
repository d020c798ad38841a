// What every operation of a client shares: its place in the client, its stores and channels, its
// calls, its cancellation and its one result.
//
// An operation is shared by whatever still holds a callback into it, and by the client until it has
// completed. Its members belong to one callback at a time unless they say otherwise. After Leave it
// must not touch the Core.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "client/async.h"
#include "client/reprise.h"
#include "client/session.h"
#include "client/stores.h"
#include "client/turn_queue.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/transport.h"

namespace reprise::client {

// Operations under way at once in one client; more are refused with RESOURCE_EXHAUSTED.
inline constexpr size_t kMaxOperations = 4096;

class Operation;

// The operations under way. Thread-safe.
class OperationSet {
 public:
  // CANCELLED once the client is being destroyed, RESOURCE_EXHAUSTED at kMaxOperations.
  absl::Status Add(std::shared_ptr<Operation> operation) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(Operation* operation) ABSL_LOCKS_EXCLUDED(mutex_);
  void CancelAllAndWait() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  CondVar empty_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_map<Operation*, std::shared_ptr<Operation>> operations_ ABSL_GUARDED_BY(mutex_);
};

class Counters {
 public:
  void Received(uint64_t bytes) { bytes_received_.fetch_add(bytes, std::memory_order_relaxed); }
  void Sent(uint64_t bytes) { bytes_sent_.fetch_add(bytes, std::memory_order_relaxed); }
  void PieceLoaded() { pieces_loaded_.fetch_add(1, std::memory_order_relaxed); }
  void Missed(MissReason reason) {
    misses_[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  }
  ClientCounters Read() const;

 private:
  std::atomic<uint64_t> bytes_received_{0};
  std::atomic<uint64_t> bytes_sent_{0};
  std::atomic<uint64_t> pieces_loaded_{0};
  std::array<std::atomic<uint64_t>, kMissReasons> misses_{};
};

// What the operations of one client work with.
struct Core {
  Core(std::unique_ptr<Membership> membership, ConnectorOf connector_of,
       const ClientOptions& client_options, const Clock& clock)
      : options(client_options),
        stores(std::move(membership), std::move(connector_of), client_options.connect_timeout,
               clock),
        verifier("reprise-verify", client_options.verify_threads),
        encoder("reprise-encode", client_options.encode_threads) {}

  const ClientOptions options;
  Counters counters;
  // Bytes of pieces that are encoded, or about to be, and not sent; outlives the core for the sake
  // of late references.
  const std::shared_ptr<std::atomic<uint64_t>> unsent_bytes =
      std::make_shared<std::atomic<uint64_t>>(0);
  OperationSet operations;
  Stores stores;
  // Checks and decodes what fetches bring.
  TurnQueue verifier;
  // Encodes what publishes send: one piece a turn, the earliest deadline first, so that one whose
  // time is over waits for the piece in hand at most.
  TurnQueue encoder;
};

class Operation : public std::enable_shared_from_this<Operation> {
 public:
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Once. Ends in Start or OnRefused, perhaps before it returns.
  void Begin();

  // Any thread, at any time. What is under way ends with CANCELLED.
  void Cancel() ABSL_LOCKS_EXCLUDED(mutex_);

 protected:
  using Reply = absl::AnyInvocable<void(absl::StatusOr<transport::UnaryReply>) &&>;

  Operation(Core& core, Deadline deadline)
      : core_(core),
        deadline_(deadline),
        stores_(core.stores.Current()),
        channels_(stores_->sessions.size()) {}

  // Starts the first calls.
  virtual void Start() = 0;
  // Nothing was started: this client refused (CANCELLED, RESOURCE_EXHAUSTED).
  virtual void OnRefused(absl::Status status) = 0;

  Core& core() const { return core_; }
  const Deadline& deadline() const { return deadline_; }

  // Any thread; under this operation's lock, so that the core is there. Not for calls: they are
  // cancelled anyway.
  virtual void OnCancel() {}

  const View& view() const { return *stores_->view; }
  uint32_t node_count() const { return static_cast<uint32_t>(view().nodes.size()); }

  // By when a node must have answered: the deadline for the last that can be asked, for any other
  // half of the time that is left, so that the rest is enough for the next.
  Deadline Patience(bool last) const;

  // Starts a call of one part to a node of the view; `reply` runs once, on any thread, perhaps
  // before this returns. The channel to a node is the same for all of an operation; a node that
  // cannot be reached ends the call with UNAVAILABLE, DEADLINE_EXCEEDED or PERMISSION_DENIED.
  void CallUnary(uint32_t node, Deadline until, int method, std::string message, SharedBytes bulk,
                 Reply reply) ABSL_LOCKS_EXCLUDED(mutex_);

  // For CallStreaming, and for who cancels that one alone.
  uint64_t NewCall() { return next_call_.fetch_add(1, std::memory_order_relaxed); }
  // Starts a call whose parts go to `observer`. OnDone comes as for any call, also for one that did
  // not reach its node.
  void CallStreaming(uint64_t id, uint32_t node, Deadline until, int method, std::string message,
                     uint32_t credit_parts, std::shared_ptr<transport::CallObserver> observer)
      ABSL_LOCKS_EXCLUDED(mutex_);

  void CancelCall(uint64_t id) ABSL_LOCKS_EXCLUDED(mutex_);
  // Cancels the calls under way; later ones may be started.
  void CancelCalls() ABSL_LOCKS_EXCLUDED(mutex_);

  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // Gives the channels back before, and the client its word after, the result is delivered.
  void ReleaseChannels() ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  class Observer;

  struct UnderWay {
    uint32_t node = 0;
    uint64_t ticket = 0;                    // of its session; 0 once there is a channel
    std::shared_ptr<transport::Call> call;  // null while Start has not returned
    bool cancelled = false;                 // before there was something to cancel
  };

  void StartCall(uint64_t id, uint32_t node, transport::CallRequest request,
                 std::shared_ptr<transport::CallObserver> inner) ABSL_LOCKS_EXCLUDED(mutex_);
  void OnChannel(uint64_t id, absl::StatusOr<ChannelRef> channel, transport::CallRequest request,
                 std::shared_ptr<transport::CallObserver> inner) ABSL_LOCKS_EXCLUDED(mutex_);
  void Launch(uint64_t id, const ChannelRef& channel, transport::CallRequest request,
              std::shared_ptr<transport::CallObserver> inner) ABSL_LOCKS_EXCLUDED(mutex_);
  void CallEnded(uint64_t id, const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);

  Core& core_;
  const Deadline deadline_;
  const std::shared_ptr<const StoreSet> stores_;
  std::atomic<uint64_t> next_call_{1};

  mutable Mutex mutex_;
  std::atomic<bool> cancelled_{false};  // set under mutex_
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<ChannelRef> channels_ ABSL_GUARDED_BY(mutex_);  // to each node of the view
  absl::flat_hash_map<uint64_t, UnderWay> calls_ ABSL_GUARDED_BY(mutex_);
};

// An operation whose outcome is a T.
template <typename T, typename Base = Operation>
class OperationOf : public Base {
 public:
  using Base::Base;

  // Begins `operation` and gives its future.
  static Async<T> Run(const std::shared_ptr<OperationOf>& operation) {
    Async<T> future = operation->source_.future();
    operation->source_.OnCancel([weak = std::weak_ptr<OperationOf>(operation)]() {
      if (auto live = weak.lock()) live->Cancel();
    });
    operation->Begin();
    return future;
  }

 protected:
  void OnRefused(absl::Status status) override { Finish(std::move(status)); }

  // The operation's last act, once.
  void Finish(absl::StatusOr<T> result) {
    this->ReleaseChannels();
    source_.Complete(std::move(result));
    this->Leave();
  }

 private:
  typename Async<T>::Source source_;
};

// An operation that failed before it began.
template <typename T>
Async<T> Refused(absl::Status status) {
  typename Async<T>::Source source;
  source.Complete(std::move(status));
  return source.future();
}

}  // namespace reprise::client
