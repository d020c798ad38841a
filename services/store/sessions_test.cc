#include "services/store/sessions.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace reprise::store {
namespace {

using std::chrono::seconds;

// Tokens 1, 2, 3, ... so that a test can foretell them.
RandomSource Counting() {
  return [next = std::make_shared<uint8_t>(0)](MutableByteSpan out) -> absl::Status {
    std::fill(out.begin(), out.end(), std::byte{0});
    out[0] = std::byte(++*next);
    return absl::OkStatus();
  };
}

class SessionsTest : public ::testing::Test {
 protected:
  SessionTable Table(SessionLimits limits = {}) {
    return SessionTable({{"search", "one"}, {"chat", "two"}}, limits, clock_, Counting());
  }
  absl::StatusOr<std::shared_ptr<StoreSession>> Bind(SessionTable& table, const Token& token) {
    return table.Bind(AsText(token), {1, 1}, metrics_.Carrier("loopback"));
  }

  ManualClock clock_;
  StoreMetrics metrics_;
};

TEST_F(SessionsTest, ATokenBindsOnceToItsTenant) {
  SessionTable table = Table();
  const Token chat = table.Open("chat", "two").value();
  const Token search = table.Open("search", "one").value();
  EXPECT_NE(chat, search);
  const auto session = Bind(table, chat);
  ASSERT_TRUE(session.ok()) << session.status();
  EXPECT_EQ((*session)->tenant(), 2u);
  EXPECT_EQ((*session)->tenant_name(), "chat");
  EXPECT_EQ(Bind(table, chat).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(Bind(table, search).value()->tenant(), 1u);
  EXPECT_EQ(table.bound(), 2u);
}

TEST_F(SessionsTest, WrongCredentialsAndUnknownTenantsAreToldApartByNobody) {
  SessionTable table = Table();
  const absl::Status wrong = table.Open("chat", "one").status();
  EXPECT_EQ(wrong.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(table.Open("nobody", "one").status(), wrong);
  EXPECT_EQ(table.Open("", "").status(), wrong);
  EXPECT_EQ(table.Open("chat", "").status(), wrong);
  EXPECT_EQ(table.Open("chat", std::string("two\0", 4)).status(), wrong);
  EXPECT_EQ(table.Open("default", "").status(), wrong);
}

TEST_F(SessionsTest, WithoutTenantsThereIsDefault) {
  SessionTable table({}, {}, clock_, SystemRandom());
  EXPECT_TRUE(table.Open("default", "").ok());
  EXPECT_EQ(table.Open("default", "x").status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_NE(table.Open("default", "").value(), table.Open("default", "").value());
}

TEST_F(SessionsTest, TokensExpire) {
  SessionTable table = Table({.unbound = seconds(30)});
  const Token early = table.Open("chat", "two").value();
  clock_.Advance(seconds(29));
  const Token late = table.Open("chat", "two").value();
  clock_.Advance(seconds(1));
  EXPECT_EQ(Bind(table, early).status().code(), absl::StatusCode::kUnauthenticated);
  EXPECT_TRUE(Bind(table, late).ok());
}

TEST_F(SessionsTest, HostileTokensAndVersions) {
  SessionTable table = Table();
  const CarrierMetrics& carrier = metrics_.Carrier("loopback");
  for (const std::string& token :
       {std::string(), std::string("x"), std::string(16, '\0'), std::string(1 << 20, 'x')}) {
    EXPECT_EQ(table.Bind(token, {1, 1}, carrier).status().code(),
              absl::StatusCode::kUnauthenticated);
  }
  const std::string token(AsText(table.Open("chat", "two").value()));
  EXPECT_EQ(table.Bind(token, {2, 1}, carrier).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(table.Bind(token, {2, 9}, carrier).status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(table.Bind(token, {0, 0}, carrier).status().code(), absl::StatusCode::kUnimplemented);
  // None of that used the token up.
  EXPECT_TRUE(table.Bind(token, {1, 7}, carrier).ok());
}

TEST_F(SessionsTest, OneTenantCannotKeepAnotherOut) {
  SessionTable table = Table({.max_sessions = 5, .max_sessions_per_tenant = 3});
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(table.Open("chat", "two").ok());
  EXPECT_EQ(table.Open("chat", "two").status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(table.Open("search", "one").ok());
  EXPECT_TRUE(table.Open("search", "one").ok());
  // The total, now.
  EXPECT_EQ(table.Open("search", "one").status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(SessionsTest, LostAndExpiredSessionsMakeRoom) {
  SessionTable table = Table({.max_sessions_per_tenant = 1});
  const auto session = Bind(table, table.Open("chat", "two").value()).value();
  clock_.Advance(seconds(60));
  EXPECT_EQ(table.Open("chat", "two").status().code(), absl::StatusCode::kResourceExhausted);
  table.Lost(session);
  table.Lost(session);
  EXPECT_EQ(table.bound(), 0u);
  ASSERT_TRUE(table.Open("chat", "two").ok());
  EXPECT_EQ(table.Open("chat", "two").status().code(), absl::StatusCode::kResourceExhausted);
  clock_.Advance(seconds(30));
  EXPECT_TRUE(table.Open("chat", "two").ok());
}

TEST_F(SessionsTest, RequestsOfASessionAreBounded) {
  SessionTable table = Table({.max_requests = 2, .max_request_bytes = 100});
  const auto session = Bind(table, table.Open("chat", "two").value()).value();
  EXPECT_TRUE(session->Enter(60));
  EXPECT_FALSE(session->Enter(41));
  EXPECT_TRUE(session->Enter(40));
  EXPECT_FALSE(session->Enter(0));
  session->Leave(60);
  EXPECT_TRUE(session->Enter(60));
}

TEST_F(SessionsTest, WithoutRandomnessNobodyGetsAToken) {
  SessionTable table({}, {}, clock_, [](MutableByteSpan) -> absl::Status {
    return absl::InternalError("no entropy");
  });
  EXPECT_EQ(table.Open("default", "").status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace reprise::store
