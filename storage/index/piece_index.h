// From (tenant, key) to what a tier holds under it.
//
// Generic over the tier's own record, which the index shares. Entries of two tenants never meet:
// every operation names one tenant and its cost does not depend on what others hold. Not
// thread-safe: the tier calls it under its own lock.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "chunk/keys.h"
#include "common/sha256.h"
#include "storage/piece_attributes.h"

namespace reprise::storage {

// A record that says where it belongs. The answers must not change while it is in an index.
template <typename T>
concept IndexedPiece = requires(const T& piece) {
  { piece.tenant() } -> std::same_as<TenantId>;
  { piece.key() } -> std::same_as<const Key&>;
  { piece.fingerprint() } -> std::same_as<const Digest&>;
};

template <IndexedPiece Piece>
class PieceIndex {
 public:
  using Ref = std::shared_ptr<Piece>;
  struct Page {
    std::vector<Ref> pieces;  // ascending by key
    bool more = false;
  };

  virtual ~PieceIndex() = default;

  // Null when absent. Does not allocate.
  virtual Ref Find(TenantId tenant, const Key& key) const = 0;

  // False, changing nothing, when (tenant, key) is there already.
  [[nodiscard]] virtual bool Insert(Ref piece) = 0;

  // What was there; null when absent.
  virtual Ref Erase(TenantId tenant, const Key& key) = 0;

  // Up to `limit` pieces with keys after `after` (from the start when null); only those of
  // `fingerprint` unless null. O(limit + log n).
  virtual Page List(TenantId tenant, const Key* after, size_t limit,
                    const Digest* fingerprint) const = 0;

  virtual size_t size() const = 0;

  // Memory that the index takes from its creation on, and at most in addition per piece, without
  // the records.
  virtual size_t fixed_bytes() const = 0;
  virtual size_t bytes_per_piece() const = 0;
};

}  // namespace reprise::storage
