// The client SDK and a real store service with a host tier, in one process over loopback.
//
// Connections may be made faulty, and stored bytes may be damaged in place. Used from one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "chunk/keys.h"
#include "client/connector.h"
#include "client/reprise.h"
#include "client/sample_tensors.h"
#include "services/store/store_service.h"
#include "storage/host/host_store.h"
#include "transport/faulty/faulty.h"
#include "transport/loopback/loopback.h"

namespace reprise {

inline Deadline Soon() { return Deadline::After(std::chrono::seconds(60)); }

class ClientStoreTest : public ::testing::Test {
 protected:
  // Two tenants, "default" and "other", without credentials.
  void SetUp() override;
  void TearDown() override;

  std::unique_ptr<Client> Connect(const std::string& tenant = "default");
  // Every channel of this client follows `plan`.
  std::unique_ptr<Client> ConnectFaulty(const transport::FaultPlan& plan);

  // Publishes `chunks` chunks filled with `seed`, all of which must be stored.
  void Publish(Client& client, const PrefixKeys& keys, uint32_t chunks, uint32_t seed);

  // The stored bytes of a piece of the first tenant: header, directory and body. Valid while the
  // piece is held.
  MutableByteSpan StoredMeta(const Key& key);
  MutableByteSpan StoredBody(const Key& key);

  std::unique_ptr<storage::HostStore> pieces_;
  std::unique_ptr<store::StoreService> service_;
  std::unique_ptr<transport::LoopbackServer> server_;
};

}  // namespace reprise
