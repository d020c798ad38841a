// Hostile blocks of the progressive codec: segments that passed their checksums but that no encoder
// made.
//
// Beyond not crashing: all kernel sets take and refuse the same bytes and write the same values,
// and nothing outside the destination is written.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <fuzzer/FuzzedDataProvider.h>

#include "codec/progressive/block.h"
#include "tests/fuzz/promise.h"

namespace reprise::progressive {
namespace {

constexpr size_t kGuard = 64;
// Mostly the first kFewTokens, which are fast; the others have rows for every stream, and spans.
constexpr std::array<uint32_t, 14> kTokens = {1,  2,  3,  31, 32,  33,  40,
                                              63, 64, 65, 96, 100, 256, 260};
constexpr size_t kFewTokens = 7;
constexpr std::array<uint32_t, 6> kDims = {2, 8, 16, 40, 64, 72};

BlockShape ShapeOf(FuzzedDataProvider& data) {
  BlockShape shape;
  shape.dtype = data.ConsumeBool() ? Dtype::kBf16 : Dtype::kFp16;
  shape.heads = data.ConsumeIntegralInRange(0, 3) == 0 ? 3 : 1;
  shape.dims = kDims[data.ConsumeIntegralInRange<size_t>(0, kDims.size() - 1)];
  const auto pairing = static_cast<RopePairing>(data.ConsumeIntegralInRange(0, 2));
  shape.token_scales = pairing == RopePairing::kNone && data.ConsumeBool();
  if (pairing == RopePairing::kNone) return shape;
  shape.rope = {.pairing = pairing, .first_dim = 0, .dims = shape.dims};
  for (uint32_t pair = 0; pair < shape.dims / 2; ++pair) {
    shape.rope_rates.push_back(0x9E3779B97F4A7C15 * (pair + 1));
  }
  return shape;
}

// What is made once and used by many runs.
struct Coders {
  explicit Coders(const BlockShape& block_shape)
      : shape(block_shape), encoder(shape), reference(shape, ScalarKernels()) {
    for (const InstructionSet set : {InstructionSet::kAvx2, InstructionSet::kAvx512}) {
      if (const Kernels* kernels = KernelsOf(set)) vectors.emplace_back(shape, *kernels);
    }
  }

  BlockShape shape;
  BlockEncoder encoder;
  BlockDecoder reference;
  std::deque<BlockDecoder> vectors;  // of every instruction set that this machine has
  std::map<std::pair<uint32_t, uint64_t>, EncodedBlock> blocks;  // by tokens and position
};

Coders& CodersFor(const BlockShape& shape) {
  static std::vector<std::unique_ptr<Coders>> known;
  for (const auto& coders : known) {
    if (coders->shape == shape) return *coders;
  }
  return *known.emplace_back(std::make_unique<Coders>(shape));
}

// A real encoding, so that mutations get far, or bytes as they come.
EncodedBlock BlockOf(FuzzedDataProvider& data, Coders& coders, const TensorView& view,
                     uint64_t position) {
  if (data.ConsumeBool()) {
    EncodedBlock block;
    for (std::vector<uint8_t>& plane : block.planes) {
      plane = data.ConsumeBytes<uint8_t>(data.ConsumeIntegralInRange<size_t>(0, 2000));
    }
    return block;
  }
  EncodedBlock& made = coders.blocks[{view.shape[1], position}];
  if (made.planes[0].empty()) {
    const size_t values = size_t{view.shape[1]} * view.shape[2] * view.shape[3];
    for (size_t i = 0; i < values; ++i) {
      const auto bits = static_cast<uint16_t>(0x3F00 + (i * 2654435761U >> 20 & 0x80FF));
      std::memcpy(view.data + 2 * i, &bits, sizeof(bits));
    }
    coders.encoder.Encode(view, position, &made);
  }
  EncodedBlock block = made;
  for (uint32_t i = data.ConsumeIntegralInRange(0U, 8U); i > 0; --i) {
    std::vector<uint8_t>& plane = block.planes[data.ConsumeIntegralInRange<size_t>(0, kPlanes - 1)];
    const size_t at = data.ConsumeIntegralInRange<size_t>(0, 4000);
    if (data.ConsumeIntegralInRange(0, 7) == 0) plane.resize(std::min(plane.size(), at));
    if (at < plane.size()) plane[at] = data.ConsumeIntegral<uint8_t>();
  }
  return block;
}

void RunOne(FuzzedDataProvider& data) {
  const BlockShape shape = ShapeOf(data);
  Coders& coders = CodersFor(shape);
  const size_t choices = data.ConsumeIntegralInRange(0, 7) == 0 ? kTokens.size() : kFewTokens;
  const uint32_t tokens = kTokens[data.ConsumeIntegralInRange<size_t>(0, choices - 1)];
  const uint64_t position = data.ConsumeBool() ? 0 : 123456789;
  const size_t row_bytes = size_t{2} * shape.heads * shape.dims;
  std::vector<std::byte> memory(row_bytes * tokens + 2 * kGuard, std::byte{0xA5});
  TensorView view;
  view.data = memory.data() + kGuard;
  view.dtype = shape.dtype;
  view.shape = {1, tokens, shape.heads, shape.dims};
  view.stride_bytes = {0, static_cast<int64_t>(row_bytes), int64_t{2} * shape.dims};
  const EncodedBlock block = BlockOf(data, coders, view, position);
  std::vector<ByteSpan> planes;
  for (const std::vector<uint8_t>& plane : block.planes) {
    planes.push_back(std::as_bytes(std::span(plane)));
  }
  planes.resize(data.ConsumeIntegralInRange<size_t>(1, kPlanes));

  const bool taken = coders.reference.Decode(planes, position, view).ok();
  const std::vector<std::byte> expected = memory;
  for (size_t i = 0; i < kGuard; ++i) {
    Promise(memory[i] == std::byte{0xA5} && memory[memory.size() - 1 - i] == std::byte{0xA5},
            "nothing outside the view is written");
  }
  for (BlockDecoder& decoder : coders.vectors) {
    const bool also_taken = decoder.Decode(planes, position, view).ok();
    Promise(taken == also_taken, "all kernels take the same bytes");
    Promise(!taken || memory == expected, "all kernels write the same values");
  }
}

}  // namespace
}  // namespace reprise::progressive

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  reprise::progressive::RunOne(data);
  return 0;
}
