// The Reprise client SDK: publish and load the KV of token prefixes, or move encoded pieces as they
// are.
//
//   auto client = reprise::Client::Connect({.address = "127.0.0.1:7070"});
//   auto keys = reprise::PrefixKeys::Create(name_space, tenant_secret, tokens);
//   auto hit = (*client)->Lookup(*keys, {}, deadline).Wait();  // how many leading chunks are there
//   auto loaded = (*client)->Load(*keys, 0, hit->chunks, views, {}, deadline).Wait();
//
// Every operation is asynchronous, batched, cancellable and bounded by a deadline; it returns an
// Async<T> at once. Key, content id, namespace and every checksum are verified before a byte
// reaches the caller's tensors; what fails is a miss with a reason, never an error and never data.
// A lost store is a miss too: see LoadResult.
//
// A Client is thread-safe. It reconnects by itself, with back-off, when its store comes back.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
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
#include "client/results.h"
#include "codec/codec.h"
#include "codec/profile.h"
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
  // The store's gRPC address, "host:port", or those of several with commas between. Every client is
  // to name a store in the same words: they decide what lies there (docs/placement.md).
  std::string address{};
  // How many of several stores are to hold each piece. Must be the same in every client that shares
  // the stores.
  uint32_t replicas = 1;
  std::string tenant = "default";
  std::string credential{};
  Carrier carrier = Carrier::kAuto;
  std::chrono::milliseconds connect_timeout{5'000};
  // Registered memory for parts on their way in, for each store; a multiple of kMaxPartBytes, at
  // least 2 of them.
  size_t receive_bytes = 64 * kMiB;
  // What all publishes together have encoded and not sent yet, about. A publish encodes as it
  // sends, so it needs room for a few pieces; RESOURCE_EXHAUSTED when there is not even that for
  // one.
  size_t send_bytes = 2 * kGiB;
  // Threads that encode what publishes send, one piece at a time each.
  size_t encode_threads = 1;
  // Threads that verify and decode what loads bring.
  size_t verify_threads = 1;
};

// One entry per layer group of the namespace, in its order.
struct GroupViews {
  TensorView key;    // or the latent
  TensorView value;  // absent for groups with value_dim 0
};

struct LookupOptions {
  // Ask the store to keep what it reports, up to hold_level, for this long; it bounds it, and says
  // in `held` what it granted.
  std::chrono::milliseconds hold{0};
  uint32_t hold_level = kMaxPlanes - 1;
};

struct PublishOptions {
  uint32_t first_chunk = 0;
  double recompute_seconds_per_chunk = 0;
  // Progressive pieces can be loaded at lower levels, for fewer bytes, and take fewer when whole.
  // What a codec cannot code (see EncodePiece) is stored raw.
  CodecId codec = CodecId::kProgressive;
  // The one that the namespace names; null when it names none. Shared, because pieces are encoded
  // after Publish has returned.
  std::shared_ptr<const Profile> profile{};
  // Done only when what is held of every piece survives the store's process and power loss, also of
  // what was held before; that is encoded too, to say which. FAILED_PRECONDITION without a disk.
  bool durable = false;
  // So long after it was stored each piece is of no use any more, and absent; 0: it stays until it
  // is evicted. What was held before keeps the time it has.
  std::chrono::seconds ttl{0};
};

struct PieceOptions {
  uint64_t position = 0;        // the chunk's in its sequence
  bool durable = false;         // as in PublishOptions
  std::chrono::seconds ttl{0};  // as in PublishOptions
};

// A step of a plan: one chunk, or some of its layers.
struct Selection {
  uint32_t chunk = 0;
  uint32_t level = kMaxPlanes - 1;  // highest level to load; the store sends what it holds of it
  // The model's layer indices, half open, in whichever groups they are.
  uint32_t layer_begin = 0;
  uint32_t layer_end = std::numeric_limits<uint32_t>::max();
};

// Told what became of each selection, by its index, in their order and before the load is done. On
// a thread of the client's, which it must not block for long. What is complete may be used at once:
// the load does not touch it again, unless a later selection names the same layers.
using LoadObserver = std::function<void(size_t selection, const SelectionResult& result)>;

struct LoadOptions {
  // Of a load without a plan: each chunk in turn, at this level, and nothing after the first miss.
  uint32_t level = kMaxPlanes - 1;
  // What to load, in this order; a miss ends its own selection only. Chunks that are not named are
  // left as they are. Window and state groups come for what stands at the end of each run of
  // consecutive chunks. Read before Load returns.
  std::span<const Selection> plan{};
  // What Lookup of the same keys reported: other content is then a miss. Read before Load returns.
  const LookupResult* expected = nullptr;
  LoadObserver observer{};
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

  // How many leading chunks of `keys` can be loaded. A store that cannot be reached, or is too busy
  // to answer, gives fewer chunks, down to 0, and a miss that says why. CANCELLED after Cancel;
  // RESOURCE_EXHAUSTED when this client has too many operations under way.
  virtual Async<LookupResult> Lookup(const PrefixKeys& keys, LookupOptions options,
                                     Deadline deadline) = 0;

  // Stores `chunk_count` whole chunks from options.first_chunk on. views[g] holds group g's tensors
  // for exactly those chunks (see ShapeOf). Returns at once: the store is asked first, and what it
  // does not hold is encoded on the client's own threads while it is sent. So the views' memory
  // belongs to the client until the operation is done (Wait returned, or the callback ran): keep it
  // valid and unchanged until then, also after Cancel. INVALID_ARGUMENT when shapes, or the
  // profile (CheckProfile), do not match the namespace; RESOURCE_EXHAUSTED when the store or
  // options.send_bytes has no room.
  virtual Async<PublishResult> Publish(const PrefixKeys& keys, uint32_t chunk_count,
                                       std::vector<GroupViews> views, PublishOptions options,
                                       Deadline deadline) = 0;

  // Loads chunks [first, first + count), or what options.plan names of them, into `views`, whose
  // token axis covers exactly those chunks (see ShapeOf). The views' memory must stay valid until
  // the operation is done (Wait returned, or the callback ran). Bytes of selections that are not
  // complete are unspecified. INVALID_ARGUMENT when shapes do not match the namespace or the plan
  // leaves chunks or layers, CANCELLED after Cancel, RESOURCE_EXHAUSTED when this client has too
  // many operations under way; everything else that goes wrong is a miss in the result.
  virtual Async<LoadResult> Load(const PrefixKeys& keys, uint32_t first, uint32_t count,
                                 std::vector<GroupViews> views, LoadOptions options,
                                 Deadline deadline) = 0;

  // ---- encoded pieces ----

  // Stores a container, whole or cut to a level as FetchPiece gives it, under the key in its
  // header. DATA_LOSS or UNIMPLEMENTED as PieceMeta::Parse, before anything is sent;
  // RESOURCE_EXHAUSTED when it does not fit. `container` is kept alive until done.
  virtual Async<PublishResult> PublishPiece(SharedBytes container, PieceOptions options,
                                            Deadline deadline) = 0;

  // One whole container, verified against `key`, and against `fingerprint` when given.
  virtual Async<ObjectBytes> FetchPiece(const Key& key, std::optional<Digest> fingerprint,
                                        uint32_t level, Deadline deadline) = 0;

  virtual Async<ObjectStat> Stat(const Key& key, bool verify, Deadline deadline) = 0;
  virtual Async<ObjectPage> List(std::optional<Key> after, uint32_t limit,
                                 std::optional<Digest> fingerprint, Deadline deadline) = 0;
  // How many were removed; of several stores, every one's copies count.
  virtual Async<uint64_t> Remove(std::vector<Key> keys, Deadline deadline) = 0;
  virtual Async<uint64_t> RemoveNamespace(const Digest& fingerprint, Deadline deadline) = 0;

  // ---- what is kept, and where ----
  // All take 1 to kMaxKeysPerLookup keys; PrefixKeys::AllKeys has those of a prefix.

  // Keeps what is held of each key from eviction for `time` (1 second to kMaxPin); a longer pin
  // that is there stays. How many of them are held and pinned now. RESOURCE_EXHAUSTED, saying how
  // many were pinned, when the tenant has pinned as much as it may.
  virtual Async<uint64_t> Pin(std::vector<Key> keys, std::chrono::seconds time,
                              Deadline deadline) = 0;
  // How many of them were pinned.
  virtual Async<uint64_t> Unpin(std::vector<Key> keys, Deadline deadline) = 0;
  // Brings pieces from the store's disk into its memory, in order and up to `level`, until one is
  // absent or would push out what came or was used last. How many leading ones are there then.
  virtual Async<uint64_t> Warm(std::vector<Key> keys, uint32_t level, Deadline deadline) = 0;

  // "ucx" or "grpc"; what the data path runs on now.
  virtual std::string_view carrier() const = 0;
  virtual ClientCounters counters() const = 0;
};

}  // namespace reprise
