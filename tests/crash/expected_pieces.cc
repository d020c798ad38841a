#include "tests/crash/expected_pieces.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "chunk/container.h"
#include "storage/testing/test_piece.h"

namespace reprise::crash {
namespace {

constexpr uint32_t kMaxPlanesMade = 4;

}  // namespace

ExpectedPiece::ExpectedPiece(uint32_t key_number)
    : number_(key_number), key_(storage::TestKey("crash " + std::to_string(key_number))) {}

const Version& ExpectedPiece::AddVersion(uint64_t random) {
  // 1 KiB to 128 KiB a plane, as many small ones as large ones.
  const uint32_t scale = 1u << (10 + (random >> 8) % 7);
  return versions_.emplace_back(
      Version{.number = static_cast<uint32_t>(versions_.size()),
              .planes = 1 + static_cast<uint32_t>(random % kMaxPlanesMade),
              .plane_bytes = scale + static_cast<uint32_t>((random >> 16) % scale)});
}

std::vector<std::byte> ExpectedPiece::Container(const Version& version) const {
  return storage::Build({.key = key_,
                         .fingerprint = storage::TestFingerprint("crash"),
                         .plane_bytes = version.plane_bytes,
                         .planes = version.planes,
                         .seed = number_ * 1000003u + version.number,
                         .distortion = 1.0f / static_cast<float>(1 + version.number)});
}

ByteSpan ExpectedPiece::Cut(ByteSpan container, uint32_t planes) {
  return storage::CutTo(container, planes);
}

std::string ExpectedPiece::Judge(ByteSpan container) const {
  for (const Version& version : versions_) {
    const std::vector<std::byte> whole = Container(version);
    if (container.size() > whole.size() ||
        !std::equal(container.begin(), container.end(), whole.begin())) {
      continue;
    }
    const absl::StatusOr<PieceMeta> meta = PieceMeta::Parse(container);
    const std::optional<uint32_t> level =
        meta.ok() ? meta->LevelEndingAt(container.size()) : std::nullopt;
    if (!level.has_value()) return "it ends with none of its levels";
    if (promise_.has_value() && !Reaches(QualityOf(*meta, *level + 1), *promise_)) {
      return absl::StrCat("version ", version.number, " of ", versions_.size(), " with ",
                          *level + 1, " planes does not reach the ", promise_->planes,
                          " planes that were acknowledged as durable");
    }
    return "";
  }
  return "its bytes are those of nothing that was published";
}

}  // namespace reprise::crash
