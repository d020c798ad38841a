#include "common/host_port.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

TEST(HostPort, ReadsHostAndPort) {
  const auto v4 = ParseHostPort("127.0.0.1:7070", "--listen");
  ASSERT_TRUE(v4.ok()) << v4.status();
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 7070);
  EXPECT_EQ(FormatHostPort(*v4), "127.0.0.1:7070");
  const auto v6 = ParseHostPort("[::1]:0", "--listen");
  ASSERT_TRUE(v6.ok()) << v6.status();
  EXPECT_EQ(v6->host, "::1");
  EXPECT_EQ(v6->port, 0);
  EXPECT_EQ(FormatHostPort(*v6), "[::1]:0");
}

TEST(HostPort, RefusesWhatIsNoAddress) {
  for (const char* text :
       {"", "7070", ":7070", "host", "host:", "host:port", "host:70707", "host:-1", "::1:7070",
        "[::1:7070", "a b:1", "http://host:80", "host:1 "}) {
    const auto parsed = ParseHostPort(text, "--listen");
    ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_EQ(parsed.status().message().find("--listen \"" + std::string(text) + "\""), 0u)
        << parsed.status();
  }
}

TEST(HostPort, KnowsIpv6Literals) {
  EXPECT_TRUE(IsIpv6("::1"));
  EXPECT_FALSE(IsIpv6("127.0.0.1"));
  EXPECT_FALSE(IsIpv6("localhost"));
}

TEST(HostPort, KnowsWildcards) {
  EXPECT_TRUE(IsWildcard("0.0.0.0"));
  EXPECT_TRUE(IsWildcard("::"));
  EXPECT_FALSE(IsWildcard("127.0.0.1"));
}

}  // namespace
}  // namespace reprise
