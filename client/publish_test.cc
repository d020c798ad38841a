// Publish over loopback: what is encoded, what is sent, and what the store is told.

#include <sys/mman.h>

#include <future>
#include <map>
#include <memory>
#include <vector>

#include <malloc.h>

#include "chunk/container.h"
#include "client/client_fixture.h"
#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

using PublishTest = ClientTest;

TEST_F(PublishTest, PublishSendsOnlyWhatIsNotHeld) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  EXPECT_EQ(Publish(keys, 2, 1).pieces_stored, 2 * keys.pieces_per_chunk());
  const PublishResult again = Publish(keys, 3, 1);
  EXPECT_EQ(again.pieces_already_held, 2 * keys.pieces_per_chunk());
  EXPECT_EQ(again.pieces_stored, keys.pieces_per_chunk());
}

TEST_F(PublishTest, PublishTellsParentPositionAndCost) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  Mutex mutex;
  std::map<std::string, v1::PublishRequest> steps;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>&) {
        if (request.method != v1::PUBLISH) return false;
        v1::PublishRequest step;
        EXPECT_TRUE(step.ParseFromString(request.message));
        MutexLock lock(mutex);
        steps[step.key()] = step;
        return false;
      });
  SampleTensors tensors(keys.name_space(), 1, 2, Layout::kContiguous);
  ASSERT_TRUE(client_
                  ->Publish(keys, 2, tensors.views(),
                            {.first_chunk = 1, .recompute_seconds_per_chunk = 2.0}, Soon())
                  .Wait()
                  .ok());
  MutexLock lock(mutex);
  const v1::PublishRequest& step = steps.at(std::string(keys.key(2, 3).digest.AsString()));
  EXPECT_EQ(step.parent(), keys.key(1, 3).digest.AsString());
  EXPECT_EQ(step.position(), 2u);
  EXPECT_DOUBLE_EQ(step.recompute_seconds(), 2.0 / static_cast<double>(keys.pieces_per_chunk()));
}

TEST_F(PublishTest, APublishNeedsRoomForAPieceNotForAll) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 3);
  // A piece has 1,536 bytes of tensors at most, and 8 KiB encoded.
  Reconnect({.send_bytes = 1'600});
  EXPECT_EQ(Publish(keys, 3, 4).pieces_stored, 3 * keys.pieces_per_chunk());
  SampleTensors loaded(keys.name_space(), 0, 3, Layout::kContiguous);
  EXPECT_EQ(client_->Load(keys, 0, 3, loaded.views(), {}, Soon()).Wait()->chunks, 3u);
  EXPECT_TRUE(loaded.Holds(4, 0, 3));

  const PrefixKeys others = SampleKeys(AttentionNamespace(), 3, 2);
  SampleTensors tensors(keys.name_space(), 0, 3, Layout::kContiguous);
  Reconnect({.send_bytes = 1'000});
  EXPECT_TRUE(absl::IsResourceExhausted(
      client_->Publish(others, 3, tensors.views(), {}, Soon()).Wait().status()));
  EXPECT_EQ(store_.requests(v1::PUBLISH), static_cast<int>(3 * keys.pieces_per_chunk()));
}

// Memory that cannot be read: an encoder would crash.
TEST_F(PublishTest, WhatIsHeldIsNotEvenRead) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  Publish(keys, 2, 1);
  SampleTensors tensors(keys.name_space(), 0, 2, Layout::kContiguous);
  constexpr size_t kBytes = 1 << 20;
  void* const sealed = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(sealed, MAP_FAILED);
  std::vector<GroupViews> views = tensors.views();
  views[0].key.data = static_cast<std::byte*>(sealed);
  views[0].value.data = static_cast<std::byte*>(sealed);
  auto published = client_->Publish(keys, 2, views, {}, Soon()).Wait();
  ASSERT_TRUE(published.ok()) << published.status();
  EXPECT_EQ(published->pieces_already_held, 2 * keys.pieces_per_chunk());
  EXPECT_EQ(published->bytes_sent, 0u);
  munmap(sealed, kBytes);
}

// The caller's thread reads nothing: what the tensors hold when the store has answered is sent.
TEST_F(PublishTest, TheStoreIsAskedBeforeAnythingIsEncoded) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 2);
  std::promise<void> answer;
  store_.set_intercept(
      [answered = answer.get_future().share()](const transport::Request& request,
                                               std::unique_ptr<transport::Responder>&) {
        if (request.method == v1::LOOKUP) answered.wait();
        return false;
      });
  SampleTensors tensors(keys.name_space(), 0, 2, Layout::kContiguous);
  auto publish = std::async(std::launch::async, [&] {
    return client_->Publish(keys, 2, tensors.views(), {}, Soon()).Wait();
  });
  store_.WaitForRequests(v1::LOOKUP, 1);
  tensors.Fill(6);
  answer.set_value();
  ASSERT_TRUE(publish.get().ok());
  SampleTensors loaded(keys.name_space(), 0, 2, Layout::kContiguous);
  EXPECT_EQ(client_->Load(keys, 0, 2, loaded.views(), {}, Soon()).Wait()->chunks, 2u);
  EXPECT_TRUE(loaded.Holds(6, 0, 2));
}

TEST_F(PublishTest, MemoryOfAPieceIsGivenBackOnceItIsSent) {
  constexpr uint32_t kChunks = 64;
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), kChunks);
  Mutex mutex;
  size_t sent_bytes = 0;
  std::vector<size_t> heap_bytes;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>& responder) {
        if (request.method != v1::PUBLISH) return false;
        v1::PublishReply stored;
        stored.set_outcome(v1::PublishReply::STORED);
        responder->Send({stored.SerializeAsString(), {}});
        responder->Complete(absl::OkStatus());
        MutexLock lock(mutex);
        sent_bytes += request.bulk.size();
        const struct mallinfo2 heap = mallinfo2();
        heap_bytes.push_back(heap.uordblks + heap.hblkhd);
        return true;
      });
  PublishRaw(keys, kChunks, 1);
  MutexLock lock(mutex);
  ASSERT_EQ(heap_bytes.size(), kChunks * keys.pieces_per_chunk());
  const size_t early = heap_bytes[heap_bytes.size() / 4];
  EXPECT_LT(heap_bytes.back(), early + sent_bytes / 4);
}

// An inexact piece is held: whether that is enough shows when the tensors are encoded.
TEST_F(PublishTest, WhatIsHeldInexactlyIsPublishedAgain) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 1);
  PublishRaw(keys, 1, 1);
  const Key key = keys.key(0, 2);
  std::vector<std::byte> container = store_.Container(key);
  const PieceMeta exact = PieceMeta::Parse(container).value();
  PieceHeader header = exact.header();
  header.levels[0].distortions[0] = {.key = 0.25F, .value = 0};
  PieceLayout layout = PieceLayout::Create(header, exact.segments()).value();
  layout.Seal(container);
  store_.Put(key, container);
  const int before = store_.requests(v1::PUBLISH);
  EXPECT_EQ(PublishRaw(keys, 1, 1).pieces_already_held, keys.pieces_per_chunk());
  EXPECT_EQ(store_.requests(v1::PUBLISH), before + 1);  // the store has the last word
}

TEST_F(PublishTest, ACancelledPublishEndsAndLeavesTheTensorsToTheirOwner) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 4);
  Mutex mutex;
  std::vector<std::unique_ptr<transport::Responder>> held;
  store_.set_intercept(
      [&](const transport::Request& request, std::unique_ptr<transport::Responder>& responder) {
        if (request.method != v1::PUBLISH) return false;
        MutexLock lock(mutex);
        held.push_back(std::move(responder));
        return true;
      });
  auto tensors = std::make_unique<SampleTensors>(keys.name_space(), 0, 4, Layout::kContiguous);
  auto publish = client_->Publish(keys, 4, tensors->views(), {}, Soon());
  store_.WaitForRequests(v1::PUBLISH, 2);
  publish.Cancel();
  EXPECT_TRUE(absl::IsCancelled(publish.Wait().status()));
  tensors.reset();
  client_.reset();
  MutexLock lock(mutex);
  held.clear();
}

TEST_F(PublishTest, AnErrorOfTheStoreEndsThePublish) {
  const PrefixKeys keys = SampleKeys(AttentionNamespace(), 8);
  store_.set_intercept(
      [](const transport::Request& request, std::unique_ptr<transport::Responder>& responder) {
        if (request.method != v1::PUBLISH) return false;
        responder->Complete(absl::ResourceExhaustedError("full"));
        return true;
      });
  SampleTensors tensors(keys.name_space(), 0, 8, Layout::kContiguous);
  const auto status = client_->Publish(keys, 8, tensors.views(), {}, Soon()).Wait().status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

}  // namespace
}  // namespace reprise::client
