#include "transport/faulty/faulty.h"

#include <utility>

#include "transport/faulty/faulty_call.h"

namespace reprise::transport {

FaultyChannel::FaultyChannel(std::unique_ptr<Channel> inner, const FaultPlan& plan)
    : plan_(plan), carrier_(inner->carrier()), inner_(std::move(inner)) {}

FaultyChannel::~FaultyChannel() {
  EndAll(absl::CancelledError("the channel was destroyed"));
  std::shared_ptr<Channel> inner;
  {
    MutexLock lock(mutex_);
    while (!calls_.empty()) idle_.wait(mutex_);
    inner = std::move(inner_);
  }
  // Before the loop, to which the calls inside still pass on what they yield.
  inner.reset();
}

std::shared_ptr<Call> FaultyChannel::Start(CallRequest request,
                                           std::shared_ptr<CallObserver> observer) {
  std::shared_ptr<Channel> inner;
  std::shared_ptr<FaultyCall> call;
  {
    MutexLock lock(mutex_);
    call = std::make_shared<FaultyCall>(*this, calls_started_++, request, std::move(observer));
    inner = inner_;
    calls_.insert(call);
  }
  if (inner == nullptr) {
    call->End(absl::UnavailableError("the faulty connection is broken"));
  } else {
    call->Start(*inner, std::move(request));
  }
  return call;
}

bool FaultyChannel::alive() const {
  MutexLock lock(mutex_);
  return inner_ != nullptr && inner_->alive();
}

absl::StatusOr<std::unique_ptr<Registration>> FaultyChannel::RegisterMemory(ByteSpan memory) {
  std::shared_ptr<Channel> inner;
  {
    MutexLock lock(mutex_);
    inner = inner_;
  }
  if (inner == nullptr) return Channel::RegisterMemory(memory);
  return inner->RegisterMemory(memory);
}

FaultCounts FaultyChannel::counts() const {
  MutexLock lock(mutex_);
  return counts_;
}

void FaultyChannel::Count(uint64_t FaultCounts::*what) {
  MutexLock lock(mutex_);
  ++(counts_.*what);
}

void FaultyChannel::Delivered() {
  std::shared_ptr<Channel> broken;
  absl::flat_hash_set<std::shared_ptr<FaultyCall>> calls;
  {
    MutexLock lock(mutex_);
    ++counts_.parts_delivered;
    if (plan_.kill_after_parts == 0 || counts_.parts_delivered != plan_.kill_after_parts) return;
    broken = std::move(inner_);
    calls = calls_;
  }
  // Not End: parts that were passed on already would come first.
  for (const std::shared_ptr<FaultyCall>& call : calls) {
    call->Finish(absl::UnavailableError("the faulty connection broke"));
  }
}

void FaultyChannel::Remove(const std::shared_ptr<FaultyCall>& call) {
  MutexLock lock(mutex_);
  calls_.erase(call);
  if (calls_.empty()) idle_.notify_all();
}

void FaultyChannel::EndAll(const absl::Status& status) {
  absl::flat_hash_set<std::shared_ptr<FaultyCall>> calls;
  {
    MutexLock lock(mutex_);
    calls = calls_;
  }
  for (const std::shared_ptr<FaultyCall>& call : calls) call->End(status);
}

}  // namespace reprise::transport
