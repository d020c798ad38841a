// The result of an operation that may still be under way.
//
// A value that can be moved, waited for once, cancelled, or given a callback. Dropping it without
// waiting lets the operation run on; Cancel asks it to end early, after which it completes with
// CANCELLED or with its result. Thread-safe as an ordinary value: one thread at a time per object.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"

namespace reprise {

template <typename T>
class Async {
  struct State;

 public:
  // The producing side. Copies share one result; the first Complete wins.
  class Source {
   public:
    Source() : state_(std::make_shared<State>()) {}
    Async future() const { return Async(state_); }
    // Called when the consumer cancels; at once if it already has.
    void OnCancel(absl::AnyInvocable<void() &&> cancel) const {
      {
        MutexLock lock(state_->mutex);
        if (!state_->cancelled) {
          state_->cancel = std::move(cancel);
          return;
        }
      }
      std::move(cancel)();
    }
    void Complete(absl::StatusOr<T> result) const { state_->Complete(std::move(result)); }

   private:
    std::shared_ptr<State> state_;
  };

  // Blocks until the operation is done: by its deadline, as every operation is. Once only.
  absl::StatusOr<T> Wait() {
    MutexLock lock(state_->mutex);
    while (!state_->result) state_->done.wait(state_->mutex);
    return *std::move(state_->result);
  }

  // Blocks until the operation is done or `at` has come; true when it is done. For callers that
  // must look up now and then while they wait.
  bool WaitUntil(TimePoint at) const {
    MutexLock lock(state_->mutex);
    while (!state_->result) {
      if (state_->done.wait_until(state_->mutex, at) == std::cv_status::timeout) break;
    }
    return state_->result.has_value();
  }

  bool Done() const {
    MutexLock lock(state_->mutex);
    return state_->result.has_value();
  }

  // Runs `callback` with the result, instead of Wait: at once when done already, else on a thread
  // of the client's, which it must not block for long. Once only.
  void Then(absl::AnyInvocable<void(absl::StatusOr<T>) &&> callback) {
    std::optional<absl::StatusOr<T>> ready;
    {
      MutexLock lock(state_->mutex);
      if (!state_->result) {
        state_->callback = std::move(callback);
        return;
      }
      ready = std::move(state_->result);
    }
    std::move(callback)(*std::move(ready));
  }

  void Cancel() {
    absl::AnyInvocable<void() &&> cancel;
    {
      MutexLock lock(state_->mutex);
      if (state_->cancelled || state_->result) return;
      state_->cancelled = true;
      cancel = std::move(state_->cancel);
      state_->cancel = nullptr;
    }
    if (cancel) std::move(cancel)();
  }

 private:
  struct State {
    void Complete(absl::StatusOr<T> value) {
      absl::AnyInvocable<void(absl::StatusOr<T>) &&> run;
      {
        MutexLock lock(mutex);
        if (completed) return;
        completed = true;
        cancel = nullptr;
        if (!callback) {
          result = std::move(value);
          done.notify_all();
          return;
        }
        run = std::move(callback);
        callback = nullptr;
      }
      std::move(run)(std::move(value));
    }

    Mutex mutex;
    CondVar done;
    bool completed ABSL_GUARDED_BY(mutex) = false;
    bool cancelled ABSL_GUARDED_BY(mutex) = false;
    std::optional<absl::StatusOr<T>> result ABSL_GUARDED_BY(mutex);
    absl::AnyInvocable<void(absl::StatusOr<T>) &&> callback ABSL_GUARDED_BY(mutex);
    absl::AnyInvocable<void() &&> cancel ABSL_GUARDED_BY(mutex);
  };

  explicit Async(std::shared_ptr<State> state) : state_(std::move(state)) {}

  std::shared_ptr<State> state_;
};

}  // namespace reprise
