// Reads a directory of K and V as docs/kv-dump.md describes it. A plain value once loaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "chunk/rope.h"
#include "codec/progressive/block.h"
#include "common/status.h"

namespace reprise::bench {

// K or V of one layer over one text.
struct DumpTensor {
  progressive::BlockShape shape;
  uint32_t text = 0;  // which of the dump's
  uint32_t tokens = 0;
  uint64_t first_position = 0;
  std::vector<uint16_t> values;  // [tokens, heads, dims]

  TensorView Chunk(uint32_t first_token, uint32_t count) const;
};

// Every K and V of the dump in one dtype, "bf16" or "fp16". INVALID_ARGUMENT says which file or
// field is wrong.
absl::StatusOr<std::vector<DumpTensor>> ReadDump(const std::filesystem::path& directory,
                                                 const std::string& dtype);

}  // namespace reprise::bench
