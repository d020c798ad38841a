#include "storage/nvme/tier_state.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/log.h"

namespace reprise::storage {
namespace {

// How long nothing is written after a write failed.
constexpr std::chrono::seconds kRetryAfter{1};

}  // namespace

absl::Status TierState::MayWrite() const {
  if (write_error.ok() || env.clock().Now() >= retry_at) return absl::OkStatus();
  return Annotate(write_error, absl::StrCat(options.directory,
                                            " takes no writes now; reads go on and writes are "
                                            "tried again every second"));
}

void TierState::WriteFailed(const absl::Status& status) {
  if (write_error.ok()) {
    LogError("disk takes no writes",
             {{"directory", options.directory}, {"reason", std::string(status.message())}});
  }
  write_error = status;
  retry_at = env.clock().Now() + kRetryAfter;
  ++counted.failed_writes;
}

void TierState::WriteSucceeded() {
  if (write_error.ok()) return;
  LogInfo("disk takes writes again", {{"directory", options.directory}});
  write_error = absl::OkStatus();
}

void TierState::Reply(NvmeTier::Done done, absl::Status status) {
  const bool queued = calls.TryRun([done = std::move(done), status = std::move(status)]() mutable {
    std::move(done)(std::move(status));
  });
  static_cast<void>(queued);  // its queue has no limit that could be reached
}

}  // namespace reprise::storage
