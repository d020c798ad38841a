// Random calls against a model of the host tier that is kept outside it: what is resident, in which
// order it goes, what is held, pinned and charged. All pieces have one size, so that the model can
// say exactly which calls must succeed.

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/test_piece.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kBudget = 8 * kMiB;
constexpr uint64_t kBodyBytes = 128 * kKiB;
constexpr uint64_t kPieceBytes = kBodyBytes + 4 * kKiB;
constexpr TenantId kTenants = 2;
constexpr uint32_t kKeysPerTenant = 60;
constexpr uint32_t kChainLength = 6;

// (tenant, number of the key)
using Name = std::pair<TenantId, uint32_t>;
using Container = std::vector<std::byte>;

struct Resident {
  const Container* container = nullptr;
  uint32_t level = 0;
  std::optional<Name> parent;
  uint64_t generation = 0;  // tells it from one published later under the same name
  uint64_t last_use = 0;
  TimePoint held_until{};
};

struct OpenUpload {
  Name name;
  const Container* container = nullptr;
  uint32_t level = 0;
  std::optional<Name> parent;
  std::unique_ptr<Upload> upload;
};

struct Reader {
  Name name;
  uint64_t generation = 0;
  const Container* container = nullptr;
  PieceRef piece;
};

class HostStoreModelTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    auto store = HostStore::Create({.budget_bytes = kBudget, .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    slots_ = store_->arena().size() / kPieceBytes;
  }

  uint32_t Random(uint32_t below) { return static_cast<uint32_t>(random_() % below); }
  Name RandomName() { return {Random(kTenants), Random(kKeysPerTenant)}; }
  static Key KeyOf(const Name& name) { return TestKey(std::to_string(name.second)); }
  static Digest NamespaceOf(const Name& name) {
    return TestFingerprint(std::to_string(name.second / kChainLength % 4));
  }

  // One of four containers of that key: two lossy encodes of one plane, two lossless of two.
  const Container& ContainerOf(const Name& name, uint32_t level, uint32_t seed) {
    Container& container = containers_[{name, level, seed}];
    if (container.empty()) {
      container = Build({.key = KeyOf(name),
                         .fingerprint = NamespaceOf(name),
                         .plane_bytes = kBodyBytes / (level + 1),
                         .planes = level + 1,
                         .seed = seed + 10 * name.first + 100 * name.second,
                         .distortion = level == 0 ? 0.5f : 0.0f});
    }
    return container;
  }

  bool IsHeld(const Resident& resident) const { return resident.held_until > clock_.Now(); }
  bool HasResidentChild(const Name& name) const {
    return std::ranges::any_of(model_, [&](const auto& it) { return it.second.parent == name; });
  }
  uint64_t Held(std::optional<TenantId> tenant = std::nullopt) const {
    return static_cast<uint64_t>(std::ranges::count_if(model_, [&](const auto& it) {
      return IsHeld(it.second) && it.first.first == tenant.value_or(it.first.first);
    }));
  }
  bool MayUpload(TenantId tenant) const {
    const auto under_way = static_cast<uint64_t>(std::ranges::count_if(
        uploads_, [&](const OpenUpload& open) { return open.name.first == tenant; }));
    return under_way == 0 ||
           (under_way + 1) * kPieceBytes <= store_->arena().size() / HostStore::kTenantUploadShare;
  }
  bool IsRead(const Name& name, uint64_t generation) const {
    return std::ranges::any_of(readers_, [&](const Reader& reader) {
      return reader.name == name && reader.generation == generation;
    });
  }
  // Pieces that are out of the model but still read.
  uint64_t Pinned() const {
    std::set<std::pair<Name, uint64_t>> pinned;
    for (const Reader& reader : readers_) {
      const auto it = model_.find(reader.name);
      if (it == model_.end() || it->second.generation != reader.generation) {
        pinned.emplace(reader.name, reader.generation);
      }
    }
    return pinned.size();
  }

  // What the store must do to take one piece more; false when it must refuse.
  bool ModelMakesRoom() {
    const uint64_t occupied = model_.size() + uploads_.size() + Pinned();
    if (occupied < slots_) return true;
    const Name* victim = nullptr;
    for (const auto& [name, resident] : model_) {
      if (IsHeld(resident) || IsRead(name, resident.generation) || HasResidentChild(name)) continue;
      if (victim == nullptr || resident.last_use < model_.at(*victim).last_use) victim = &name;
    }
    if (victim == nullptr) return false;
    model_.erase(Name(*victim));
    ++evicted_;
    return true;
  }
  void Begin() {
    OpenUpload open;
    open.name = RandomName();
    open.level = Random(2);
    open.container = &ContainerOf(open.name, open.level, Random(2));
    PieceAttributes attributes{.parent = std::nullopt,
                               .position = open.name.second % kChainLength,
                               .recompute_seconds = 1};
    if (attributes.position > 0) {
      open.parent = Name(open.name.first, open.name.second - 1);
      attributes.parent = KeyOf(*open.parent);
    }
    const bool expected = MayUpload(open.name.first) && ModelMakesRoom();
    auto upload = store_->BeginUpload(open.name.first,
                                      OfferOf(KeyOf(open.name), *open.container, attributes));
    ASSERT_EQ(upload.ok(), expected) << upload.status();
    if (!expected) {
      ASSERT_EQ(upload.status().code(), absl::StatusCode::kResourceExhausted);
      ++refused_;
      return;
    }
    open.upload = *std::move(upload);
    ASSERT_TRUE(open.upload->Write(0, *open.container).ok());
    uploads_.push_back(std::move(open));
  }

  void EndUpload(bool commit) {
    if (uploads_.empty()) return;
    std::swap(uploads_[Random(static_cast<uint32_t>(uploads_.size()))], uploads_.back());
    OpenUpload open = std::move(uploads_.back());
    uploads_.pop_back();
    if (!commit) return;
    const absl::StatusOr<CommitOutcome> outcome = open.upload->Commit();
    const auto held = model_.find(open.name);
    if (held != model_.end()) {
      if (held->second.level >= open.level) {
        ASSERT_TRUE(outcome.ok());
        ASSERT_EQ(*outcome, CommitOutcome::kAlreadyHeld);
        return;
      }
      if (IsHeld(held->second)) {  // another level is another content here
        ASSERT_EQ(outcome.status().code(), absl::StatusCode::kResourceExhausted);
        ++refused_;
        return;
      }
    }
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    ASSERT_EQ(*outcome, CommitOutcome::kStored);
    ++now_;
    model_[open.name] = {.container = open.container,
                         .level = open.level,
                         .parent = open.parent,
                         .generation = now_,
                         .last_use = now_};
  }

  void Find() {
    const Name name = RandomName();
    PieceRef piece = store_->Find(name.first, KeyOf(name));
    const auto expected = model_.find(name);
    ASSERT_EQ(piece != nullptr, expected != model_.end());
    if (piece == nullptr) return;
    expected->second.last_use = ++now_;
    ASSERT_EQ(piece->level(), expected->second.level);
    if (Random(20) == 0) {
      ASSERT_TRUE(Matches(*piece, *expected->second.container));
    }
    if (Random(4) == 0) {
      readers_.push_back(
          {name, expected->second.generation, expected->second.container, std::move(piece)});
    }
  }

  void EndRead() {
    if (readers_.empty()) return;
    std::swap(readers_[Random(static_cast<uint32_t>(readers_.size()))], readers_.back());
    ASSERT_TRUE(Matches(*readers_.back().piece, *readers_.back().container));
    readers_.pop_back();
  }

  void Hold() {
    const Name name = RandomName();
    const uint32_t level = Random(2);
    const auto time = std::chrono::milliseconds(Random(2000));
    const auto it = model_.find(name);
    bool expected = it != model_.end() && it->second.level >= level && time.count() > 0;
    if (expected && !IsHeld(it->second)) {
      const uint64_t arena_bytes = store_->arena().size();
      expected = (Held() + 1) * kPieceBytes <= arena_bytes / HostStore::kHoldShare &&
                 (Held(name.first) + 1) * kPieceBytes <= arena_bytes / HostStore::kTenantHoldShare;
    }
    ASSERT_EQ(store_->Hold(name.first, KeyOf(name), level, Deadline::After(time, clock_)),
              expected);
    if (expected) it->second.held_until = std::max(it->second.held_until, clock_.Now() + time);
  }

  void Remove() {
    const Name name = RandomName();
    ASSERT_EQ(store_->Remove(name.first, KeyOf(name), nullptr), model_.contains(name));
    model_.erase(name);
  }

  void RemoveNamespace() {
    const Name example = RandomName();
    const uint64_t expected = std::erase_if(model_, [&](const auto& it) {
      return it.first.first == example.first && NamespaceOf(it.first) == NamespaceOf(example);
    });
    ASSERT_EQ(store_->RemoveNamespace(example.first, NamespaceOf(example)), expected);
  }

  void Compare() {
    const StoreUsage usage = store_->usage();
    ASSERT_EQ(usage.pieces, model_.size());
    ASSERT_EQ(usage.evicted_pieces, evicted_);
    ASSERT_EQ(usage.refused_uploads, refused_);
    ASSERT_EQ(usage.uploads, uploads_.size());
    ASSERT_LE(usage.bytes_used, kBudget);
    // Bytes of the arena, counted from what this test knows to be alive.
    ASSERT_EQ(usage.bytes_used - usage.bytes_metadata,
              (model_.size() + uploads_.size() + Pinned()) * kPieceBytes);
    for (TenantId tenant = 0; tenant < kTenants; ++tenant) {
      const ListPage page = store_->List(tenant, nullptr, 1000, nullptr);
      ASSERT_FALSE(page.more);
      std::vector<Key> expected;
      for (const auto& [name, resident] : model_) {
        if (name.first == tenant) expected.push_back(KeyOf(name));
      }
      std::ranges::sort(expected);
      ASSERT_TRUE(std::ranges::equal(page.pieces, expected, {}, &ListPage::Entry::key));
    }
  }

  void Step() {
    const uint32_t choice = Random(1000);
    if (choice < 350) {
      Begin();
    } else if (choice < 620) {
      EndUpload(/*commit=*/true);
    } else if (choice < 700) {
      EndUpload(/*commit=*/false);
    } else if (choice < 830) {
      Find();
    } else if (choice < 900) {
      EndRead();
    } else if (choice < 950) {
      Hold();
    } else if (choice < 990) {
      Remove();
    } else if (choice < 992) {
      RemoveNamespace();
    } else {
      clock_.Advance(std::chrono::milliseconds(Random(500)));
    }
  }

  ManualClock clock_;
  std::unique_ptr<HostStore> store_;
  uint64_t slots_ = 0;
  std::mt19937_64 random_{GetParam()};
  std::map<std::tuple<Name, uint32_t, uint32_t>, Container> containers_;
  std::map<Name, Resident> model_;
  std::vector<OpenUpload> uploads_;
  std::vector<Reader> readers_;
  uint64_t now_ = 0;
  uint64_t evicted_ = 0;
  uint64_t refused_ = 0;
};

TEST_P(HostStoreModelTest, AgreesAfterEveryCall) {
  for (int step = 0; step < 3000; ++step) {
    ASSERT_NO_FATAL_FAILURE(Step()) << "step " << step;
    ASSERT_NO_FATAL_FAILURE(Compare()) << "step " << step;
  }
  EXPECT_GT(evicted_, 100u) << "the test never put the store under pressure";
  uploads_.clear();
  readers_.clear();
  for (TenantId tenant = 0; tenant < kTenants; ++tenant) {
    for (uint32_t key = 0; key < kKeysPerTenant; ++key) {
      store_->Remove(tenant, KeyOf({tenant, key}), nullptr);
    }
  }
  const StoreUsage usage = store_->usage();
  EXPECT_EQ(usage.bytes_used, 0u);
  EXPECT_EQ(usage.bytes_pinned, 0u);
  EXPECT_EQ(usage.bytes_held, 0u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, HostStoreModelTest, ::testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace reprise::storage
