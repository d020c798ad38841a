#include "storage/testing/test_piece.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>

namespace reprise::storage {

Key TestKey(std::string_view name) { return {Sha256::Of(AsBytes(name))}; }

Digest TestFingerprint(std::string_view name) {
  return Sha256::Of(AsBytes("fingerprint " + std::string(name)));
}

std::vector<std::byte> Build(const TestPiece& piece) {
  PieceHeader header;
  header.key = piece.key;
  header.namespace_fingerprint = piece.fingerprint;
  header.slot = {
      .group = 0, .layer_begin = 0, .layer_end = piece.layers, .head_begin = 0, .head_end = 1};
  header.levels.resize(piece.planes);
  for (uint32_t level = 0; level < piece.planes; ++level) {
    const float more = 0.25f * static_cast<float>(piece.planes - 1 - level);
    header.levels[level].distortions.resize(piece.layers, {.key = piece.distortion + more});
  }
  std::vector<Segment> segments;
  for (uint32_t plane = 0; plane < piece.planes; ++plane) {
    for (uint32_t layer = 0; layer < piece.layers; ++layer) {
      uint32_t block = 0;
      for (uint64_t left = piece.plane_bytes; left > 0; ++block) {
        const uint64_t length = std::min<uint64_t>(left, piece.segment_bytes);
        segments.push_back({.plane = static_cast<uint16_t>(plane),
                            .layer = layer,
                            .token_begin = block,
                            .length = static_cast<uint32_t>(length)});
        left -= length;
      }
    }
  }
  absl::StatusOr<PieceLayout> layout = PieceLayout::Create(std::move(header), std::move(segments));
  if (!layout.ok()) std::abort();
  std::vector<std::byte> container(layout->total_bytes());
  std::mt19937_64 random(piece.seed);
  for (uint32_t i = 0; i < layout->meta().segments().size(); ++i) {
    const MutableByteSpan bytes = layout->SegmentBytes(i, container);
    size_t at = 0;
    for (; at + sizeof(uint64_t) <= bytes.size(); at += sizeof(uint64_t)) {
      const uint64_t word = random();
      std::memcpy(bytes.data() + at, &word, sizeof(word));
    }
    for (; at < bytes.size(); ++at) bytes[at] = static_cast<std::byte>(random());
  }
  layout->Seal(container);
  return container;
}

absl::StatusOr<CommitOutcome> Put(PieceStore& store, TenantId tenant, const Key& key,
                                  ByteSpan container, const PieceAttributes& attributes) {
  return Put(store, tenant, OfferOf(key, container, attributes), container);
}

absl::StatusOr<CommitOutcome> Put(PieceStore& store, TenantId tenant, const UploadOffer& offer,
                                  ByteSpan container) {
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<Upload> upload, store.BeginUpload(tenant, offer));
  const uint64_t from = upload->from_offset();
  REPRISE_RETURN_IF_ERROR(upload->Write(from, container.subspan(from)).status());
  return upload->Commit();
}

UploadOffer OfferOf(const Key& key, ByteSpan container, const PieceAttributes& attributes) {
  UploadOffer offer{.key = key,
                    .total_bytes = container.size(),
                    .quality = {.content_id = {}, .planes = 1, .distortion = {}},
                    .attributes = attributes};
  const absl::StatusOr<PieceMeta> meta = PieceMeta::Parse(container);
  if (!meta.ok()) return offer;
  const uint32_t last = meta->level_count() - 1;
  offer.quality = QualityOf(*meta, meta->LevelEndingAt(container.size()).value_or(last) + 1);
  return offer;
}

ByteSpan CutTo(ByteSpan container, uint32_t planes) {
  return container.first(PieceMeta::Parse(container).value().bytes_to(planes - 1));
}

bool Matches(const HeldPiece& piece, ByteSpan container) {
  const ByteSpan meta = piece.meta_bytes();
  const ByteSpan body = piece.body();
  return meta.size() + body.size() == container.size() &&
         std::ranges::equal(meta, container.first(meta.size())) &&
         std::ranges::equal(body, container.subspan(meta.size()));
}

}  // namespace reprise::storage
