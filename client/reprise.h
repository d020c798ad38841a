// The Reprise client SDK: publish and load the KV of token prefixes, or move encoded pieces as they
// are.
//
//   auto client = reprise::Client::Connect({.address = "127.0.0.1:7070"});
//   auto keys   = reprise::PrefixKeys::Create(name_space, tenant_secret, tokens);
//   auto hit    = (*client)->Lookup(*keys, {}, deadline).Wait();          // how many leading
//   chunks are there auto loaded = (*client)->Load(*keys, 0, hit->chunks, views, {},
//   deadline).Wait();
//
// Every operation is asynchronous, batched, cancellable and bounded by a deadline; it returns an
// Async<T> at once. Key, content id, namespace and every checksum are verified before a byte
// reaches the caller's tensors; what fails is a miss with a reason, never an error and never data.
// A lost store is a miss too: see LoadResult.
//
// A Client is thread-safe. It reconnects by itself, with back-off, when its store comes back.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chunk/container.h"
#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "client/async.h"
#include "codec/codec.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/status.h"

namespace reprise {

enum class Carrier : uint8_t {
  kAuto,  // UCX when the store offers it and it can be reached, else gRPC
  kUcx,
  kGrpc,
};

struct ClientOptions {
  std::string address{};  // the store's gRPC address, "host:port"
  std::string tenant = "default";
  std::string credential{};
  Carrier carrier = Carrier::kAuto;
  std::chrono::milliseconds connect_timeout{5'000};
  // Registered memory for parts on their way in; a multiple of kMaxPartBytes, at least 2 of them.
  size_t receive_bytes = 64 * kMiB;
  // Encoded pieces of all publishes that wait to be sent; more is refused with RESOURCE_EXHAUSTED.
  size_t send_bytes = 2 * kGiB;
  // Threads that verify and decode what loads bring.
  size_t verify_threads = 1;
};

// One entry per layer group of the namespace, in its order.
struct GroupViews {
  TensorView key;    // or the latent
  TensorView value;  // absent for groups with value_dim 0
};

enum class MissReason : uint8_t {
  kAbsent,          // the store does not hold the key
  kOtherContent,    // it holds other bytes than Lookup reported
  kCorrupt,         // checksum, content id or key does not match
  kOtherNamespace,  // a piece of another namespace under this key
  kTruncated,       // fewer bytes or planes than promised
  kUnknownFormat,   // a codec or version that this build cannot read
  kPeerLost,        // the store went away
  kDeadline,        // the deadline passed first
};
std::string_view MissReasonName(MissReason reason);

struct Miss {
  uint32_t chunk = 0;
  uint32_t slot = 0;
  MissReason reason = MissReason::kAbsent;
  std::string detail;
};

struct LookupOptions {
  // Ask the store to keep what it reports for this long; it bounds it, and says in `held` what it
  // granted.
  std::chrono::milliseconds hold{0};
};

// One piece as the store holds it; without levels when it holds none.
struct PieceState {
  ContentId content_id;
  std::vector<uint64_t> level_bytes;    // header, directory and planes 0..k
  std::vector<Distortion> distortions;  // worst layer, per level
  uint32_t planes_held = 0;
};

struct LookupResult {
  uint32_t chunks = 0;  // leading chunks of which every needed piece is held
  std::vector<PieceState>
      pieces;  // of those chunks, chunk-major, in the order of PrefixKeys::slots()
  std::chrono::microseconds store_queue_delay{0};
  std::chrono::milliseconds held{0};
  std::optional<Miss> miss;  // why not one chunk more; nullopt when every chunk is there
};

struct PublishOptions {
  uint32_t first_chunk = 0;
  double recompute_seconds_per_chunk = 0;
};

struct PublishResult {
  uint32_t pieces_stored = 0;
  uint32_t pieces_already_held = 0;
  uint64_t bytes_sent = 0;
};

struct LoadOptions {
  // Highest level to load; the store sends what it holds of it.
  uint32_t level = kMaxPlanes - 1;
  // What Lookup of the same keys reported: other content is then a miss. Read before Load returns.
  const LookupResult* expected = nullptr;
};

struct LoadResult {
  uint32_t chunks =
      0;  // leading chunks (from the first asked) that are complete in the caller's tensors
  uint64_t bytes_received = 0;
  bool lossless = true;      // every loaded piece has distortion 0 at its level
  std::vector<Miss> misses;  // why the rest is missing (a load ends at its first miss); empty when
                             // everything came
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
  std::array<uint64_t, 8> misses{};  // indexed by MissReason
};

class Client {
 public:
  // Opens a session and its data path; blocks for connect_timeout at most. INVALID_ARGUMENT for a
  // malformed address, UNAVAILABLE or DEADLINE_EXCEEDED when the store cannot be reached,
  // PERMISSION_DENIED for a wrong credential.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options);

  // Cancels what is under way and waits for it.
  virtual ~Client() = default;

  // ---- prefixes of tokens ----

  // How many leading chunks of `keys` can be loaded. A store that cannot be reached gives 0 chunks.
  virtual Async<LookupResult> Lookup(const PrefixKeys& keys, LookupOptions options,
                                     Deadline deadline) = 0;

  // Encodes and stores `chunk_count` whole chunks from options.first_chunk on. views[g] holds group
  // g's tensors for exactly those chunks' tokens. The views are read before the call returns;
  // pieces that the store holds already are not sent. INVALID_ARGUMENT when shapes do not match the
  // namespace; RESOURCE_EXHAUSTED when the store has no room.
  virtual Async<PublishResult> Publish(const PrefixKeys& keys, uint32_t chunk_count,
                                       std::span<const GroupViews> views, PublishOptions options,
                                       Deadline deadline) = 0;

  // Loads chunks [first, first + count) into `views`, whose token axis covers exactly them. The
  // views' memory must stay valid until the operation is done (Wait returned, or the callback ran).
  // Bytes of chunks beyond LoadResult::chunks are unspecified. INVALID_ARGUMENT when shapes do not
  // match the namespace; everything else that goes wrong is a miss in the result.
  virtual Async<LoadResult> Load(const PrefixKeys& keys, uint32_t first, uint32_t count,
                                 std::vector<GroupViews> views, LoadOptions options,
                                 Deadline deadline) = 0;

  // ---- encoded pieces ----

  // Stores a container, whole or cut to a level as FetchPiece gives it, under the key in its
  // header. DATA_LOSS or UNIMPLEMENTED as PieceMeta::Parse, before anything is sent;
  // RESOURCE_EXHAUSTED when it does not fit. `container` is kept alive until done.
  virtual Async<PublishResult> PublishPiece(SharedBytes container, uint64_t position,
                                            Deadline deadline) = 0;

  // One whole container, verified against `key`, and against `fingerprint` when given.
  virtual Async<ObjectBytes> FetchPiece(const Key& key, std::optional<Digest> fingerprint,
                                        uint32_t level, Deadline deadline) = 0;

  virtual Async<ObjectStat> Stat(const Key& key, bool verify, Deadline deadline) = 0;
  virtual Async<ObjectPage> List(std::optional<Key> after, uint32_t limit,
                                 std::optional<Digest> fingerprint, Deadline deadline) = 0;
  virtual Async<uint64_t> Remove(std::vector<Key> keys, Deadline deadline) = 0;
  virtual Async<uint64_t> RemoveNamespace(const Digest& fingerprint, Deadline deadline) = 0;

  // "ucx" or "grpc"; what the data path runs on now.
  virtual std::string_view carrier() const = 0;
  virtual ClientCounters counters() const = 0;
};

}  // namespace reprise
