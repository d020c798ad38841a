// The part of an operation that fetches pieces: its calls, and their verification away from the
// carrier's thread.
//
// Parts queue here as the carrier brings them (credit bounds their number), and turns on the
// verifier consume them, one at a time. So whatever the sink writes to is touched by those turns
// alone, and OnFetched is the last act of the last: no thread touches the destination afterwards. A
// part is dropped as soon as it is consumed, which gives the store credit for the next. A turn is
// short, and the end of a call gets one at once, so that an operation that is cancelled or late
// ends whatever others are decoding.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "client/fetch_reader.h"
#include "client/operation.h"
#include "client/turn_queue.h"

namespace reprise::client {

// Parts with bulk that one fetch may have under way, if the receive memory has room for as many of
// the largest. Small ones, as a few layers of a low level make, need that many to fill the wire.
inline constexpr uint32_t kFetchCreditParts = 16;
// How long one operation keeps a verifier thread before it lets others have it: it ends with the
// segment in hand then.
inline constexpr std::chrono::milliseconds kVerifierTurn{1};

class FetchOperation : public Operation, public TurnTaker, protected PieceSink {
 public:
  FetchOperation(Core& core, Deadline deadline, std::vector<ExpectedPiece> pieces)
      : Operation(core, deadline), pieces_(std::move(pieces)) {}

 protected:
  // As PieceSink::TakeMiss, on the verifier, or where the operation began when the store cannot be
  // reached; never after Stop. Damage has been reported.
  virtual void OnMiss(uint32_t piece, const PieceMiss& miss) = 0;
  // There too, once: the fetch is over, and every piece has ended unless Stop was called.
  // CANCELLED when that is why something is missing.
  virtual void OnFetched(const absl::Status& status) = 0;

  void OnChannel() final { StartBatch(0); }
  void OnUnreachable(absl::Status status) final;

  // From the sink's methods: what has not come is of no use.
  void Stop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  const std::vector<ExpectedPiece>& pieces() const { return pieces_; }
  // Of messages and bulk. For OnFetched.
  uint64_t bytes_received() const { return bytes_received_; }

 private:
  class Observer;
  struct Event {
    transport::Part part;
    std::optional<absl::Status> end;  // set: the call is over, and there is no part
  };

  void TakeMiss(uint32_t piece, const PieceMiss& miss) final;
  // Tells the store that it served a damaged piece, so that it checks and drops it. Waits for
  // nothing.
  void ReportDamage(const Key& key);

  void StartBatch(uint32_t first);
  void Push(Event event) ABSL_LOCKS_EXCLUDED(queue_mutex_);
  std::optional<Event> Pop() ABSL_LOCKS_EXCLUDED(queue_mutex_);
  void Schedule(TimePoint due);
  void Turn() final;
  void BeginPart(transport::Part part, TimePoint now);
  // Whether what still comes of this call is of no use; it is cancelled then.
  bool IsOver(TimePoint now);
  void EndBatch(const absl::Status& status);
  void MissRest(uint32_t first, const absl::Status& status);

  const std::vector<ExpectedPiece> pieces_;
  Mutex queue_mutex_;
  std::deque<Event> queue_ ABSL_GUARDED_BY(queue_mutex_);

  // The turns' own.
  std::optional<FetchReader> reader_;
  std::optional<transport::Part> part_;  // that the reader is at
  uint32_t batch_end_ = 0;
  uint64_t bytes_received_ = 0;
  bool stopped_ = false;
  bool stopped_by_cancel_ = false;
  bool rest_cancelled_ = false;  // of the batch
};

}  // namespace reprise::client
