// Hostile namespaces and token sequences.
//
// Beyond not crashing: two namespaces that both pass Validate have one canonical encoding exactly
// when they are equal, what Validate refuses has none, and the pieces of a chunk cover every layer
// and KV head exactly once.
#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "common/limits.h"
#include "tests/fuzz/promise.h"

namespace reprise {
namespace {

// Mostly numbers that may be valid; sometimes any.
uint32_t Number(FuzzedDataProvider& data, uint32_t usual_max) {
  if (data.ConsumeIntegralInRange(0, 15) == 0) return data.ConsumeIntegral<uint32_t>();
  return data.ConsumeIntegralInRange(0u, usual_max);
}

std::string Text(FuzzedDataProvider& data) { return data.ConsumeRandomLengthString(12); }

LayerGroup Group(FuzzedDataProvider& data) {
  LayerGroup group;
  group.kind = static_cast<GroupKind>(data.ConsumeIntegralInRange(0, 6));
  uint32_t layer = Number(data, 8);
  for (uint32_t i = Number(data, 4) % 32; i > 0; --i) {
    group.layers.push_back(layer);
    layer += Number(data, 2);
  }
  group.kv_heads = Number(data, 4);
  group.key_dim = Number(data, 128);
  group.value_dim = Number(data, 128);
  group.window_tokens = Number(data, 2);
  group.layers_per_piece = Number(data, 4);
  group.heads_per_piece = Number(data, 4);
  if (data.ConsumeBool()) {
    group.rope.pairing = static_cast<RopePairing>(data.ConsumeIntegralInRange(0, 3));
    group.rope.rotated_dims = Number(data, 128);
    group.rope.theta = data.ConsumeFloatingPoint<double>();
    group.rope.scaling = static_cast<RopeScaling>(data.ConsumeIntegralInRange(0, 5));
    for (uint32_t i = Number(data, 8) % 32; i > 0; --i) {
      group.rope.scaling_parameters.push_back(data.ConsumeFloatingPointInRange(-0.5, 100.0));
    }
  }
  return group;
}

Namespace AnyNamespace(FuzzedDataProvider& data) {
  Namespace name_space;
  name_space.tenant = Text(data);
  name_space.model = Text(data);
  name_space.revision = Text(data);
  name_space.adapter = Text(data);
  name_space.weight_quantization = Text(data);
  name_space.kv_dtype = static_cast<Dtype>(data.ConsumeIntegralInRange(0, 4));
  name_space.chunk_tokens = Number(data, 16);
  if (data.ConsumeBool()) name_space.profile = Text(data);
  for (uint32_t i = Number(data, 3) % 8; i > 0; --i) name_space.groups.push_back(Group(data));
  return name_space;
}

// The same namespace with one thing changed, perhaps to what it was.
Namespace Changed(Namespace name_space, FuzzedDataProvider& data) {
  switch (data.ConsumeIntegralInRange(0, 6)) {
    case 0:
      name_space.model = Text(data);
      break;
    case 1:
      std::swap(name_space.revision, name_space.adapter);
      break;
    case 2:
      name_space.chunk_tokens = Number(data, 16);
      break;
    case 3:
      // One byte over the border between two neighbours.
      if (!name_space.tenant.empty()) {
        name_space.model.insert(name_space.model.begin(), name_space.tenant.back());
        name_space.tenant.pop_back();
      }
      break;
    case 4:
      name_space.groups.push_back(Group(data));
      break;
    case 5:
      if (!name_space.groups.empty()) name_space.groups.back() = Group(data);
      break;
    default:
      break;
  }
  return name_space;
}

void CheckPieces(const Namespace& name_space, const std::vector<PieceSlot>& slots) {
  std::set<std::array<uint32_t, 3>> covered;
  size_t cells = 0;
  for (const PieceSlot& slot : slots) {
    for (uint32_t layer = slot.layer_begin; layer < slot.layer_end; ++layer) {
      for (uint32_t head = slot.head_begin; head < slot.head_end; ++head) {
        covered.insert({slot.group, layer, head});
        ++cells;
      }
    }
  }
  size_t expected = 0;
  for (const LayerGroup& group : name_space.groups)
    expected += group.layers.size() * group.kv_heads;
  Promise(cells == expected && covered.size() == expected, "pieces cover every cell exactly once");
}

void RunOne(FuzzedDataProvider& data) {
  const Namespace one = AnyNamespace(data);
  const Namespace other = Changed(one, data);
  const auto encoding = CanonicalEncoding(one);
  const auto other_encoding = CanonicalEncoding(other);
  Promise(encoding.ok() == Validate(one).ok(), "valid namespaces are encoded, others are not");
  if (encoding.ok() && other_encoding.ok()) {
    Promise((*encoding == *other_encoding) == (one == other),
            "encodings are equal as namespaces are");
  }
  std::vector<uint32_t> tokens(data.ConsumeIntegralInRange<size_t>(0, 64));
  for (uint32_t& token : tokens) token = data.ConsumeIntegral<uint32_t>();
  std::vector<std::string> extras(data.ConsumeIntegralInRange<size_t>(0, 3));
  for (std::string& extra : extras) extra = Text(data);
  const auto keys = PrefixKeys::Create(one, Text(data), tokens, extras);
  Promise(encoding.ok() || !keys.ok(), "an invalid namespace has no keys");
  const std::string name = data.ConsumeRemainingBytesAsString();
  Promise(FileKey(one.tenant, name).ok() ==
              (!one.tenant.empty() && !name.empty() && name.size() <= kMaxFileNameBytes),
          "file keys exist for names within the limits");
  if (!keys.ok()) return;
  Promise(keys->chunk_count() == tokens.size() / one.chunk_tokens, "one digest a whole chunk");
  CheckPieces(one, keys->slots());
  // Of a few slots: there may be thousands.
  const size_t slots = std::min<size_t>(keys->pieces_per_chunk(), 8);
  std::set<Key> distinct;
  for (size_t chunk = 0; chunk < keys->chunk_count(); ++chunk) {
    for (size_t slot = 0; slot < slots; ++slot) distinct.insert(keys->key(chunk, slot));
  }
  Promise(distinct.size() == keys->chunk_count() * slots, "keys are distinct");
}

}  // namespace
}  // namespace reprise

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  reprise::RunOne(data);
  return 0;
}
