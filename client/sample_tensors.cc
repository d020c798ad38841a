#include "client/sample_tensors.h"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>

#include "codec/codec.h"

namespace reprise::client {
namespace {

constexpr std::byte kGuard{0xA5};
constexpr size_t kGuardBytes = 64;

LayerGroup AttentionGroup(GroupKind kind, uint32_t first_layer, uint32_t layers) {
  LayerGroup group;
  group.kind = kind;
  group.layers.resize(layers);
  std::iota(group.layers.begin(), group.layers.end(), first_layer);
  group.kv_heads = 3;
  group.key_dim = 8;
  group.value_dim = 4;
  group.layers_per_piece = 2;
  group.heads_per_piece = 2;
  return group;
}

Namespace SampleNamespace(std::vector<LayerGroup> groups) {
  Namespace name_space;
  name_space.model = "sample";
  name_space.kv_dtype = Dtype::kBf16;
  name_space.chunk_tokens = 16;
  name_space.groups = std::move(groups);
  return name_space;
}

uint16_t ValueAt(uint32_t seed, size_t tensor, uint32_t layer, uint32_t token, uint32_t head,
                 uint32_t dim) {
  uint64_t mixed = seed;
  for (const uint64_t part :
       {uint64_t{tensor}, uint64_t{layer}, uint64_t{token}, uint64_t{head}, uint64_t{dim}}) {
    mixed = (mixed ^ (part + 1)) * 0x9E3779B97F4A7C15u;
    mixed ^= mixed >> 29;
  }
  return static_cast<uint16_t>(mixed >> 13);
}

}  // namespace

Namespace AttentionNamespace() {
  return SampleNamespace({AttentionGroup(GroupKind::kFullAttention, 0, 4)});
}

Namespace LatentNamespace() {
  LayerGroup group = AttentionGroup(GroupKind::kLatent, 0, 3);
  group.kv_heads = 1;
  group.heads_per_piece = 1;
  group.key_dim = 36;
  group.value_dim = 0;
  group.layers_per_piece = 3;
  return SampleNamespace({group});
}

Namespace HybridNamespace() {
  LayerGroup window = AttentionGroup(GroupKind::kSlidingWindow, 2, 2);
  window.window_tokens = 24;
  return SampleNamespace({AttentionGroup(GroupKind::kFullAttention, 0, 2), window});
}

Namespace StateNamespace() {
  LayerGroup state = AttentionGroup(GroupKind::kState, 2, 2);
  state.key_dim = 100;
  state.value_dim = 0;
  LayerGroup opaque = AttentionGroup(GroupKind::kOpaque, 4, 2);
  opaque.value_dim = 0;
  return SampleNamespace({AttentionGroup(GroupKind::kFullAttention, 0, 2), state, opaque});
}

std::vector<uint32_t> SampleTokens(size_t count, uint32_t seed) {
  std::vector<uint32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) tokens[i] = static_cast<uint32_t>(i * 7919 + seed * 104729);
  return tokens;
}

PrefixKeys SampleKeys(const Namespace& name_space, size_t chunks, uint32_t seed) {
  auto keys =
      PrefixKeys::Create(name_space, "", SampleTokens(chunks * name_space.chunk_tokens, seed));
  if (!keys.ok()) std::abort();
  return *std::move(keys);
}

struct SampleTensors::Tensor {
  using Visit = std::function<void(std::byte* element, uint32_t layer, uint32_t token,
                                   uint32_t head, uint32_t dim)>;

  // Elements in memory order decide the strides; `row_gap` unused bytes follow each row of dims.
  Tensor(const std::array<uint64_t, 4>& dims, const GroupShape& group, Layout layout)
      : chunk_rows(group.chunk_rows), element_bytes(DtypeBytes(group.dtype)) {
    std::array<uint32_t, 4> shape{};
    for (size_t axis = 0; axis < 4; ++axis) shape[axis] = static_cast<uint32_t>(dims[axis]);
    const int64_t row_gap = layout == Layout::kHeadsFirst ? 6 : 0;
    const int64_t row = static_cast<int64_t>(shape[3] * element_bytes) + row_gap;
    const int64_t layers = shape[0];
    const int64_t tokens = shape[1];
    const int64_t heads = shape[2];
    bytes.assign(static_cast<size_t>(layers * tokens * heads * row) + 2 * kGuardBytes, kGuard);
    view.dtype = group.dtype;
    view.shape = shape;
    view.data = bytes.data() + kGuardBytes;
    switch (layout) {
      case Layout::kContiguous:
        view.stride_bytes = {tokens * heads * row, heads * row, row};
        break;
      case Layout::kHeadsFirst:
        view.stride_bytes = {tokens * row, row, layers * tokens * row};
        break;
      case Layout::kTokensBackwards:
        view.stride_bytes = {tokens * heads * row, -heads * row, row};
        view.data += (tokens - 1) * heads * row;
        break;
    }
  }

  void ForEach(const Visit& visit) const {
    for (uint32_t layer = 0; layer < view.shape[0]; ++layer) {
      for (uint32_t token = 0; token < view.shape[1]; ++token) {
        for (uint32_t head = 0; head < view.shape[2]; ++head) {
          std::byte* const row = view.data + layer * view.stride_bytes[0] +
                                 token * view.stride_bytes[1] + head * view.stride_bytes[2];
          for (uint32_t dim = 0; dim < view.shape[3]; ++dim)
            visit(row + dim * element_bytes, layer, token, head, dim);
        }
      }
    }
  }

  const uint32_t chunk_rows;
  const size_t element_bytes;
  std::vector<std::byte> bytes;
  TensorView view;
};

SampleTensors::SampleTensors(const Namespace& name_space, uint32_t first, uint32_t count,
                             Layout layout)
    : name_space_(name_space), first_(first) {
  for (const LayerGroup& group : name_space_.groups) {
    const GroupShape shape = ShapeOf(name_space_, group, count);
    tensors_.push_back(std::make_unique<Tensor>(shape.key, shape, layout));
    tensors_.push_back(std::make_unique<Tensor>(shape.value, shape, layout));
  }
}

SampleTensors::~SampleTensors() = default;

std::vector<GroupViews> SampleTensors::views() const {
  std::vector<GroupViews> views;
  for (size_t g = 0; g < name_space_.groups.size(); ++g) {
    views.push_back({.key = tensors_[2 * g]->view, .value = {}});
    if (name_space_.groups[g].value_dim > 0) views.back().value = tensors_[2 * g + 1]->view;
  }
  return views;
}

void SampleTensors::Fill(uint32_t seed) {
  for (size_t t = 0; t < tensors_.size(); ++t) {
    tensors_[t]->ForEach(
        [&](std::byte* element, uint32_t layer, uint32_t token, uint32_t head, uint32_t dim) {
          const uint16_t value =
              ValueAt(seed, t, layer, first_ * tensors_[t]->chunk_rows + token, head, dim);
          std::memcpy(element, &value, tensors_[t]->element_bytes);
        });
  }
}

bool SampleTensors::Holds(uint32_t seed, size_t group, uint32_t begin, uint32_t end) const {
  bool equal = true;
  for (const size_t t : {2 * group, 2 * group + 1}) {
    tensors_[t]->ForEach(
        [&](const std::byte* element, uint32_t layer, uint32_t token, uint32_t head, uint32_t dim) {
          const uint32_t chunk_rows = tensors_[t]->chunk_rows;
          const uint32_t position = first_ * chunk_rows + token;
          if (position < begin * chunk_rows || position >= end * chunk_rows) return;
          const uint16_t value = ValueAt(seed, t, layer, position, head, dim);
          if (std::memcmp(element, &value, tensors_[t]->element_bytes) != 0) equal = false;
        });
  }
  return equal;
}

bool SampleTensors::Holds(uint32_t seed, uint32_t begin, uint32_t end) const {
  for (size_t g = 0; g < name_space_.groups.size(); ++g) {
    if (!Holds(seed, g, begin, end)) return false;
  }
  return true;
}

bool SampleTensors::GuardsIntact() const {
  for (const auto& tensor : tensors_) {
    std::vector<bool> used(tensor->bytes.size());
    tensor->ForEach([&](const std::byte* element, uint32_t, uint32_t, uint32_t, uint32_t) {
      const size_t at = static_cast<size_t>(element - tensor->bytes.data());
      for (size_t i = 0; i < tensor->element_bytes; ++i) used[at + i] = true;
    });
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i] && tensor->bytes[i] != kGuard) return false;
    }
  }
  return true;
}

std::vector<std::byte> SampleTensors::Snapshot() const {
  std::vector<std::byte> all;
  for (const auto& tensor : tensors_)
    all.insert(all.end(), tensor->bytes.begin(), tensor->bytes.end());
  return all;
}

}  // namespace reprise::client
