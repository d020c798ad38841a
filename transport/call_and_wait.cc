#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/mutex.h"
#include "transport/transport.h"

namespace reprise::transport {
namespace {

class Waiter final : public CallObserver {
 public:
  void OnPart(Part part) override {
    MutexLock lock(mutex_);
    ++parts_;
    // A second part is an error anyway; not keeping it gives its credit back.
    if (parts_ == 1) {
      reply_ = UnaryReply{std::move(part.message), std::move(part.bulk)};
    }
  }

  void OnDone(absl::Status status) override {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    done_ = true;
    wake_.notify_all();
  }

  // False when the call has not ended by `deadline`.
  bool WaitUntil(TimePoint deadline) {
    MutexLock lock(mutex_);
    while (!done_) {
      if (wake_.wait_until(mutex_, deadline) == std::cv_status::timeout) return done_;
    }
    return true;
  }

  absl::StatusOr<UnaryReply> Take() {
    MutexLock lock(mutex_);
    if (!status_.ok()) return status_;
    if (parts_ != 1) {
      return absl::InternalError(
          absl::StrCat("a call of one part was answered with ", parts_, " parts"));
    }
    return std::move(reply_);
  }

 private:
  Mutex mutex_;
  CondVar wake_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  size_t parts_ ABSL_GUARDED_BY(mutex_) = 0;
  UnaryReply reply_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<UnaryReply> CallAndWait(Channel& channel, CallRequest request) {
  const TimePoint deadline = request.deadline.at();
  const MethodId method = request.method;
  auto waiter = std::make_shared<Waiter>();
  std::shared_ptr<Call> call = channel.Start(std::move(request), waiter);
  if (!waiter->WaitUntil(deadline)) {
    call->Cancel();
    return absl::DeadlineExceededError(
        absl::StrCat("no answer to method ", method, " over ", std::string(channel.carrier()),
                     " by its deadline; a longer timeout or another node may help"));
  }
  return waiter->Take();
}

}  // namespace reprise::transport
