// What tests of the client's operations share: a client over loopback and a store that a test can
// make misbehave. Used from one thread.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include <gtest/gtest.h>

#include "client/connector.h"
#include "client/fake_store.h"
#include "client/sample_tensors.h"
#include "transport/loopback/loopback.h"

namespace reprise::client {

// Late enough for ThreadSanitizer on a busy machine; what must end sooner has a deadline of its
// own.
inline Deadline Soon() { return Deadline::After(std::chrono::seconds(60)); }

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : server_(transport::LoopbackServer::Create(store_)) { Reconnect(); }

  void Reconnect(ClientOptions options = {}) {
    auto connector = std::make_unique<LoopbackConnector>([this] { return server_.get(); });
    auto client = CreateClient(std::move(connector), options);
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  // Publishes `chunks` chunks filled with `seed`; raw, for tests that build on what is in a piece.
  PublishResult PublishRaw(const PrefixKeys& keys, uint32_t chunks, uint32_t seed) {
    return Publish(keys, chunks, seed, Layout::kContiguous, {.codec = CodecId::kRaw});
  }

  // Publishes `chunks` chunks filled with `seed`.
  PublishResult Publish(const PrefixKeys& keys, uint32_t chunks, uint32_t seed,
                        Layout layout = Layout::kContiguous, PublishOptions options = {}) {
    SampleTensors tensors(keys.name_space(), 0, chunks, layout);
    tensors.Fill(seed);
    auto published = client_->Publish(keys, chunks, tensors.views(), options, Soon()).Wait();
    EXPECT_TRUE(published.ok()) << published.status();
    return published.value_or(PublishResult{});
  }

  // The store answers every request of `method` with `status`.
  void Refuse(int method, absl::Status status) {
    store_.set_intercept(
        [method, status = std::move(status)](const transport::Request& request,
                                             std::unique_ptr<transport::Responder>& responder) {
          if (request.method != method) return false;
          responder->Complete(status);
          return true;
        });
  }

  uint64_t Misses(MissReason reason) const {
    return client_->counters().misses[static_cast<size_t>(reason)];
  }

  FakeStore store_;
  std::unique_ptr<transport::LoopbackServer> server_;
  std::unique_ptr<Client> client_;
};

}  // namespace reprise::client
