#include "services/store/store_process.h"

#include <gtest/gtest.h>

#include "services/store/memory_plan.h"

namespace reprise::store {
namespace {

StoreConfig ListenOn(const std::string& listen, const std::string& data = "") {
  StoreConfig config;
  config.listen = listen;
  config.data = data;
  config.metrics = std::string(kOff);
  config.memory_bytes = MinimumMemoryBytes();
  return config;
}

TEST(StoreProcess, TheDataPathListensOnTheSameHost) {
  const auto store = StoreProcess::Create(ListenOn("127.0.0.1:0"));
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE((*store)->data_address().starts_with("127.0.0.1:")) << (*store)->data_address();
}

TEST(StoreProcess, ListeningOnIpv6GoesWithoutADataPath) {
  const auto store = StoreProcess::Create(ListenOn("[::1]:0"));
  // A container without IPv6 has no such address to listen on.
  if (absl::IsUnavailable(store.status())) GTEST_SKIP() << "no IPv6 here: " << store.status();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE((*store)->listen_address().starts_with("[::1]:")) << (*store)->listen_address();
  EXPECT_EQ((*store)->data_address(), "off");

  const auto both = StoreProcess::Create(ListenOn("[::1]:0", "127.0.0.1:0"));
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_TRUE((*both)->data_address().starts_with("127.0.0.1:")) << (*both)->data_address();
}

TEST(StoreProcess, AnIpv6DataAddressIsRefused) {
  const auto store = StoreProcess::Create(ListenOn("127.0.0.1:0", "[::1]:0"));
  EXPECT_TRUE(absl::IsInvalidArgument(store.status())) << store.status();
}

}  // namespace
}  // namespace reprise::store
