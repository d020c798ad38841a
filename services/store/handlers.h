// What each method of the protocol does; one file per group of calls. docs/protocol.md describes
// them.
//
// A handler checks every field of its message, which is hostile, and answers the call. It may block
// its executor's thread for as long as the work takes, but never waits for a peer.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "chunk/keys.h"
#include "common/status.h"
#include "services/store/store_call.h"
#include "storage/piece_store.h"

namespace reprise::v1 {
class PieceInfo;
}  // namespace reprise::v1

namespace reprise::store {

// Short enough for the carrier's own thread; does not block.
void HandleOpenSession(StoreContext& context, const CallPtr& call);
// Quick.
void HandleLookup(StoreContext& context, const CallPtr& call);
void HandleFetch(StoreContext& context, const CallPtr& call);
void HandleStat(StoreContext& context, const CallPtr& call);
// Slow.
void HandlePublish(StoreContext& context, const CallPtr& call);
void HandleList(StoreContext& context, const CallPtr& call);
void HandleRemove(StoreContext& context, const CallPtr& call);
void HandlePin(StoreContext& context, const CallPtr& call);
void HandleWarm(StoreContext& context, const CallPtr& call);

// ---- shared by the handlers ----

// INVALID_ARGUMENT naming `field` unless it is exactly 32 bytes long.
absl::StatusOr<Digest> ParseDigest(std::string_view bytes, std::string_view field);

// What Lookup, Stat and List tell of a held piece.
void DescribePiece(const storage::PieceSummary& piece, v1::PieceInfo& info);

}  // namespace reprise::store
