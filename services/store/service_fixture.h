// For tests: a store service over a real host tier, reached through the loopback carrier.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "chunk/container.h"
#include "common/mutex.h"
#include "proto/reprise.pb.h"
#include "services/store/store_service.h"
#include "storage/host/host_store.h"
#include "transport/loopback/loopback.h"

namespace reprise::store {

struct PieceShape {
  uint32_t planes = 1;
  uint32_t layers = 1;
  uint32_t segment_bytes = 1000;
  uint32_t seed = 1;
  float distortion = 0;  // of the last level; each level before it errs 0.25 more
};
Key KeyNumber(uint32_t number);
// A sealed container of opaque segments, one per (plane, layer), filled from `seed`.
std::vector<std::byte> MakeContainer(const Key& key, const PieceShape& shape,
                                     const Digest& fingerprint = {});

// The container's first `planes` planes.
ByteSpan CutTo(ByteSpan container, uint32_t planes);
// The first step of an honest publisher of a container that ends with one of its levels. Of bytes
// that are no such container, whatever comes nearest.
v1::PublishRequest FirstStepOf(const Key& key, ByteSpan container);

// What a call yielded.
struct CallResult {
  absl::Status status;
  std::vector<transport::Part> parts;
};

class ServiceTest : public ::testing::Test {
 protected:
  void Start(StoreServiceOptions options, uint64_t budget_bytes = 64 * kMiB,
             const Clock& clock = Clock::Steady());
  void SetUp() override { Start({}); }
  ~ServiceTest() override;

  std::unique_ptr<transport::Channel> Connect(const std::string& tenant = "default",
                                              const std::string& credential = "");

  CallResult Run(transport::Channel& channel, v1::Method method, const std::string& message,
                 SharedBytes bulk = {}, uint32_t credit_parts = 4);
  // The one reply of a call that must succeed.
  template <typename Reply, typename Request>
  Reply Ask(transport::Channel& channel, v1::Method method, const Request& request,
            SharedBytes bulk = {}) {
    CallResult result = Run(channel, method, request.SerializeAsString(), std::move(bulk));
    EXPECT_TRUE(result.status.ok()) << result.status;
    Reply reply;
    EXPECT_EQ(result.parts.size(), 1u);
    if (result.parts.empty()) return reply;
    EXPECT_TRUE(reply.ParseFromString(result.parts[0].message));
    return reply;
  }

  // Publishes in steps of `step_bytes`, going on where the store says; the last reply, or the first
  // error.
  absl::StatusOr<v1::PublishReply> Publish(transport::Channel& channel, const Key& key,
                                           ByteSpan container, size_t step_bytes = 8 * kMiB);
  // Publishes a piece that must be stored.
  std::vector<std::byte> Store(transport::Channel& channel, const Key& key,
                               const PieceShape& shape = {}, const Digest& fingerprint = {});

  // Whether exactly this line is in /metrics.
  bool HasMetric(const std::string& line) const;

  std::unique_ptr<storage::HostStore> pieces_;
  std::unique_ptr<StoreService> service_;
  std::unique_ptr<transport::LoopbackServer> server_;
};

}  // namespace reprise::store
