#include "client/operation.h"

#include <vector>

#include "absl/strings/str_cat.h"

namespace reprise::client {

absl::Status OperationSet::Add(std::shared_ptr<Operation> operation) {
  MutexLock lock(mutex_);
  if (closed_) return absl::CancelledError("the client is being destroyed");
  if (operations_.size() >= kMaxOperations) {
    return absl::ResourceExhaustedError(absl::StrCat(
        operations_.size(), " operations are under way, the most one client runs; wait for some"));
  }
  Operation* const address = operation.get();
  operations_.emplace(address, std::move(operation));
  return absl::OkStatus();
}

void OperationSet::Remove(Operation* operation) {
  std::shared_ptr<Operation> removed;
  MutexLock lock(mutex_);
  const auto found = operations_.find(operation);
  if (found == operations_.end()) return;
  removed = std::move(found->second);
  operations_.erase(found);
  if (operations_.empty()) empty_.notify_all();
}

void OperationSet::CancelAllAndWait() {
  std::vector<std::shared_ptr<Operation>> live;
  {
    MutexLock lock(mutex_);
    closed_ = true;
    for (const auto& [address, operation] : operations_) live.push_back(operation);
  }
  for (const auto& operation : live) operation->Cancel();
  MutexLock lock(mutex_);
  while (!operations_.empty()) empty_.wait(mutex_);
}

ClientCounters Counters::Read() const {
  ClientCounters read;
  read.bytes_received = bytes_received_.load(std::memory_order_relaxed);
  read.bytes_sent = bytes_sent_.load(std::memory_order_relaxed);
  read.pieces_loaded = pieces_loaded_.load(std::memory_order_relaxed);
  for (size_t i = 0; i < misses_.size(); ++i)
    read.misses[i] = misses_[i].load(std::memory_order_relaxed);
  return read;
}

// Stands between a call and whoever wants its parts, so that the operation knows which calls are
// under way.
class Operation::Observer final : public transport::CallObserver {
 public:
  Observer(std::shared_ptr<Operation> operation, uint64_t id,
           std::shared_ptr<transport::CallObserver> inner)
      : operation_(std::move(operation)), id_(id), inner_(std::move(inner)) {}

  void OnPart(transport::Part part) override { inner_->OnPart(std::move(part)); }
  void OnDone(absl::Status status) override {
    operation_->CallEnded(id_, status);
    inner_->OnDone(std::move(status));
  }

 private:
  const std::shared_ptr<Operation> operation_;
  const uint64_t id_;
  const std::shared_ptr<transport::CallObserver> inner_;
};

namespace {

class UnaryObserver final : public transport::CallObserver {
 public:
  explicit UnaryObserver(absl::AnyInvocable<void(absl::StatusOr<transport::UnaryReply>) &&> reply)
      : reply_(std::move(reply)) {}

  void OnPart(transport::Part part) override {
    if (++parts_ == 1) answer_ = {std::move(part.message), std::move(part.bulk)};
  }
  void OnDone(absl::Status status) override {
    if (status.ok() && parts_ != 1) {
      status = absl::InternalError(
          absl::StrCat("the store answered with ", parts_, " parts instead of one"));
    }
    if (status.ok()) {
      std::move(reply_)(std::move(answer_));
    } else {
      std::move(reply_)(std::move(status));
    }
  }

 private:
  absl::AnyInvocable<void(absl::StatusOr<transport::UnaryReply>) &&> reply_;
  uint64_t parts_ = 0;
  transport::UnaryReply answer_;
};

}  // namespace

void Operation::Begin() {
  if (absl::Status added = core_.operations.Add(shared_from_this()); !added.ok()) {
    OnRefused(std::move(added));
    return;
  }
  const std::shared_ptr<Operation> self = shared_from_this();
  const uint64_t ticket =
      core_.session.Acquire(deadline_, [self](absl::StatusOr<ChannelRef> channel) {
        const absl::Status status = channel.status();
        bool cancelled = false;
        {
          MutexLock lock(self->mutex_);
          cancelled = self->cancelled_;
          if (status.ok() && !cancelled) self->channel_ = *std::move(channel);
        }
        if (cancelled) {
          self->OnRefused(absl::CancelledError("cancelled before anything was sent"));
        } else if (absl::IsCancelled(status)) {
          self->OnRefused(status);
        } else if (!status.ok()) {
          self->OnUnreachable(status);
        } else {
          self->OnChannel();
        }
      });
  Session::Ready withdrawn;
  {
    MutexLock lock(mutex_);
    ticket_ = ticket;
    if (cancelled_) withdrawn = core_.session.Withdraw(ticket);
  }
  if (withdrawn) std::move(withdrawn)(absl::CancelledError("cancelled by the caller"));
}

void Operation::Cancel() {
  Session::Ready withdrawn;
  {
    MutexLock lock(mutex_);
    if (cancelled_ || left_) return;
    cancelled_ = true;
    // Under the lock, so that Leave cannot come between: the core is there as long as left_ is
    // false.
    if (ticket_ != 0) withdrawn = core_.session.Withdraw(ticket_);
    OnCancel();
  }
  if (withdrawn) std::move(withdrawn)(absl::CancelledError("cancelled by the caller"));
  CancelCalls();
}

void Operation::Leave() {
  {
    MutexLock lock(mutex_);
    left_ = true;
  }
  core_.operations.Remove(this);
}

void Operation::CancelCalls() {
  std::vector<std::shared_ptr<transport::Call>> calls;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, call] : calls_) {
      if (call != nullptr) calls.push_back(call);
    }
  }
  for (const auto& call : calls) call->Cancel();
}

void Operation::ReleaseChannel() {
  ChannelRef released;
  MutexLock lock(mutex_);
  released = std::move(channel_);
}

void Operation::CallUnary(int method, std::string message, SharedBytes bulk, Reply reply) {
  transport::CallRequest request{.method = static_cast<transport::MethodId>(method),
                                 .message = std::move(message),
                                 .bulk = std::move(bulk),
                                 .deadline = deadline_,
                                 .credit_parts = 1};
  StartCall(std::move(request), std::make_shared<UnaryObserver>(std::move(reply)));
}

void Operation::CallStreaming(int method, std::string message, uint32_t credit_parts,
                              std::shared_ptr<transport::CallObserver> observer) {
  transport::CallRequest request{.method = static_cast<transport::MethodId>(method),
                                 .message = std::move(message),
                                 .bulk = {},
                                 .deadline = deadline_,
                                 .credit_parts = credit_parts};
  StartCall(std::move(request), std::move(observer));
}

void Operation::StartCall(transport::CallRequest request,
                          std::shared_ptr<transport::CallObserver> inner) {
  ChannelRef channel;
  uint64_t id = 0;
  {
    MutexLock lock(mutex_);
    if (!cancelled_) {
      channel = channel_;
      id = next_call_++;
      calls_.emplace(id, nullptr);
    }
  }
  if (channel == nullptr) {
    inner->OnDone(absl::CancelledError("cancelled by the caller"));
    return;
  }
  auto observer = std::make_shared<Observer>(shared_from_this(), id, std::move(inner));
  std::shared_ptr<transport::Call> call = channel->Start(std::move(request), std::move(observer));
  bool cancel = false;
  {
    MutexLock lock(mutex_);
    const auto under_way = calls_.find(id);
    if (under_way == calls_.end()) return;
    under_way->second = call;
    cancel = cancelled_;
  }
  if (cancel) call->Cancel();
}

void Operation::CallEnded(uint64_t id, const absl::Status& status) {
  std::shared_ptr<transport::Call> ended;
  ChannelRef useless;
  {
    MutexLock lock(mutex_);
    if (const auto under_way = calls_.find(id); under_way != calls_.end()) {
      ended = std::move(under_way->second);
      calls_.erase(under_way);
    }
    if (absl::IsUnauthenticated(status)) useless = channel_;
  }
  if (useless != nullptr) core_.session.Discard(useless.get());
}

}  // namespace reprise::client
