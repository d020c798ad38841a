// One step for each of many pieces, begun in order, a few of them under way at once.
//
// Steps may end within their own call or later, on any thread; the next are begun from there, by
// one thread at a time. It lives until its last step has ended. Thread-safe.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"

#include "common/mutex.h"

namespace reprise::store {

class WindowedRun : public std::enable_shared_from_this<WindowedRun> {
 public:
  static constexpr size_t kWindow = 16;

  // To be called once, with whether further steps make sense.
  using Ended = absl::AnyInvocable<void(bool go_on) &&>;
  using Step = absl::AnyInvocable<void(size_t index, Ended ended)>;
  using Finished = absl::AnyInvocable<void() &&>;

  // `finished` is called once: after `steps` of them, or after all that had been begun when one
  // said not to go on.
  static void Begin(size_t steps, Step step, Finished finished) {
    std::shared_ptr<WindowedRun> run(new WindowedRun(steps, std::move(step), std::move(finished)));
    run->Go();
  }

 private:
  WindowedRun(size_t steps, Step step, Finished finished)
      : steps_(steps), step_(std::move(step)), finished_(std::move(finished)) {}

  void Go() ABSL_LOCKS_EXCLUDED(mutex_) {
    while (true) {
      size_t index = 0;
      {
        MutexLock lock(mutex_);
        if (beginning_) return;  // the thread that does goes on
        const bool all_begun = stopped_ || next_ == steps_;
        if (all_begun || under_way_ == kWindow) {
          if (!all_begun || under_way_ > 0 || over_) return;
          over_ = true;
          index = steps_;
        } else {
          beginning_ = true;
          index = next_++;
          ++under_way_;
        }
      }
      if (index == steps_) return std::move(finished_)();
      step_(index, [self = shared_from_this()](bool go_on) { self->End(go_on); });
      MutexLock lock(mutex_);
      beginning_ = false;
    }
  }

  void End(bool go_on) ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(mutex_);
      --under_way_;
      if (!go_on) stopped_ = true;
    }
    Go();
  }

  const size_t steps_;
  Step step_;
  Finished finished_;
  Mutex mutex_;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  bool beginning_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise::store
