// UCX's context, worker and memory handles as objects that release themselves, and its status codes
// as absl::Status.
//
// UcxContext and UcxMemory are thread-safe. A UcxWorker belongs to one thread at a time; only
// Signal may be called from any.
#pragma once

#include <memory>
#include <string_view>

#include <ucp/api/ucp.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/status.h"

namespace reprise::transport {

// `action` says what failed, for example "connect to 127.0.0.1:7000". A lost or refused peer gives
// UNAVAILABLE, a deadline of UCX's own too; what cannot happen gives INTERNAL.
absl::Status StatusFromUcs(ucs_status_t status, std::string_view action);

// While one lives, what UCX logs on this thread is dropped: the caller reports the failure itself.
class UcxLogSilence {
 public:
  UcxLogSilence();
  ~UcxLogSilence();
  UcxLogSilence(const UcxLogSilence&) = delete;
  UcxLogSilence& operator=(const UcxLogSilence&) = delete;
};

// The process's connection to UCX. One lives at a time and is shared, because opening the devices
// takes tens of milliseconds.
class UcxContext {
 public:
  // The living context, or a new one. INTERNAL when UCX refuses its settings.
  static absl::StatusOr<std::shared_ptr<UcxContext>> Shared();
  ~UcxContext();
  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  ucp_context_h get() const { return context_; }

 private:
  explicit UcxContext(ucp_context_h context) : context_(context) {}
  static absl::StatusOr<std::shared_ptr<UcxContext>> Create();

  const ucp_context_h context_;
};

// Memory known to UCX. The mapping lasts as long as the object; the bytes are the caller's.
class UcxMemory {
 public:
  enum class Access {
    kSend,     // local reads only: no key to it can be made
    kReceive,  // the peer of a rendezvous under way may write
  };

  // RESOURCE_EXHAUSTED when the memory cannot be pinned.
  static absl::StatusOr<std::shared_ptr<const UcxMemory>> Map(std::shared_ptr<UcxContext> context,
                                                              ByteSpan bytes, Access access);
  ~UcxMemory();
  UcxMemory(const UcxMemory&) = delete;
  UcxMemory& operator=(const UcxMemory&) = delete;

  ucp_mem_h get() const { return memory_; }
  bool Contains(ByteSpan part) const;

 private:
  UcxMemory(std::shared_ptr<UcxContext> context, ucp_mem_h memory, ByteSpan bytes)
      : context_(std::move(context)), memory_(memory), bytes_(bytes) {}

  const std::shared_ptr<UcxContext> context_;
  const ucp_mem_h memory_;
  const ByteSpan bytes_;
};

class UcxWorker {
 public:
  static absl::StatusOr<std::unique_ptr<UcxWorker>> Create(std::shared_ptr<UcxContext> context);
  ~UcxWorker();
  UcxWorker(const UcxWorker&) = delete;
  UcxWorker& operator=(const UcxWorker&) = delete;

  ucp_worker_h get() const { return worker_; }

  // Runs what is ready; callbacks run inside. True when something was done.
  bool Progress() { return ucp_worker_progress(worker_) != 0; }

  // Sleeps until something is ready, Signal was called, or `at_most` has passed. Returns at once
  // when there is work already.
  void Wait(Duration at_most);

  // Ends a Wait, now or the next one. Thread-safe.
  void Signal() { ucp_worker_signal(worker_); }

 private:
  UcxWorker(std::shared_ptr<UcxContext> context, ucp_worker_h worker, int event_fd)
      : context_(std::move(context)), worker_(worker), event_fd_(event_fd) {}

  const std::shared_ptr<UcxContext> context_;
  const ucp_worker_h worker_;
  const int event_fd_;
};

}  // namespace reprise::transport
