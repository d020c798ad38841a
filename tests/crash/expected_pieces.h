// What a thread of the crash test knows of its keys: every container offered under each, and what
// the store has promised of it. Not thread-safe; one thread owns a key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chunk/keys.h"
#include "chunk/quality.h"
#include "common/bytes.h"

namespace reprise::crash {

// A container that can be made again from these numbers. Each version of a key errs less than the
// one before, so that it takes its place, at least when it is whole.
struct Version {
  uint32_t number = 0;
  uint32_t planes = 1;
  uint32_t plane_bytes = 0;
};

class ExpectedPiece {
 public:
  explicit ExpectedPiece(uint32_t key_number);

  const Key& key() const { return key_; }

  // Offers a new version; `random` shapes it.
  const Version& AddVersion(uint64_t random);
  const Version* latest() const { return versions_.empty() ? nullptr : &versions_.back(); }
  std::vector<std::byte> Container(const Version& version) const;
  // The container's first `planes` planes.
  static ByteSpan Cut(ByteSpan container, uint32_t planes);

  // What reaches this (chunk/quality.h) survives from now on.
  void Durable(const PieceQuality& quality) { promise_ = quality; }
  // A removal is under way: nothing is promised of the key any more.
  void MayBeGone() { promise_.reset(); }
  bool is_durable() const { return promise_.has_value(); }

  // Empty when `container` is a version, whole or cut to a level, and reaches what was promised;
  // else what is wrong with it.
  std::string Judge(ByteSpan container) const;

 private:
  const uint32_t number_;
  const Key key_;
  std::vector<Version> versions_;
  std::optional<PieceQuality> promise_;
};

}  // namespace reprise::crash
