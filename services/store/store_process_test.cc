#include "services/store/store_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/store/memory_plan.h"

namespace reprise::store {
namespace {

using ::testing::HasSubstr;

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

std::string WhyNot(const StoreConfig& config) {
  return std::string(StoreProcess::Create(config).status().message());
}

TEST(StoreProcess, SaysWhyAnAddressCannotBeListenedOn) {
  const auto store = StoreProcess::Create(ListenOn("127.0.0.1:0"));
  ASSERT_TRUE(store.ok()) << store.status();
  const std::string taken = (*store)->listen_address();
  EXPECT_EQ(WhyNot(ListenOn(taken)), "cannot listen on " + taken +
                                         " (--listen): another process has the port; give another");
  EXPECT_THAT(WhyNot(ListenOn("127.0.0.1:0", taken)),
              HasSubstr("(--data): another process has the port"));
  // An address kept for documentation (RFC 5737), and a name kept for nobody (RFC 6761).
  EXPECT_THAT(WhyNot(ListenOn("203.0.113.5:0")), HasSubstr("is not one of this machine's"));
  EXPECT_THAT(WhyNot(ListenOn("127.0.0.1:0", "203.0.113.5:0")),
              HasSubstr("is not one of this machine's"));
  EXPECT_THAT(WhyNot(ListenOn("nowhere.invalid:7070")), HasSubstr("the host name is not known"));
}

TEST(StoreProcess, AllAddressesAreReadBeforeOneIsListenedOn) {
  StoreConfig config = ListenOn("127.0.0.1:0", "7071");
  const auto store = StoreProcess::Create(ListenOn("127.0.0.1:0"));
  ASSERT_TRUE(store.ok()) << store.status();
  config.metrics = (*store)->listen_address();
  EXPECT_THAT(WhyNot(config), HasSubstr("the data address \"7071\" is not an address"));
  config.data = "off";
  EXPECT_THAT(WhyNot(config), HasSubstr("(--metrics): another process has the port; give "
                                        "another, or --metrics off"));
  config.listen = config.metrics = "127.0.0.1:7979";
  EXPECT_THAT(WhyNot(config), HasSubstr("are both 127.0.0.1:7979"));
}

}  // namespace
}  // namespace reprise::store
