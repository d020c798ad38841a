// How fine the steps of K should be, learnt from the queries that read it: what `reprise calibrate`
// makes a profile of.
//
// A score is q · k, so an error in a channel of K costs its own energy times that of the queries
// there. At a given number of bits the sum is least when the step of a channel goes with
// energy^(-1/2). Rope turns the two channels of a pair into each other, and no energy leaves the
// pair: it is read off the queries as they are, after rope, and the two have one step.
//
// One thread at a time; borrowed views are used only during a call.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

#include "chunk/namespace.h"
#include "codec/profile.h"
#include "codec/tensor_view.h"
#include "common/status.h"

namespace reprise {

class Calibration {
 public:
  // Of a model with so many layers, at most kMaxProfileLayers; INVALID_ARGUMENT otherwise. What a
  // profile cannot hold of the name is left out or becomes '?'.
  static absl::StatusOr<Calibration> Create(absl::string_view model, uint32_t layer_count);

  // Adds queries of one layer: [1, tokens, query heads, key_dim], 16-bit or fp32, after rope and
  // norms, the first at `first_position` of its sequence. The query heads are a multiple of the
  // group's KV heads, neighbours sharing one; of the group, kind, kv_heads, key_dim and rope are
  // read. Positions that the codec stores as they are anyway, and heads of a token with numbers
  // that are not finite, are left out. INVALID_ARGUMENT when the shapes do not fit the group,
  // the group not what was said of the layer before, or all layers have more than
  // kMaxProfileChannels.
  absl::Status Take(uint32_t layer, const LayerGroup& group, const TensorView& queries,
                    uint64_t first_position);

  // The profile: octaves of a channel are log2(energy / reference) / 2, the reference being the
  // geometric mean over all channels of all layers. Layers of which a KV head has met no query,
  // and all of them when every query was zero, are at the base step.
  Profile Finish() const;

 private:
  struct Layer {
    uint32_t dims = 0;
    std::vector<uint32_t> partners;  // of each dim: the other of its pair, or itself
    std::vector<uint64_t> rows;      // queries that a KV head has met
    std::vector<double> squares;     // sums over them, [KV heads, dims]

    bool known() const;
    std::vector<double> Energies() const;  // [KV heads, dims]
  };

  Calibration(std::string model, uint32_t layer_count)
      : model_(std::move(model)), layers_(layer_count) {}

  std::string model_;
  std::vector<Layer> layers_;
  size_t channels_ = 0;  // of all layers that are known
};

}  // namespace reprise
