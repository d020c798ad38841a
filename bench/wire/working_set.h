// The pieces that a benchmark of the wire moves: published by one client, and loaded again and
// again.
//
// What fails ends the program: a benchmark has nobody to tell. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "client/reprise.h"

namespace reprise::bench {

[[noreturn]] void Fail(const absl::Status& status);

enum class Order { kChunkAfterChunk, kLayerAfterLayer };

// K and V of whole chunks, owned.
struct Tensors {
  Tensors(uint32_t layers, uint32_t tokens);

  std::vector<std::byte> key;
  std::vector<std::byte> value;
  GroupViews views;
};

class WorkingSet {
 public:
  // `pieces` chunks, each one piece of `piece_mib` MiB when raw: 512 KiB a layer, K and V together.
  // Borrows `client`.
  WorkingSet(Client& client, uint32_t piece_mib, uint32_t pieces, CodecId codec);

  size_t bytes() const { return size_t{pieces_} * piece_bytes_; }
  size_t piece_bytes() const { return piece_bytes_; }

  // Tensors that all pieces are loaded into, or published from: far larger than the caches.
  std::unique_ptr<Tensors> MakeTensors() const;
  // What Prepare publishes: distinct bytes in every piece, so that a mixed-up reply would show.
  void Fill(Tensors& tensors) const;

  // Removes what there is.
  void Remove();
  // Publishes all pieces from tensors of their own.
  void Prepare();
  void Publish(const Tensors& tensors);
  // Loads all of it, up to `level`. `observer` is told of each selection.
  void Load(const Tensors& tensors, uint32_t level, Order order, LoadObserver observer = {});
  // After a load of raw pieces: the last one's first layer must be what was published.
  void CheckLast(const Tensors& tensors) const;

 private:
  void FillPiece(std::byte* memory, size_t size, uint64_t seed) const;

  Client& client_;
  const CodecId codec_;
  const uint32_t layers_;
  const uint32_t pieces_;
  const size_t piece_bytes_;
  std::unique_ptr<PrefixKeys> keys_;
};

// Keys of `chunks` chunks whose pieces are as those of a working set.
PrefixKeys BenchKeys(uint32_t piece_mib, uint32_t chunks, CodecId codec);

}  // namespace reprise::bench
