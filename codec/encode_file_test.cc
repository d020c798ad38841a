#include <algorithm>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "codec/codec.h"
#include "codec/testing/guarded_tensor.h"
#include "common/limits.h"

namespace reprise {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> Ramp(size_t size) {
  std::vector<std::byte> file(size);
  for (size_t i = 0; i < size; ++i) file[i] = static_cast<std::byte>((i * 31) >> 3);
  return file;
}

TEST(EncodeFile, TheBodyIsTheFile) {
  const Key key = *FileKey("default", "x");
  const Digest fingerprint = *Fingerprint(FileNamespace("default"));
  for (const size_t size :
       {size_t{1}, size_t{4096}, kMaxPartBytes, kMaxPartBytes + 1, 3 * kMaxPartBytes - 5}) {
    const std::vector<std::byte> file = Ramp(size);
    const auto container = EncodeFile(key, fingerprint, file);
    ASSERT_TRUE(container.ok()) << container.status();
    const auto meta = PieceMeta::Parse(*container);
    ASSERT_TRUE(meta.ok()) << meta.status();
    const ByteSpan body = ByteSpan(*container).subspan(meta->meta_bytes());
    EXPECT_TRUE(meta->VerifyBody(body, 0).ok());
    EXPECT_TRUE(std::ranges::equal(body, file)) << size;
    EXPECT_EQ(meta->segments().size(), (size + kMaxPartBytes - 1) / kMaxPartBytes);
    EXPECT_EQ(meta->header().key, key);
    EXPECT_EQ(meta->header().namespace_fingerprint, fingerprint);
    EXPECT_EQ(meta->header().slot, PiecesPerChunk(FileNamespace("default"))[0]);
  }
}

TEST(EncodeFile, TakesExactlyUpToTheNamedLimit) {
  std::vector<std::byte> file(kMaxPieceBodyBytes);
  EXPECT_TRUE(EncodeFile({}, {}, file).ok());
  file.emplace_back();
  for (const auto& container : {EncodeFile({}, {}, file), EncodeFile({}, {}, {})}) {
    EXPECT_EQ(container.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(container.status().message()), HasSubstr("allowed are 1 to 268435456"));
  }
}

TEST(EncodeFile, AFileHasNoTensorShape) {
  const auto container = EncodeFile({}, {}, Ramp(10));
  const auto meta = PieceMeta::Parse(*container);
  GuardedTensor key(Dtype::kOpaque, {1, 10, 1, 1}, {0, 1, 2}, 0, {});
  EXPECT_EQ(PieceDecoder::Create(*meta, key.view(), {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise
