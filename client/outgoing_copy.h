// Pieces on their way to the nodes that are to hold them: which bytes go next, and what a node's
// answers make of its copy. Pure state; guarded by whoever owns it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "client/outgoing_piece.h"
#include "client/reprise.h"
#include "common/limits.h"
#include "common/status.h"
#include "proto/reprise.pb.h"

namespace reprise::client {

// Steps under way at once to one node, over all pieces of one publish.
inline constexpr uint32_t kMaxSteps = 4;
// Encoded and not stored yet, in one publish, before it encodes another piece: either limit stops
// it, but one piece it may always have.
inline constexpr uint32_t kMaxPiecesAhead = 2 * kMaxSteps;
inline constexpr uint64_t kMaxBytesAhead = kMaxSteps * kMaxPartBytes;

struct OutgoingCopy {
  enum class Outcome : uint8_t { kNone, kStored, kAlreadyHeld, kFailed };

  uint32_t destination = 0;
  std::optional<PieceState> held;  // under the piece's key, and not enough
  bool opened = false;             // the first step has been answered
  uint64_t upload_id = 0;
  uint64_t next_offset = 0;
  uint32_t steps_under_way = 0;
  Outcome outcome = Outcome::kNone;

  bool is_held() const { return outcome == Outcome::kStored || outcome == Outcome::kAlreadyHeld; }

  // What the node said it holds before anything was sent. Known not to be needed then, unless
  // `durable`: what is held counts only once the store has answered for that.
  void TakeHeld(PieceState state, const OutgoingPiece& piece, bool durable);
  // Once the piece is encoded.
  void CompareHeld(const OutgoingPiece& piece, bool durable);

  // The next part of an encoded piece, as a request and `bulk`.
  v1::PublishRequest NextStep(const OutgoingPiece& piece, bool durable, uint32_t ttl_s,
                              SharedBytes& bulk);
  // Its answer. INTERNAL when that makes no sense.
  absl::Status TakeReply(const OutgoingPiece& piece, std::string_view message);
};

struct Upload {
  OutgoingPiece piece;
  std::vector<OutgoingCopy> copies;
  uint64_t bytes_ahead = 0;  // of it, while it counts as encoded ahead
  bool settled = false;      // it will not be sent any more
};

// Of a publish: uploads[upload].copies[copy].
struct CopyAt {
  size_t upload = 0;
  size_t copy = 0;
  friend bool operator==(const CopyAt&, const CopyAt&) = default;
};

// A node, and what it is to hold.
struct Destination {
  uint32_t node = 0;
  std::vector<CopyAt> copies;
  size_t next = 0;           // of them
  std::vector<CopyAt> open;  // begun and not over, oldest first
  uint32_t steps_under_way = 0;
  absl::Status failure;
};

}  // namespace reprise::client
