// Pieces as Publish sends them: tensors that wait to be encoded, or encoded already, with what the
// store wants to know about them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "chunk/quality.h"
#include "client/operation.h"
#include "client/reprise.h"
#include "common/bytes.h"
#include "common/mutex.h"
#include "common/status.h"

namespace reprise::client {

// Memory of pieces that one publish has sent, for those it encodes next: never more of them than
// were encoded ahead at once. Thread-safe.
class SpareMemory {
 public:
  // The memory given last; empty when there is none.
  std::vector<std::byte> Take() ABSL_LOCKS_EXCLUDED(mutex_);
  void Give(std::vector<std::byte> memory) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  Mutex mutex_;
  std::vector<std::vector<std::byte>> spare_ ABSL_GUARDED_BY(mutex_);
};

// Room in the client's send_bytes, until it is released or destroyed. Thread-safe.
class UnsentBytes {
 public:
  // Null when `bytes` more would exceed options.send_bytes of the core's client.
  static std::shared_ptr<UnsentBytes> Reserve(Core& core, uint64_t bytes,
                                              std::shared_ptr<SpareMemory> spare);
  ~UnsentBytes();
  UnsentBytes(const UnsentBytes&) = delete;
  UnsentBytes& operator=(const UnsentBytes&) = delete;

  // What a piece sent before was encoded into.
  std::vector<std::byte> TakeMemory() { return spare_->Take(); }
  // Keeps `encoded`, and takes as much room as that needs. Once.
  SharedBytes Keep(std::shared_ptr<UnsentBytes> self, std::vector<std::byte> encoded);
  // The bytes have been sent, though a carrier may still refer to them for a moment.
  void Release();

 private:
  UnsentBytes(std::shared_ptr<std::atomic<uint64_t>> total, uint64_t reserved,
              std::shared_ptr<SpareMemory> spare)
      : total_(std::move(total)), spare_(std::move(spare)), reserved_(reserved) {}

  const std::shared_ptr<std::atomic<uint64_t>> total_;
  const std::shared_ptr<SpareMemory> spare_;
  std::atomic<uint64_t> reserved_;
  std::vector<std::byte> encoded_;
};

struct OutgoingPiece {
  Key key;
  std::optional<Key> parent;  // the piece of the chunk before, same slot
  uint64_t position = 0;
  double recompute_seconds = 0;
  // What it is encoded from; absent when it came encoded.
  std::optional<PieceIdentity> identity;
  GroupViews tensors;
  CodecId codec = CodecId::kRaw;
  std::shared_ptr<const Profile> profile;
  // Once encoded.
  std::shared_ptr<UnsentBytes> room;  // that the container takes; null when it came encoded
  SharedBytes container;
  PieceQuality quality;  // of the planes that the container has

  bool encoded() const { return !container.empty(); }
  // Bytes of its tensors: about what it takes encoded, at most.
  uint64_t TensorBytes() const;
  // Whether a store that holds `state` under the key would have no use for this encoded piece.
  bool IsReachedBy(const PieceState& state) const;
  // Whether it would have the first planes of this very piece.
  bool IsBegunBy(const PieceState& state) const {
    return state.content_id == quality.content_id && state.planes_held < quality.planes;
  }
};

// Whether what is held is exact, so that no encoding of the same tensors could add to it.
bool IsExact(const PieceState& state);

// INVALID_ARGUMENT for what the wire does not carry.
absl::Status CheckTtl(std::chrono::seconds ttl);

// Every piece of `chunk_count` chunks from options.first_chunk on, none encoded yet. `views` are
// borrowed by the pieces. INVALID_ARGUMENT when chunks, views or the profile do not match the
// keys, or for a time to live as above.
absl::StatusOr<std::vector<OutgoingPiece>> PlanChunks(const PrefixKeys& keys, uint32_t chunk_count,
                                                      std::span<const GroupViews> views,
                                                      const PublishOptions& options);

// Encodes `piece`, on this thread, into the room reserved for it. Errors as EncodePiece.
absl::Status Encode(const Namespace& name_space, std::shared_ptr<UnsentBytes> room,
                    OutgoingPiece& piece);

// A container, whole or cut to a level, under the key in its header. DATA_LOSS or UNIMPLEMENTED as
// PieceMeta::Parse, DATA_LOSS when it ends elsewhere than its levels do.
absl::StatusOr<OutgoingPiece> WrapContainer(SharedBytes container, uint64_t position);

}  // namespace reprise::client
