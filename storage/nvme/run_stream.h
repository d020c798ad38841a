// Reads pieces from their segments in windows, verifying on the way: for reclaim and the scrubber,
// who have time and little memory.
//
// Blocks on the disk. One thread at a time.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"

#include "chunk/container.h"
#include "common/bytes.h"
#include "common/mapped_region.h"
#include "common/status.h"
#include "storage/env/env.h"
#include "storage/index/piece_record.h"
#include "storage/nvme/segment_space.h"

namespace reprise::storage {

// A piece and the files that its runs are in, which stay as they are meanwhile.
struct PieceSource {
  Key key;
  PieceRecord record{};
  const EnvFile* base = nullptr;
  const EnvFile* refinement = nullptr;  // null without that run
};

class RunStream {
 public:
  static constexpr size_t kWindowBytes = 512 << 10;

  static absl::StatusOr<std::unique_ptr<RunStream>> Create();

  // Reads the wanted runs. `window` gets every part of them, where it is in its run and its bytes,
  // before it is known to be right; an error of its own ends the reading. DATA_LOSS: what is there
  // is not that piece or does not match its checksums; others as Env.
  using Window = absl::FunctionRef<absl::Status(RunKind, uint64_t offset, ByteSpan)>;
  absl::Status Read(const PieceSource& piece, bool base, bool refinement, Window window);

 private:
  explicit RunStream(std::unique_ptr<MappedRegion> memory) : memory_(std::move(memory)) {}
  absl::StatusOr<PieceMeta> ReadMeta(const PieceSource& piece);

  const std::unique_ptr<MappedRegion> memory_;
};

}  // namespace reprise::storage
