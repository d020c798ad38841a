// Small opaque containers for storage tests: any size, number of planes, key and namespace, with
// bytes that depend on a seed. Test code only; pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "chunk/container.h"
#include "storage/piece_store.h"

namespace reprise::storage {

struct TestPiece {
  Key key;
  Digest fingerprint{};
  uint64_t plane_bytes = 100;  // of every plane, in segments of at most `segment_bytes`
  uint32_t planes = 1;
  uint32_t segment_bytes = 8 << 20;
  uint32_t layers = 1;
  uint32_t seed = 1;
  float distortion = 0;  // of the last level; each level before it errs 0.25 more
};

Key TestKey(std::string_view name);
Digest TestFingerprint(std::string_view name);

// The sealed container.
std::vector<std::byte> Build(const TestPiece& piece);

// What an honest publisher says of a container that ends with one of its levels. Of bytes that are
// no such container, whatever comes nearest.
UploadOffer OfferOf(const Key& key, ByteSpan container, const PieceAttributes& attributes = {});
// The container's first `planes` planes.
ByteSpan CutTo(ByteSpan container, uint32_t planes);

// BeginUpload, one Write of what is wanted, Commit.
absl::StatusOr<CommitOutcome> Put(PieceStore& store, TenantId tenant, const Key& key,
                                  ByteSpan container, const PieceAttributes& attributes = {});
absl::StatusOr<CommitOutcome> Put(PieceStore& store, TenantId tenant, const UploadOffer& offer,
                                  ByteSpan container);

// True when header, directory and body are exactly `container`.
bool Matches(const HeldPiece& piece, ByteSpan container);

}  // namespace reprise::storage
