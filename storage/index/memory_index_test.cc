#include "storage/index/memory_index.h"

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

class Record {
 public:
  Record(TenantId tenant, const Key& key, const Digest& fingerprint)
      : tenant_(tenant), key_(key), fingerprint_(fingerprint) {}
  TenantId tenant() const { return tenant_; }
  const Key& key() const { return key_; }
  const Digest& fingerprint() const { return fingerprint_; }

 private:
  TenantId tenant_;
  Key key_;
  Digest fingerprint_;
};

using Index = MemoryIndex<Record>;

TEST(MemoryIndex, KeepsTenantsApart) {
  Index index(10);
  const auto mine = std::make_shared<Record>(1, TestKey("a"), TestFingerprint("n"));
  ASSERT_TRUE(index.Insert(mine));
  EXPECT_FALSE(index.Insert(std::make_shared<Record>(1, TestKey("a"), TestFingerprint("m"))));
  EXPECT_EQ(index.Find(1, TestKey("a")), mine);
  EXPECT_EQ(index.Find(2, TestKey("a")), nullptr);
  EXPECT_EQ(index.Erase(2, TestKey("a")), nullptr);
  EXPECT_TRUE(index.List(2, nullptr, 10, nullptr).pieces.empty());
  EXPECT_EQ(index.Erase(1, TestKey("a")), mine);
  EXPECT_EQ(index.size(), 0u);
  EXPECT_EQ(mine.use_count(), 1);
}

TEST(MemoryIndex, ExtremeKeysAreListed) {
  Index index(10);
  Key lowest;
  Key highest;
  highest.digest.bytes.fill(std::byte{0xff});
  const Digest fingerprint = TestFingerprint("n");
  for (const TenantId tenant : {0u, 1u, UINT32_MAX}) {
    ASSERT_TRUE(index.Insert(std::make_shared<Record>(tenant, highest, fingerprint)));
    ASSERT_TRUE(index.Insert(std::make_shared<Record>(tenant, lowest, fingerprint)));
  }
  for (const TenantId tenant : {0u, 1u, UINT32_MAX}) {
    for (const Digest* only : {static_cast<const Digest*>(nullptr), &fingerprint}) {
      const Index::Page all = index.List(tenant, nullptr, 10, only);
      ASSERT_EQ(all.pieces.size(), 2u);
      EXPECT_EQ(all.pieces[0]->key(), lowest);
      EXPECT_EQ(all.pieces[1]->key(), highest);
      EXPECT_EQ(index.List(tenant, &lowest, 10, only).pieces.size(), 1u);
      EXPECT_EQ(index.List(tenant, &highest, 10, only).pieces.size(), 0u);
    }
  }
}

// Against a sorted map, page by page.
TEST(MemoryIndex, RandomCallsAgreeWithASortedMap) {
  Index index(500);
  std::map<std::tuple<TenantId, Key>, std::shared_ptr<Record>> model;
  std::mt19937 random(23);
  const std::vector<Digest> namespaces = {TestFingerprint("a"), TestFingerprint("b"),
                                          TestFingerprint("c")};
  for (int step = 0; step < 20'000; ++step) {
    const TenantId tenant = static_cast<TenantId>(random() % 3);
    const Key key = TestKey(std::to_string(random() % 200));
    switch (random() % 4) {
      case 0:
      case 1: {
        const auto record = std::make_shared<Record>(tenant, key, namespaces[random() % 3]);
        ASSERT_EQ(index.Insert(record), model.emplace(std::tuple(tenant, key), record).second);
        break;
      }
      case 2: {
        const auto found = model.find({tenant, key});
        ASSERT_EQ(index.Erase(tenant, key), found == model.end() ? nullptr : found->second);
        if (found != model.end()) model.erase(found);
        break;
      }
      default: {
        const Digest* fingerprint = random() % 2 == 0 ? nullptr : &namespaces[random() % 3];
        const size_t limit = random() % 20;
        const bool from_start = random() % 2 == 0;
        std::vector<std::shared_ptr<Record>> expected;
        for (const auto& [name, record] : model) {
          if (std::get<0>(name) != tenant) continue;
          if (!from_start && std::get<1>(name) <= key) continue;
          if (fingerprint != nullptr && record->fingerprint() != *fingerprint) continue;
          expected.push_back(record);
        }
        const bool more = expected.size() > limit;
        if (more) expected.resize(limit);
        const Index::Page page =
            index.List(tenant, from_start ? nullptr : &key, limit, fingerprint);
        ASSERT_EQ(page.pieces, expected);
        ASSERT_EQ(page.more, more);
      }
    }
    ASSERT_EQ(index.size(), model.size());
  }
}

}  // namespace
}  // namespace reprise::storage
