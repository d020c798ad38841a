// The thread that drives UCX, and the only one that touches its worker.
//
// One worker and one thread for all channels and servers of a process. More than one worker in a
// process is not safe with UCX 1.13: an event that its background thread could not deliver is kept
// by descriptor number, and aborts the process when another worker has opened that number meanwhile
// (the assertion on handler->async in async.c). Connections of several workers that come and go
// under load reach it within minutes.
//
// Other threads hand the loop work by scheduling a LoopTask. While there is traffic the loop polls;
// after kSpin without any, or at once where others want the cores, it sleeps on the worker's event
// descriptor, and wakes up by itself now and then because UCX can miss an event.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "transport/ucx/ucx_resources.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {

// Something with work for the loop's thread.
class LoopTask {
 public:
  virtual ~LoopTask() = default;
  // Called on the loop's thread, once or more after each Schedule.
  virtual void RunOnLoop() = 0;

 private:
  friend class IoLoop;
  std::atomic<bool> scheduled_{false};
};

// A channel or a server.
class LoopHandler {
 public:
  virtual ~LoopHandler() = default;
  // Called on the loop's thread in every turn, outside UCX's callbacks. Returns for how long the
  // loop may sleep if nothing happens; nullopt ends the attachment.
  virtual std::optional<Duration> Turn() = 0;
  // Called on the loop's thread after the last Turn.
  virtual void OnDetached() = 0;
};

class IoLoop {
 public:
  // Longest sleep: with nothing under way, and with calls that a missed event would delay.
  static constexpr Duration kIdleSleep = std::chrono::milliseconds(100);
  static constexpr Duration kBusySleep = std::chrono::milliseconds(5);
  // How long the loop polls before it sleeps: about what waking up costs.
  static constexpr Duration kSpin = std::chrono::microseconds(50);

  // The process's loop, or a new one when nobody holds it. INTERNAL when UCX cannot be set up.
  static absl::StatusOr<std::shared_ptr<IoLoop>> Shared();
  // Joins. Not on the loop's own thread.
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  // Gives `handler` its turns until it wants no more. Thread-safe.
  void Attach(std::shared_ptr<LoopHandler> handler) ABSL_LOCKS_EXCLUDED(mutex_);

  // Runs `task` on the loop's thread soon; once, when scheduled again before it has run. Never
  // blocks. Thread-safe, also on the loop's thread.
  void Schedule(std::shared_ptr<LoopTask> task) ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<UcxContext>& context() const { return context_; }
  // Only for the loop's thread.
  Wire& wire() { return *wire_; }

 private:
  explicit IoLoop(std::shared_ptr<UcxContext> context) : context_(std::move(context)) {}

  void Run();
  bool RunTasks() ABSL_LOCKS_EXCLUDED(mutex_);
  // Returns how long the loop may sleep.
  Duration GiveTurns();
  void Sleep(Duration at_most) ABSL_LOCKS_EXCLUDED(mutex_);
  void Wake();

  const std::shared_ptr<UcxContext> context_;
  std::unique_ptr<Wire> wire_;
  std::thread thread_;

  std::atomic<bool> stopping_{false};
  std::atomic<bool> sleeping_{false};
  Mutex mutex_;
  std::vector<std::shared_ptr<LoopTask>> tasks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<LoopHandler>> attaching_ ABSL_GUARDED_BY(mutex_);

  // The loop's thread only.
  std::vector<std::shared_ptr<LoopTask>> running_;
  std::vector<std::shared_ptr<LoopHandler>> handlers_;
};

}  // namespace reprise::transport
