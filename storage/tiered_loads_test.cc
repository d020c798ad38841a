// Loads from the disk while memory is full of what readers use.

#include <chrono>
#include <future>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/testing/test_piece.h"
#include "storage/testing/tiered_store_fixture.h"
#include "storage/tiered/piece_loader.h"

namespace reprise::storage {
namespace {

class TieredLoadsTest : public TieredStoreTest {};

// As parts of a fetch do, that are on their way to a client.
TEST_F(TieredLoadsTest, ALoadWaitsUntilWhatIsBeingReadGoes) {
  std::vector<Key> keys;
  std::vector<std::vector<std::byte>> containers;
  for (int i = 0; i < 6; ++i) {
    keys.push_back(TestKey(std::to_string(i)));
    containers.push_back(Put({.key = keys.back(), .plane_bytes = 2'500'000}));
    ASSERT_TRUE(Persist(keys.back(), containers.back()).ok());
    DropFromMemory(keys.back());
  }
  std::vector<PieceRef> reading;
  for (int i = 0; i < 3; ++i) reading.push_back(Open(keys[static_cast<size_t>(i)]));
  ASSERT_THAT(reading, ::testing::Each(::testing::NotNull()));
  std::promise<PieceRef> opened;
  store_->Open(kTenant, keys[4], 0, [&](PieceRef piece) { opened.set_value(std::move(piece)); });
  std::future<PieceRef> waiting = opened.get_future();
  EXPECT_EQ(waiting.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  reading.clear();
  const PieceRef piece = waiting.get();
  ASSERT_NE(piece, nullptr);
  EXPECT_TRUE(Matches(*piece, containers[4]));
}

TEST_F(TieredLoadsTest, ALoadDoesNotWaitForeverForRoom) {
  std::vector<Key> keys;
  for (int i = 0; i < 6; ++i) {
    keys.push_back(TestKey(std::to_string(i)));
    ASSERT_TRUE(Persist(keys.back(), Put({.key = keys.back(), .plane_bytes = 2'500'000})).ok());
    DropFromMemory(keys.back());
  }
  std::vector<PieceRef> reading;
  for (int i = 0; i < 3; ++i) reading.push_back(Open(keys[static_cast<size_t>(i)]));
  EXPECT_EQ(Open(keys[3]), nullptr);
  // Once it was given up, others do not wait as long again while nothing changes.
  const TimePoint begin = Clock::Steady().Now();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Open(keys[4]), nullptr);
  EXPECT_LT(Clock::Steady().Now() - begin, 10 * PieceLoader::kPatience);
  reading.clear();
  EXPECT_NE(Open(keys[5]), nullptr);
}

}  // namespace
}  // namespace reprise::storage
