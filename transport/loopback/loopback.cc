#include "transport/loopback/loopback.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"

#include "transport/loopback/loopback_call.h"
#include "transport/loopback/loopback_hub.h"
#include "transport/part_limits.h"

namespace reprise::transport {
namespace {

std::string NextName(std::string_view kind) {
  static std::atomic<uint64_t> count{0};
  return absl::StrCat(std::string(kind), ++count);
}

class LoopbackChannel final : public Channel {
 public:
  explicit LoopbackChannel(std::shared_ptr<LoopbackLink> link) : link_(std::move(link)) {}
  ~LoopbackChannel() override {
    link_->Sever(absl::CancelledError("the channel was destroyed"));
    link_->WaitUntilIdle();
    link_->hub().Remove(link_);
  }

  std::shared_ptr<Call> Start(CallRequest request,
                              std::shared_ptr<CallObserver> observer) override {
    return link_->Start(std::move(request), std::move(observer));
  }
  bool alive() const override { return !link_->severed(); }
  std::string_view carrier() const override { return "loopback"; }

 private:
  const std::shared_ptr<LoopbackLink> link_;
};

}  // namespace

void LoopbackHub::PostOrRun(EventLoop::Task task) {
  {
    MutexLock lock(mutex_);
    if (loop_ != nullptr) return loop_->Post(std::move(task));
  }
  std::move(task)();
}

bool LoopbackHub::PostAt(TimePoint when, EventLoop::Task task, EventLoop::Timer& timer) {
  MutexLock lock(mutex_);
  if (loop_ == nullptr) return false;
  timer = loop_->PostAt(when, std::move(task));
  return true;
}

void LoopbackHub::Cancel(const EventLoop::Timer& timer) {
  MutexLock lock(mutex_);
  if (loop_ != nullptr) loop_->Cancel(timer);
}

bool LoopbackHub::Add(const std::shared_ptr<LoopbackLink>& link) {
  MutexLock lock(mutex_);
  if (loop_ == nullptr) return false;
  links_.insert(link);
  return true;
}

void LoopbackHub::Remove(const std::shared_ptr<LoopbackLink>& link) {
  MutexLock lock(mutex_);
  links_.erase(link);
}

void LoopbackHub::Close() {
  absl::flat_hash_set<std::shared_ptr<LoopbackLink>> links;
  {
    MutexLock lock(mutex_);
    links = links_;
  }
  for (const std::shared_ptr<LoopbackLink>& link : links) {
    link->Sever(absl::UnavailableError("the loopback server was destroyed"));
  }
  std::unique_ptr<EventLoop> loop;
  {
    MutexLock lock(mutex_);
    loop = std::move(loop_);
    links_.clear();
  }
  loop.reset();
}

std::shared_ptr<Call> LoopbackLink::Start(CallRequest request,
                                          std::shared_ptr<CallObserver> observer) {
  const absl::Status sizes = CheckPartSizes(request.message.size(), request.bulk.size());
  auto call = std::make_shared<LoopbackCall>(shared_from_this(), std::move(request), observer);
  if (!sizes.ok()) {
    observer->OnDone(sizes);
    return call;
  }
  bool deliver = false;
  bool severed = false;
  {
    MutexLock lock(mutex_);
    severed = severed_;
    if (!severed) {
      calls_.insert(call);
      deliver = in_flight_.size() < kMaxLoopbackCallsInFlight;
      if (deliver) {
        in_flight_.insert(call.get());
      } else {
        waiting_.push_back(call);
      }
    }
  }
  if (severed) {
    observer->OnDone(absl::UnavailableError("the loopback connection is gone; connect again"));
    return call;
  }
  call->Arm();
  if (deliver) hub_->PostOrRun([call] { call->DeliverRequest(); });
  return call;
}

void LoopbackLink::Sever(const absl::Status& status) {
  absl::flat_hash_set<std::shared_ptr<LoopbackCall>> calls;
  {
    MutexLock lock(mutex_);
    if (severed_) {
      while (severing_) severed_all_.wait(mutex_);
      return;
    }
    severed_ = true;
    severing_ = true;
    calls = calls_;
  }
  for (const std::shared_ptr<LoopbackCall>& call : calls) call->End(status);
  if (session_ != nullptr) {
    // After the calls' last steps, which are posted already.
    hub_->PostOrRun(
        [self = shared_from_this()] { self->hub_->service().SessionLost(self->session_); });
  }
  MutexLock lock(mutex_);
  severing_ = false;
  severed_all_.notify_all();
}

void LoopbackLink::WaitUntilIdle() {
  MutexLock lock(mutex_);
  while (!calls_.empty()) idle_.wait(mutex_);
}

bool LoopbackLink::severed() const {
  MutexLock lock(mutex_);
  return severed_;
}

void LoopbackLink::Ended(const std::shared_ptr<LoopbackCall>& call) {
  std::shared_ptr<LoopbackCall> next;
  {
    MutexLock lock(mutex_);
    calls_.erase(call);
    const bool was_in_flight = in_flight_.erase(call.get()) > 0;
    while (was_in_flight && next == nullptr && !waiting_.empty()) {
      // One that has ended while it waited is no longer among calls_.
      if (calls_.contains(waiting_.front())) next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (next != nullptr) in_flight_.insert(next.get());
    if (calls_.empty()) idle_.notify_all();
  }
  if (next != nullptr) {
    hub_->PostOrRun([next] { next->DeliverRequest(); });
  }
}

LoopbackServer::LoopbackServer(Service& service)
    : address_(NextName("loopback:")), hub_(std::make_shared<LoopbackHub>(service)) {}

std::unique_ptr<LoopbackServer> LoopbackServer::Create(Service& service) {
  return std::unique_ptr<LoopbackServer>(new LoopbackServer(service));
}

LoopbackServer::~LoopbackServer() { hub_->Close(); }

absl::StatusOr<LoopbackConnection> LoopbackServer::Connect(std::string_view hello) {
  REPRISE_ASSIGN_OR_RETURN(HelloReply reply,
                           hub_->service().Hello(hello, NextName("loopback-client:")));
  auto link = std::make_shared<LoopbackLink>(hub_, std::move(reply.session));
  hub_->Add(link);
  return LoopbackConnection{std::make_unique<LoopbackChannel>(std::move(link)),
                            std::move(reply.message)};
}

std::unique_ptr<Channel> LoopbackServer::ConnectWithoutHello() {
  auto link = std::make_shared<LoopbackLink>(hub_, nullptr);
  hub_->Add(link);
  return std::make_unique<LoopbackChannel>(std::move(link));
}

std::string LoopbackServer::address() const { return address_; }

}  // namespace reprise::transport
