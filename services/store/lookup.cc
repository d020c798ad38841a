#include <algorithm>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "proto/reprise.pb.h"
#include "services/store/absl_text.h"
#include "services/store/handlers.h"

namespace reprise::store {
namespace {

// Pieces that one lookup brings from the disk into memory.
constexpr size_t kMaxWarmed = 64;

// The piece, held at what it has of `level` when `until` is given; `held` becomes false when that
// was not possible.
std::optional<storage::PieceSummary> DescribeAndHold(StoreContext& context,
                                                     storage::TenantId tenant, const Key& key,
                                                     uint32_t level,
                                                     const std::optional<Deadline>& until,
                                                     bool& held) {
  const std::optional<storage::PieceSummary> piece = context.pieces.Describe(tenant, key);
  if (!piece.has_value() || !until.has_value()) return piece;
  held = context.pieces.Hold(tenant, key, std::min(level, piece->planes_held - 1), *until) && held;
  // What is held may have changed since; report what the hold protects.
  return context.pieces.Describe(tenant, key);
}

}  // namespace

absl::StatusOr<Digest> ParseDigest(std::string_view bytes, std::string_view field) {
  const std::optional<Digest> digest = Digest::FromBytes(bytes);
  if (digest.has_value()) return *digest;
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(field), " has ", bytes.size(), " bytes; a digest has 32"));
}

void DescribePiece(const storage::PieceSummary& piece, v1::PieceInfo& info) {
  info.set_content_id(std::string(piece.content_id.digest.AsString()));
  for (const storage::PieceSummary::Level& level : piece.levels()) {
    v1::LevelInfo& entry = *info.add_levels();
    entry.set_bytes(level.bytes);
    entry.set_key_distortion(level.distortion.key);
    entry.set_value_distortion(level.distortion.value);
  }
  info.set_planes_held(piece.planes_held);
  info.set_tier(static_cast<v1::Tier>(piece.tier));
}

void HandleLookup(StoreContext& context, const CallPtr& call) {
  v1::LookupRequest request;
  if (!request.ParseFromString(call->message())) {
    return call->Fail(absl::InvalidArgumentError("the Lookup message cannot be parsed"));
  }
  if (static_cast<size_t>(request.keys_size()) > kMaxKeysPerLookup) {
    return call->Fail(absl::InvalidArgumentError(absl::StrCat(
        "Lookup of ", request.keys_size(), " keys; at most ", kMaxKeysPerLookup, " are allowed")));
  }
  std::optional<Deadline> until;
  const std::chrono::milliseconds hold =
      std::min<std::chrono::milliseconds>(std::chrono::milliseconds(request.hold_ms()), kMaxHold);
  if (hold.count() > 0) until.emplace(context.clock.Now() + hold);

  v1::LookupReply reply;
  bool all_held = true;
  size_t hits = 0;
  size_t misses = 0;
  size_t warmed = 0;
  for (const std::string& bytes : request.keys()) {
    const absl::StatusOr<Digest> key = ParseDigest(bytes, "a key");
    if (!key.ok()) return call->Fail(key.status());
    const std::optional<storage::PieceSummary> piece =
        DescribeAndHold(context, call->tenant(), Key{*key}, request.hold_level(), until, all_held);
    if (!piece.has_value()) {
      ++misses;
      if (request.stop_at_absent()) break;
      reply.add_pieces();
      continue;
    }
    ++hits;
    // Whoever holds what it asks for is about to fetch it.
    if (until.has_value() && piece->tier == storage::Tier::kNvme && warmed++ < kMaxWarmed) {
      context.pieces.Open(call->tenant(), Key{*key},
                          std::min(request.hold_level(), piece->planes_held - 1),
                          [](const storage::PieceRef&) {});
    }
    DescribePiece(*piece, *reply.add_pieces());
  }
  context.metrics.CountLookup(hits, misses);
  reply.set_queue_delay_us(static_cast<uint32_t>(context.metrics.recent_queue_delay().count()));
  if (until.has_value() && all_held && hits > 0) {
    reply.set_held_ms(static_cast<uint32_t>(hold.count()));
  }
  call->Reply(reply.SerializeAsString());
}

}  // namespace reprise::store
