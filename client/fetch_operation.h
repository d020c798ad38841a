// The part of an operation that fetches pieces: its calls, and their verification away from the
// carrier's thread.
//
// Parts queue here as the carrier brings them (credit bounds their number), and one verifier task
// at a time consumes them. So whatever the sink writes to is touched by that task alone, and
// OnFetched is its last act: no thread touches the destination afterwards. A part is dropped as
// soon as it is consumed, which gives the store credit for the next.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "client/fetch_reader.h"
#include "client/operation.h"

namespace reprise::client {

// Parts with bulk that one fetch may have under way.
inline constexpr uint32_t kFetchCreditParts = 4;
// Parts that one operation consumes before it lets others have the verifier.
inline constexpr uint32_t kPartsPerTurn = 4;

class FetchOperation : public Operation, protected PieceSink {
 public:
  FetchOperation(Core& core, Deadline deadline, std::vector<ExpectedPiece> pieces)
      : Operation(core, deadline), pieces_(std::move(pieces)) {}

 protected:
  // On the verifier, once: the fetch is over. `failure` says which piece ended it; nullopt: all of
  // them are complete.
  virtual void OnFetched(const std::optional<FetchReader::Failure>& failure) = 0;

  void OnChannel() final { StartBatch(0); }

  const std::vector<ExpectedPiece>& pieces() const { return pieces_; }
  // Of messages and bulk. For OnFetched.
  uint64_t bytes_received() const { return bytes_received_; }

  // Whether the stored bytes may be to blame. A flipped bit may also make a format look unknown.
  static bool IsDamage(MissReason reason) {
    return reason == MissReason::kCorrupt || reason == MissReason::kUnknownFormat;
  }
  // Tells the store that it served a damaged piece, so that it checks and drops it. Waits for
  // nothing.
  void ReportDamage(const Key& key);

 private:
  class Observer;
  struct Event {
    transport::Part part;
    std::optional<absl::Status> end;  // set: the call is over, and there is no part
  };

  void StartBatch(uint32_t first);
  void Push(Event event) ABSL_LOCKS_EXCLUDED(queue_mutex_);
  void Schedule();
  void Turn() ABSL_LOCKS_EXCLUDED(queue_mutex_);
  void Consume(const transport::Part& part);
  void EndBatch(const absl::Status& status);

  const std::vector<ExpectedPiece> pieces_;
  Mutex queue_mutex_;
  std::deque<Event> queue_ ABSL_GUARDED_BY(queue_mutex_);
  bool scheduled_ ABSL_GUARDED_BY(queue_mutex_) = false;

  // The verifier task's own.
  std::optional<FetchReader> reader_;
  std::optional<FetchReader::Failure> failure_;
  uint32_t batch_end_ = 0;
  uint64_t bytes_received_ = 0;
};

}  // namespace reprise::client
