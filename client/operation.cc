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
  Start();
}

Deadline Operation::Patience(bool last) const {
  if (last) return deadline_;
  const TimePoint now = Clock::Steady().Now();
  return Deadline(now + deadline_.RemainingAt(now) / 2);
}

void Operation::Cancel() {
  {
    MutexLock lock(mutex_);
    if (cancelled_ || left_) return;
    cancelled_ = true;
    // Under the lock, so that Leave cannot come between: the core is there as long as left_ is
    // false.
    OnCancel();
  }
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
  std::vector<uint64_t> ids;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, under_way] : calls_) ids.push_back(id);
  }
  for (const uint64_t id : ids) CancelCall(id);
}

void Operation::CancelCall(uint64_t id) {
  std::shared_ptr<transport::Call> call;
  Session::Ready withdrawn;
  {
    MutexLock lock(mutex_);
    const auto found = calls_.find(id);
    if (found == calls_.end()) return;
    UnderWay& under_way = found->second;
    under_way.cancelled = true;
    call = under_way.call;
    // A call that waits keeps the operation, and so the core, from ending.
    if (under_way.ticket != 0)
      withdrawn = stores_->sessions[under_way.node]->Withdraw(under_way.ticket);
  }
  if (withdrawn) std::move(withdrawn)(absl::CancelledError("cancelled before it was sent"));
  if (call != nullptr) call->Cancel();
}

void Operation::ReleaseChannels() {
  std::vector<ChannelRef> released;
  MutexLock lock(mutex_);
  released = std::move(channels_);
}

void Operation::CallUnary(uint32_t node, Deadline until, int method, std::string message,
                          SharedBytes bulk, Reply reply) {
  transport::CallRequest request{.method = static_cast<transport::MethodId>(method),
                                 .message = std::move(message),
                                 .bulk = std::move(bulk),
                                 .deadline = until,
                                 .credit_parts = 1};
  StartCall(NewCall(), node, std::move(request), std::make_shared<UnaryObserver>(std::move(reply)));
}

void Operation::CallStreaming(uint64_t id, uint32_t node, Deadline until, int method,
                              std::string message, uint32_t credit_parts,
                              std::shared_ptr<transport::CallObserver> observer) {
  transport::CallRequest request{.method = static_cast<transport::MethodId>(method),
                                 .message = std::move(message),
                                 .bulk = {},
                                 .deadline = until,
                                 .credit_parts = credit_parts};
  StartCall(id, node, std::move(request), std::move(observer));
}

void Operation::StartCall(uint64_t id, uint32_t node, transport::CallRequest request,
                          std::shared_ptr<transport::CallObserver> inner) {
  ChannelRef channel;
  bool refused = false;
  {
    MutexLock lock(mutex_);
    refused = cancelled_;
    if (!refused) {
      channel = channels_[node];
      calls_[id].node = node;
    }
  }
  if (refused) {
    inner->OnDone(absl::CancelledError("cancelled by the caller"));
    return;
  }
  if (channel != nullptr) return Launch(id, channel, std::move(request), std::move(inner));
  Session& session = *stores_->sessions[node];
  const Deadline until = request.deadline;
  const std::shared_ptr<Operation> self = shared_from_this();
  const uint64_t ticket =
      session.Acquire(until, [self, id, request = std::move(request), inner = std::move(inner)](
                                 absl::StatusOr<ChannelRef> acquired) mutable {
        self->OnChannel(id, std::move(acquired), std::move(request), std::move(inner));
      });
  Session::Ready withdrawn;
  {
    MutexLock lock(mutex_);
    const auto under_way = calls_.find(id);
    if (under_way == calls_.end() || under_way->second.call != nullptr) return;
    under_way->second.ticket = ticket;
    if (under_way->second.cancelled) withdrawn = session.Withdraw(ticket);
  }
  if (withdrawn) std::move(withdrawn)(absl::CancelledError("cancelled before it was sent"));
}

void Operation::OnChannel(uint64_t id, absl::StatusOr<ChannelRef> channel,
                          transport::CallRequest request,
                          std::shared_ptr<transport::CallObserver> inner) {
  absl::Status status = channel.status();
  ChannelRef use;
  {
    MutexLock lock(mutex_);
    UnderWay& under_way = calls_[id];
    under_way.ticket = 0;
    if (status.ok() && under_way.cancelled)
      status = absl::CancelledError("cancelled by the caller");
    if (status.ok()) {
      // Another call may have brought one first.
      ChannelRef& kept = channels_[under_way.node];
      if (kept == nullptr) kept = *std::move(channel);
      use = kept;
    } else {
      calls_.erase(id);
    }
  }
  if (status.ok()) return Launch(id, use, std::move(request), std::move(inner));
  inner->OnDone(std::move(status));
}

void Operation::Launch(uint64_t id, const ChannelRef& channel, transport::CallRequest request,
                       std::shared_ptr<transport::CallObserver> inner) {
  auto observer = std::make_shared<Observer>(shared_from_this(), id, std::move(inner));
  std::shared_ptr<transport::Call> call = channel->Start(std::move(request), std::move(observer));
  bool cancel = false;
  {
    MutexLock lock(mutex_);
    const auto under_way = calls_.find(id);
    if (under_way == calls_.end()) return;
    under_way->second.call = call;
    cancel = under_way->second.cancelled;
  }
  if (cancel) call->Cancel();
}

void Operation::CallEnded(uint64_t id, const absl::Status& status) {
  std::shared_ptr<transport::Call> ended;
  ChannelRef useless;
  Session* session = nullptr;
  {
    MutexLock lock(mutex_);
    const auto under_way = calls_.find(id);
    if (under_way == calls_.end()) return;
    const uint32_t node = under_way->second.node;
    ended = std::move(under_way->second.call);
    calls_.erase(under_way);
    if (absl::IsUnauthenticated(status)) useless = channels_[node];
    session = stores_->sessions[node];
  }
  if (useless != nullptr) session->Discard(useless.get());
}

}  // namespace reprise::client
