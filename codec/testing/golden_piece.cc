#include "codec/testing/golden_piece.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "chunk/container.h"
#include "codec/codec.h"
#include "codec/progressive/piece.h"
#include "common/sha256.h"

namespace reprise {
namespace {

// Shorter runs of zeros cost less than another extent.
constexpr size_t kShortestRun = 64;

struct Extent {
  uint32_t offset = 0;
  uint32_t length = 0;
};

void Append(std::vector<std::byte>& bytes, const Extent& extent, ByteSpan content) {
  const auto* begin = reinterpret_cast<const std::byte*>(&extent);
  bytes.insert(bytes.end(), begin, begin + sizeof(extent));
  bytes.insert(bytes.end(), content.begin(), content.end());
}

absl::StatusOr<std::unique_ptr<PieceDecoder>> DecoderOf(const PieceMeta& meta,
                                                        const TensorView& key,
                                                        const TensorView& value,
                                                        const progressive::Kernels& kernels) {
  if (meta.header().codec != CodecId::kProgressive) return PieceDecoder::Create(meta, key, value);
  return progressive::CreateDecoder(meta, key, value, kernels);
}

}  // namespace

std::vector<std::byte> WithoutZeros(ByteSpan container) {
  std::vector<std::byte> extents;
  size_t begin = 0;
  size_t end = 0;  // of the last byte that is not zero
  for (size_t i = 0; i < container.size(); ++i) {
    if (container[i] == std::byte{0}) continue;
    if (i - end >= kShortestRun) {
      Append(extents, {static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin)},
             container.subspan(begin, end - begin));
      begin = i;
    }
    end = i + 1;
  }
  Append(extents, {static_cast<uint32_t>(begin), static_cast<uint32_t>(end - begin)},
         container.subspan(begin, end - begin));
  Append(extents, {static_cast<uint32_t>(container.size()), 0}, {});
  return extents;
}

absl::StatusOr<std::vector<std::byte>> WithZeros(ByteSpan extents) {
  std::vector<std::byte> container;
  while (extents.size() >= sizeof(Extent)) {
    Extent extent;
    std::memcpy(&extent, extents.data(), sizeof(extent));
    extents = extents.subspan(sizeof(extent));
    if (extent.offset < container.size() || extent.length > extents.size()) break;
    container.resize(extent.offset);
    if (extent.length == 0) {
      if (!extents.empty()) break;
      return container;
    }
    container.insert(container.end(), extents.begin(), extents.begin() + extent.length);
    extents = extents.subspan(extent.length);
  }
  return absl::InvalidArgumentError("the extents do not make a container");
}

TensorHashes HashesOf(ByteSpan key, ByteSpan value) {
  const auto hash = [](ByteSpan bytes) {
    return bytes.empty() ? std::string("-") : Sha256::Of(bytes).Hex();
  };
  return {hash(key), hash(value)};
}

DenseTensor::DenseTensor(Dtype dtype, const std::array<uint32_t, 4>& shape) {
  const size_t row = shape[3] * DtypeBytes(dtype);
  if (row == 0) return;
  bytes.resize(row * shape[0] * shape[1] * shape[2]);
  const auto head = static_cast<int64_t>(row);
  const int64_t token = head * shape[2];
  view = {.data = bytes.data(),
          .dtype = dtype,
          .shape = shape,
          .stride_bytes = {token * shape[1], token, head}};
}

absl::StatusOr<TensorHashes> DecodedHashes(ByteSpan container, uint32_t level,
                                           const progressive::Kernels& kernels) {
  REPRISE_ASSIGN_OR_RETURN(const PieceMeta meta, PieceMeta::Parse(container));
  const PieceHeader& header = meta.header();
  const PieceSlot& slot = header.slot;
  std::array<uint32_t, 4> shape = {slot.layer_end - slot.layer_begin, header.token_count,
                                   slot.head_end - slot.head_begin, header.key_dim};
  DenseTensor key(header.dtype, shape);
  shape[3] = header.value_dim;
  DenseTensor value(header.dtype, shape);
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<PieceDecoder> decoder,
                           DecoderOf(meta, key.view, value.view, kernels));
  const ByteSpan body = container.subspan(meta.meta_bytes());
  for (uint32_t i = 0; i < meta.segments().size(); ++i) {
    const Segment& segment = meta.segments()[i];
    if (segment.plane > level || segment.offset + segment.length > body.size()) break;
    const ByteSpan bytes = body.subspan(segment.offset, segment.length);
    REPRISE_RETURN_IF_ERROR(meta.VerifySegment(i, bytes));
    REPRISE_RETURN_IF_ERROR(decoder->Take(i, bytes));
  }
  REPRISE_RETURN_IF_ERROR(decoder->Finish());
  return HashesOf(key.bytes, value.bytes);
}

}  // namespace reprise
