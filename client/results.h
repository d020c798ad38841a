// What the operations of a client bring, and why not more: results are plain values, and a cache
// miss is part of them. Not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chunk/container.h"
#include "chunk/keys.h"
#include "common/sha256.h"

namespace reprise {

enum class MissReason : uint8_t {
  kAbsent,          // the store does not hold the key
  kOtherContent,    // it holds other bytes than Lookup reported
  kCorrupt,         // checksum, content id or key does not match
  kOtherNamespace,  // a piece of another namespace, or not of its shape, under this key
  kTruncated,       // fewer bytes or planes than promised
  kUnknownFormat,   // a codec or version that this build cannot read
  kPeerLost,        // the store went away
  kDeadline,        // the deadline passed first
  kRefused,         // the store has too much to do, or does not do what was asked
};
inline constexpr size_t kMissReasons = 9;
std::string_view MissReasonName(MissReason reason);

struct Miss {
  uint32_t chunk = 0;
  uint32_t slot = 0;
  MissReason reason = MissReason::kAbsent;
  std::string detail;
};

enum class Tier : uint8_t { kUnknown, kGpu, kHost, kNvme };
std::string_view TierName(Tier tier);

// One piece as the store holds it; without levels when it holds none.
struct PieceState {
  ContentId content_id;
  std::vector<uint64_t> level_bytes;    // header, directory and planes 0..k
  std::vector<Distortion> distortions;  // worst layer, per level
  uint32_t planes_held = 0;
  Tier tier = Tier::kUnknown;  // where a fetch would find it now
};

struct LookupResult {
  uint32_t chunks = 0;  // leading chunks of which every needed piece is held
  std::vector<PieceState>
      pieces;  // of those chunks, chunk-major, in the order of PrefixKeys::slots()
  std::chrono::microseconds store_queue_delay{0};
  std::chrono::milliseconds held{0};
  std::optional<Miss> miss;  // why not one chunk more; nullopt when every chunk is there
};

struct PublishResult {
  uint32_t pieces_stored = 0;  // at one store at least
  uint32_t pieces_already_held = 0;
  uint64_t bytes_sent = 0;
  // On how many stores each piece is now, at least; below ClientOptions::replicas when one of them
  // could not be reached or refused.
  uint32_t replicas = 0;
};

// What became of a selection. Neither complete nor a miss: it was not tried any more, because the
// load was of no use without what missed before.
struct SelectionResult {
  bool complete = false;  // all of it is in the views
  // Once complete: the lowest that one of its pieces reached. Pieces of a single level, as raw ones
  // are, count only where there are no others.
  uint32_t level = 0;
  Distortion distortion{};  // and the worst of its layers as loaded; 0 and 0 is exact
  std::optional<Miss> miss{};

  bool lossless() const { return complete && distortion == Distortion{}; }
};

struct LoadResult {
  // Leading chunks, from the first asked, that are complete in the caller's tensors.
  uint32_t chunks = 0;
  uint64_t bytes_received = 0;
  bool lossless = true;                     // everything that came has distortion 0
  std::vector<SelectionResult> selections;  // of the plan; without one, of each chunk
  std::vector<Miss> misses;                 // of the selections; empty when everything came
};

struct ObjectInfo {
  Key key;
  Digest namespace_fingerprint;
  uint64_t position = 0;
  PieceState state;
};

struct ObjectPage {
  std::vector<ObjectInfo> objects;
  bool more = false;
};

struct ObjectStat {
  std::optional<ObjectInfo> info;  // nullopt: absent
  std::vector<std::byte> meta;     // header and directory
  bool dropped_as_corrupt = false;
};

struct ObjectBytes {
  std::optional<Miss> miss;          // set: nothing below is
  std::vector<std::byte> container;  // verified; shortened to `level` when the store holds less
  uint32_t level = 0;
};

// Counted since Connect.
struct ClientCounters {
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t pieces_loaded = 0;
  std::array<uint64_t, kMissReasons> misses{};  // indexed by MissReason
};

}  // namespace reprise
