// The part of an operation that fetches pieces: its calls, and their verification away from the
// carrier's thread.
//
// All nodes that have some of the pieces are asked at once, one leg each. What a leg does not
// bring, because its node does not hold it, is lost or has used up its patience, is asked of the
// next node that may hold it, and is a miss when there is none or the deadline has passed.
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
#include <string>
#include <utility>
#include <vector>

#include "client/fetch_reader.h"
#include "client/operation.h"
#include "client/placement.h"
#include "client/turn_queue.h"

namespace reprise::client {

// Parts with bulk that one leg of a fetch may have under way, if the receive memory has room for as
// many of the largest. Small ones, as a few layers of a low level make, need that many to fill the
// wire.
inline constexpr uint32_t kFetchCreditParts = 16;
// How long one operation keeps a verifier thread before it lets others have it: it ends with the
// segment in hand then.
inline constexpr std::chrono::milliseconds kVerifierTurn{1};

class FetchOperation : public Operation, public TurnTaker, protected PieceSink {
 public:
  FetchOperation(Core& core, Deadline deadline, std::vector<ExpectedPiece> pieces)
      : Operation(core, deadline),
        pieces_(std::move(pieces)),
        attempts_(pieces_.size()),
        wanted_(static_cast<uint32_t>(pieces_.size())) {}

 protected:
  // The nodes of the view that may hold `piece`, in the order to ask them; at least one.
  virtual const Replicas& ReplicasOf(uint32_t piece) const = 0;
  // As PieceSink::TakeMiss, on the verifier, after the last of its nodes; never of a piece that is
  // not wanted. Damage has been reported.
  virtual void OnMiss(uint32_t piece, const PieceMiss& miss) = 0;
  // There too, once: the fetch is over, and every wanted piece has ended. CANCELLED when that is
  // why something is missing.
  virtual void OnFetched(const absl::Status& status) = 0;

  void Start() final;

  // From OnMiss: pieces from `first` on are of no use any more, and the sink is not told of them.
  void WantBefore(uint32_t first);

  const std::vector<ExpectedPiece>& pieces() const { return pieces_; }
  // Of messages and bulk. For OnFetched.
  uint64_t bytes_received() const { return bytes_received_; }

 private:
  class Observer;
  // A node and what it is asked for, a batch at a time.
  struct Leg {
    Leg(uint32_t asked, bool is_last) : node(asked), last(is_last) {}
    const uint32_t node;
    const bool last;               // no other node can be asked for these
    std::vector<uint32_t> pieces;  // ascending
    size_t batch_end = 0;
    uint64_t call = 0;
    std::optional<FetchReader> reader;  // of the batch
    bool rest_cancelled = false;        // of the batch
  };
  struct Event {
    Leg* leg = nullptr;
    transport::Part part;
    std::optional<absl::Status> end;  // set: the call is over, and there is no part
  };

  void TakeMiss(uint32_t piece, const PieceMiss& miss) final;
  // Tells the stores that one served a damaged piece, so that they check and drop it. Waits for
  // nothing.
  void ReportDamage(const Key& key);

  // Starts the legs that fetch `pieces`, ascending, from the node that is each one's turn.
  void StartLegs(const std::vector<uint32_t>& pieces);
  // The request of the leg's next batch, and what is to take its parts.
  std::string PrepareBatch(Leg& leg);
  void Call(Leg& leg, std::string request);
  void Push(Event event) ABSL_LOCKS_EXCLUDED(queue_mutex_);
  std::optional<Event> Pop() ABSL_LOCKS_EXCLUDED(queue_mutex_);
  void Schedule(TimePoint due);
  void Turn() final;
  void BeginPart(Leg& leg, transport::Part part, TimePoint now);
  // Whether a piece may still come from the leg's call.
  bool IsDue(const Leg& leg) const { return !leg.reader->done() && leg.reader->next() < wanted_; }
  // Whether what still comes of the leg's call is of no use; it is cancelled then.
  bool IsOver(Leg& leg, TimePoint now);
  // True when that was the last of the fetch, which is over then.
  bool EndBatch(Leg& leg, const absl::Status& status);

  const std::vector<ExpectedPiece> pieces_;
  Mutex queue_mutex_;
  std::deque<Event> queue_ ABSL_GUARDED_BY(queue_mutex_);

  // The turns' own, once the fetch has started.
  std::vector<std::unique_ptr<Leg>> legs_;
  uint32_t legs_under_way_ = 0;
  std::vector<uint16_t> attempts_;       // of each piece, the nodes that did not bring it
  std::vector<uint32_t> for_replicas_;   // pieces to ask of their next node
  Leg* part_leg_ = nullptr;              // whose part the next is
  std::optional<transport::Part> part_;  // that the leg's reader is at
  uint64_t bytes_received_ = 0;
  uint32_t wanted_;  // pieces, from the first on
  bool cut_by_cancel_ = false;
};

}  // namespace reprise::client
