// Where each operation of a client begins. One .cc each: lookup, publish, load, fetch_piece, admin.
//
// What they take, do and return is said at Client's methods in reprise.h. `core` outlives the
// operations.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "client/operation.h"
#include "client/reprise.h"

namespace reprise::v1 {
class PieceInfo;
}

namespace reprise::client {

// How long the report of a damaged piece may take.
inline constexpr std::chrono::seconds kReportTimeout{5};

Async<LookupResult> BeginLookup(Core& core, const PrefixKeys& keys, LookupOptions options,
                                Deadline deadline);

Async<PublishResult> BeginPublish(Core& core, const PrefixKeys& keys, uint32_t chunk_count,
                                  std::vector<GroupViews> views, PublishOptions options,
                                  Deadline deadline);
Async<PublishResult> BeginPublishPiece(Core& core, SharedBytes container, PieceOptions options,
                                       Deadline deadline);

Async<LoadResult> BeginLoad(Core& core, const PrefixKeys& keys, uint32_t first, uint32_t count,
                            std::vector<GroupViews> views, LoadOptions options, Deadline deadline);
Async<ObjectBytes> BeginFetchPiece(Core& core, const Key& key, std::optional<Digest> fingerprint,
                                   uint32_t level, Deadline deadline);

Async<ObjectStat> BeginStat(Core& core, const Key& key, bool verify, Deadline deadline);
Async<ObjectPage> BeginList(Core& core, std::optional<Key> after, uint32_t limit,
                            std::optional<Digest> fingerprint, Deadline deadline);
Async<uint64_t> BeginRemove(Core& core, std::vector<Key> keys, Deadline deadline);
Async<uint64_t> BeginRemoveNamespace(Core& core, const Digest& fingerprint, Deadline deadline);

// Of no time: ends the pins.
Async<uint64_t> BeginPin(Core& core, const std::vector<Key>& keys, std::chrono::seconds time,
                         Deadline deadline);
Async<uint64_t> BeginWarm(Core& core, const std::vector<Key>& keys, uint32_t level,
                          Deadline deadline);

// What the store says about a piece; nullopt when it holds none, or when what it says makes no
// sense.
std::optional<PieceState> ReadPieceInfo(const v1::PieceInfo& info);

}  // namespace reprise::client
