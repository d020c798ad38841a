// A directory with the K and V of a model on some texts, as docs/kv-dump.md describes it: what its
// manifest says, and where its files are.
//
// Plain values; const use is thread-safe. Everything read here is checked: a dump may come from
// anybody. Files of K, V and Q are read by who needs them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "chunk/namespace.h"
#include "chunk/rope.h"
#include "common/status.h"

namespace reprise::cli {

struct KvDump {
  struct Layer {
    GroupKind kind = GroupKind::kFullAttention;  // or kSlidingWindow or kLatent
    uint32_t window_tokens = 0;                  // sliding window only
    // As the manifest says it; rope() says it as a namespace does.
    double theta = 0;
    uint32_t rotated_dims = 0;
    RopePairing pairing = RopePairing::kInterleaved;
    double scale = 1;

    Rope rope() const;
    bool has_value() const { return kind != GroupKind::kLatent; }
    friend bool operator==(const Layer&, const Layer&) = default;
  };
  struct Text {
    std::string name;
    std::string sha256;
    uint32_t tokens = 0;
    uint32_t first_position = 0;
    std::string folder;  // within the directory
  };

  std::filesystem::path directory;
  std::string model;
  std::string model_sha256;
  uint32_t q_heads = 0;
  uint32_t kv_heads = 0;
  uint32_t head_dim = 0;
  std::vector<Layer> layers;
  std::vector<Text> texts;

  // DIR/TEXT/L<layer>.<tensor>.<dtype>; `tensor` is k, v or q.
  std::filesystem::path File(const Text& text, uint32_t layer, char tensor, Dtype dtype) const;
  std::filesystem::path TokenFile(const Text& text) const;
  // Of one token in such a file.
  uint64_t RowBytes(char tensor) const;
  // The layer by itself as a namespace describes it, in pieces of one layer.
  LayerGroup Group(uint32_t layer) const;
};

// "bf16" or "fp16".
const char* KvDtypeName(Dtype dtype);

// Reads DIR/dump.json alone. INVALID_ARGUMENT names the field that is missing or wrong, NOT_FOUND
// the file when it cannot be read.
absl::StatusOr<KvDump> ReadKvDump(const std::filesystem::path& directory);

// The texts with these names, in the dump's order; no names: all. INVALID_ARGUMENT for a text that
// is not there.
absl::StatusOr<std::vector<KvDump::Text>> ChooseTexts(const KvDump& dump,
                                                      const std::vector<std::string>& names);

// That a file is there, with the size that the text's tokens take. NOT_FOUND or INVALID_ARGUMENT
// names it, and says which dtype is there when it is the other.
absl::Status CheckKvFile(const KvDump& dump, const KvDump::Text& text, uint32_t layer, char tensor,
                         Dtype dtype);

// Writes directory/dump.json, which makes the directory a dump: call it last. UNAVAILABLE, with the
// system's reason.
absl::Status WriteKvManifest(const KvDump& dump);

}  // namespace reprise::cli
