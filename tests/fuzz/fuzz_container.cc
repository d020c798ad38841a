// Hostile container bytes, from the parser to the decoder.
//
// An input is a header and directory without preamble and padding: both are put around it, and a
// matching content id into it, so that mutated fields reach the checks behind. Inputs start from
// containers generated here. Beyond not crashing: what the parser accepts is exactly what the
// builder would have written, and nothing is decoded outside the destination (its memory is exactly
// as large as the tensors, so AddressSanitizer sees a byte too far).
#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "chunk/container.h"
#include "chunk/container_format.h"
#include "chunk/testing/sample_piece.h"
#include "codec/codec.h"
#include "common/byte_io.h"
#include "common/limits.h"
#include "tests/fuzz/promise.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace reprise {
namespace {

constexpr size_t kFieldsOffset = kContainerPreambleBytes;
constexpr size_t kMetaBytesOffset = 12;
// Larger tensors and bodies would only make the fuzzer slow.
constexpr uint64_t kMaxTensorBytes = 256 * kKiB;

// Preamble, `input`, padding; the content id is whatever the input holds in its place.
std::vector<std::byte> Wrap(ByteSpan input) {
  static const std::vector<std::byte> sample = SamplePiece({});
  std::vector<std::byte> meta(sample.begin(), sample.begin() + kFieldsOffset);
  meta.insert(meta.end(), input.begin(), input.end());
  meta.resize(AlignUp(meta.size(), kPlaneAlignment));
  const auto size = static_cast<uint32_t>(meta.size());
  for (size_t i = 0; i < sizeof(size); ++i) {
    meta[kMetaBytesOffset + i] = static_cast<std::byte>(size >> (8 * i));
  }
  return meta;
}

void CheckBuilderAgrees(const ParsedMeta& parsed, ByteSpan meta_bytes) {
  const std::vector<std::byte> written = WriteFields(parsed.header, parsed.segments);
  Promise(std::ranges::equal(written, meta_bytes.first(parsed.field_bytes)), "parse, then write");
  const auto layout = PieceLayout::Create(parsed.header, parsed.segments);
  Promise(layout.ok(), "the builder accepts what the parser accepts");
  Promise(layout->meta_bytes() == parsed.meta_bytes, "both sides size the meta alike");
  for (size_t i = 0; i < parsed.segments.size(); ++i) {
    Promise(layout->meta().segments()[i].offset == parsed.segments[i].offset,
            "both sides place segments alike");
  }
}

void ResolveRanges(const PieceMeta& meta, uint32_t hostile) {
  Promise(!meta.Resolve(hostile, hostile, 0).ok(), "an empty layer range is refused");
  (void)meta.Resolve(hostile, std::numeric_limits<uint32_t>::max(), hostile);
  (void)meta.RangeOf({.first = hostile, .count = hostile});
  const uint32_t layer = hostile % meta.layer_count();
  const uint32_t level = hostile % meta.level_count();
  for (const uint32_t layer_end : {layer + 1, meta.layer_count()}) {
    const auto runs = meta.Resolve(layer, layer_end, level);
    Promise(runs.ok() && !runs->empty() && runs->size() <= level + 1, "runs of an existing range");
    for (const SegmentRun& run : *runs) {
      Promise(run.count > 0 && run.first + run.count <= meta.segments().size(), "runs exist");
      const ByteRange range = meta.RangeOf(run);
      Promise(range.length > 0 && range.end() <= meta.header().levels[level].body_bytes,
              "a run's bytes lie within its level");
    }
  }
}

// A tensor in memory of exactly its size: packed, heads outside tokens, or tokens backwards.
struct Tensor {
  Tensor(Dtype dtype, const std::array<uint32_t, 4>& shape, uint32_t layout) {
    if (shape[3] == 0) return;
    const auto dims = static_cast<int64_t>(shape[3] * DtypeBytes(dtype));
    const int64_t layer = dims * shape[1] * shape[2];
    bytes.resize(static_cast<size_t>(layer) * shape[0]);
    view = {.data = bytes.data(), .dtype = dtype, .shape = shape};
    view.stride_bytes = {layer, dims * shape[2], dims};
    if (layout % 3 == 1) view.stride_bytes = {layer, dims, dims * shape[1]};
    if (layout % 3 == 2) {
      view.data += (shape[1] - 1) * view.stride_bytes[1];
      view.stride_bytes[1] = -view.stride_bytes[1];
    }
  }
  std::vector<std::byte> bytes;
  TensorView view;
};

void DecodeSegments(const PieceMeta& meta, uint32_t layout) {
  const PieceHeader& header = meta.header();
  const PieceSlot& slot = header.slot;
  const uint32_t heads = slot.head_end - slot.head_begin;
  const uint64_t tensor_bytes = uint64_t{meta.layer_count()} * header.token_count * heads *
                                (header.key_dim + header.value_dim) * DtypeBytes(header.dtype);
  if (tensor_bytes == 0 || tensor_bytes > kMaxTensorBytes) return;
  const std::array<uint32_t, 4> shape = {meta.layer_count(), header.token_count, heads,
                                         header.key_dim};
  Tensor key(header.dtype, shape, layout);
  Tensor value(header.dtype, {shape[0], shape[1], shape[2], header.value_dim}, layout);
  const auto decoder = PieceDecoder::Create(meta, key.view, value.view);
  if (!decoder.ok()) return;
  for (uint32_t i = 0; i < meta.segments().size(); ++i) {
    const std::vector<std::byte> bytes(
        std::min<uint64_t>(meta.segments()[i].length, kMaxTensorBytes));
    (void)(*decoder)->Take(i, bytes);
  }
  (void)(*decoder)->Finish();
}

void VerifyBodies(const PieceMeta& meta) {
  const std::vector<std::byte> body(std::min(meta.body_bytes(), kMaxTensorBytes));
  for (uint32_t level = 0; level <= meta.level_count(); ++level) {
    (void)meta.VerifyBody(body, level);
  }
  (void)meta.VerifySegment(static_cast<uint32_t>(body.size()), body);
}

void RunOne(ByteSpan input) {
  (void)PieceMeta::Parse(input);
  std::vector<std::byte> meta_bytes = Wrap(input);
  const auto parsed = ParseFields(meta_bytes);
  if (!parsed.ok()) {
    Promise(!PieceMeta::Parse(meta_bytes).ok(), "what has wrong fields is no container");
    return;
  }
  CheckBuilderAgrees(*parsed, meta_bytes);
  const ContentId id = ComputeContentId(ByteSpan(meta_bytes).first(parsed->field_bytes));
  std::ranges::copy(id.digest.bytes, meta_bytes.begin() + kContentIdOffset);
  const auto meta = PieceMeta::Parse(meta_bytes);
  Promise(meta.ok(), "right fields and content id make a container");
  uint32_t hostile = 0;
  std::memcpy(&hostile, input.data(), std::min(sizeof(hostile), input.size()));
  ResolveRanges(*meta, hostile);
  VerifyBodies(*meta);
  DecodeSegments(*meta, hostile);
}

// Turns a sample of one plane into what the raw codec would have made, so that decoding gets
// somewhere.
void MakeRaw(PieceHeader& header, std::vector<Segment>& segments) {
  header.codec_parameters.clear();
  if (IsOpaque(header.group_kind)) header.key_dim = 3;
  for (Segment& segment : segments) {
    const uint32_t dim = segment.part == TensorPart::kValue ? header.value_dim : header.key_dim;
    const uint32_t tokens =
        segment.part == TensorPart::kOpaque ? header.token_count : segment.token_count;
    segment.length = tokens * dim * static_cast<uint32_t>(DtypeBytes(header.dtype));
  }
}

// The input of a valid container of a small random shape.
std::vector<std::byte> FreshInput(uint32_t seed) {
  const bool raw = seed % 2 == 0;
  const SampleShape shape = {.kind = static_cast<GroupKind>(1 + seed / 2 % 5),
                             .layers = 1 + seed / 10 % 3,
                             .planes = raw ? 1 : 1 + seed / 30 % 3,
                             .tokens = 1 + seed / 90 % 9,
                             .max_blocks = 1 + seed / 810 % 3,
                             .seed = seed};
  PieceHeader header = SampleHeader(shape);
  std::vector<Segment> segments = SampleSegments(shape);
  if (raw) MakeRaw(header, segments);
  const PieceLayout layout = PieceLayout::Create(header, segments).value();
  std::vector<std::byte> fields = WriteFields(layout.meta().header(), layout.meta().segments());
  fields.erase(fields.begin(), fields.begin() + kFieldsOffset);
  return fields;
}

}  // namespace
}  // namespace reprise

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  if (seed % 32 != 0 && size > 1) return LLVMFuzzerMutate(data, size, max_size);
  const std::vector<std::byte> fresh = reprise::FreshInput(seed / 32);
  if (fresh.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, fresh.data(), fresh.size());
  return fresh.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > reprise::kMaxPieceMetaBytes - reprise::kContainerPreambleBytes) return 0;
  reprise::RunOne(std::as_bytes(std::span(data, size)));
  return 0;
}
