#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/store/service_fixture.h"

namespace reprise::store {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Bytes(const Key& key) { return std::string(key.digest.AsString()); }

TEST_F(ServiceTest, SessionsNeedTheirCredential) {
  Start({.tenants = {{"search", "one"}}});
  const auto door = server_->ConnectWithoutHello();
  v1::OpenSessionRequest open;
  open.set_tenant("search");
  open.set_credential("two");
  EXPECT_EQ(Run(*door, v1::OPEN_SESSION, open.SerializeAsString()).status.code(),
            absl::StatusCode::kPermissionDenied);
  open.set_tenant(std::string(100'000, 't'));
  EXPECT_EQ(Run(*door, v1::OPEN_SESSION, open.SerializeAsString()).status.code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server_->Connect("\xff").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server_->Connect("").status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_TRUE(HasMetric("reprise_store_refused_sessions_total 4"));
  const auto channel = Connect("search", "one");
  EXPECT_TRUE(HasMetric("reprise_store_sessions 1"));
}

TEST_F(ServiceTest, ARefusedLoginIsLoggedButNoFlood) {
  Start({.tenants = {{"search", "one"}}});
  const auto door = server_->ConnectWithoutHello();
  v1::OpenSessionRequest open;
  open.set_tenant("search");
  open.set_credential("not the one");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 100; ++i) Run(*door, v1::OPEN_SESSION, open.SerializeAsString());
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("warning login refused tenant=search why="));
  EXPECT_THAT(log, Not(HasSubstr("not the one")));
  EXPECT_LT(std::count(log.begin(), log.end(), '\n'), 100);
}

TEST_F(ServiceTest, OpenSessionTellsWhereTheDataPathIs) {
  service_->set_data_address(":7171");
  v1::OpenSessionRequest open;
  open.set_tenant("default");
  const auto reply =
      Ask<v1::OpenSessionReply>(*server_->ConnectWithoutHello(), v1::OPEN_SESSION, open);
  EXPECT_EQ(reply.data_address(), ":7171");
  EXPECT_EQ(reply.token().size(), 16u);
}

TEST_F(ServiceTest, NothingWorksWithoutASession) {
  const auto door = server_->ConnectWithoutHello();
  for (const v1::Method method :
       {v1::LOOKUP, v1::PUBLISH, v1::FETCH, v1::STAT, v1::LIST, v1::REMOVE, v1::PIN, v1::WARM}) {
    EXPECT_EQ(Run(*door, method, "").status.code(), absl::StatusCode::kUnauthenticated) << method;
  }
  const auto channel = Connect();
  for (const int method : {0, 2, 11, 65535}) {
    EXPECT_EQ(Run(*channel, static_cast<v1::Method>(method), "").status.code(),
              absl::StatusCode::kUnimplemented)
        << method;
  }
}

TEST_F(ServiceTest, ASessionIsNotOpenedFromWithinAnother) {
  const auto channel = Connect();
  v1::OpenSessionRequest open;
  open.set_tenant("default");
  EXPECT_EQ(Run(*channel, v1::OPEN_SESSION, open.SerializeAsString()).status.code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(HasMetric("reprise_store_sessions 1"));
}

TEST_F(ServiceTest, LookupReportsThePrefixThatIsThere) {
  const auto channel = Connect();
  const auto container = Store(*channel, KeyNumber(1), {.planes = 3, .layers = 2});
  Store(*channel, KeyNumber(3));
  v1::LookupRequest request;
  for (uint32_t i : {1u, 2u, 3u}) request.add_keys(Bytes(KeyNumber(i)));
  auto reply = Ask<v1::LookupReply>(*channel, v1::LOOKUP, request);
  ASSERT_EQ(reply.pieces_size(), 3);
  const PieceMeta meta = PieceMeta::Parse(container).value();
  EXPECT_EQ(reply.pieces(0).content_id(), meta.header().content_id.digest.AsString());
  ASSERT_EQ(reply.pieces(0).levels_size(), 3);
  EXPECT_EQ(reply.pieces(0).levels(2).bytes(), container.size());
  EXPECT_EQ(reply.pieces(0).planes_held(), 3u);
  EXPECT_EQ(reply.pieces(0).tier(), v1::HOST);
  EXPECT_EQ(reply.pieces(1).content_id(), "");
  EXPECT_EQ(reply.pieces(2).planes_held(), 1u);
  EXPECT_EQ(reply.held_ms(), 0u);

  request.set_stop_at_absent(true);
  reply = Ask<v1::LookupReply>(*channel, v1::LOOKUP, request);
  EXPECT_EQ(reply.pieces_size(), 1);
  EXPECT_TRUE(HasMetric("reprise_store_lookup_pieces_total{result=\"hit\"} 3"));
  EXPECT_TRUE(HasMetric("reprise_store_lookup_pieces_total{result=\"miss\"} 2"));
}

TEST_F(ServiceTest, LookupHoldsWhatItReports) {
  // Room for four such pieces, of which one tenant may hold one.
  Start({}, 32 * kMiB);
  const auto channel = Connect();
  const PieceShape shape{.segment_bytes = 7 * kMiB};
  Store(*channel, KeyNumber(1), shape);
  v1::LookupRequest request;
  request.add_keys(Bytes(KeyNumber(1)));
  request.set_hold_ms(UINT32_MAX);
  request.set_hold_level(15);
  EXPECT_EQ(Ask<v1::LookupReply>(*channel, v1::LOOKUP, request).held_ms(), 60'000u);
  for (uint32_t i = 2; i < 10; ++i) Store(*channel, KeyNumber(i), shape);
  request.set_hold_ms(0);
  EXPECT_NE(Ask<v1::LookupReply>(*channel, v1::LOOKUP, request).pieces(0).content_id(), "");
  // A hold of what is absent holds nothing.
  v1::LookupRequest absent;
  absent.add_keys(Bytes(KeyNumber(99)));
  absent.set_hold_ms(1000);
  EXPECT_EQ(Ask<v1::LookupReply>(*channel, v1::LOOKUP, absent).held_ms(), 0u);
}

TEST_F(ServiceTest, LookupRefusesWhatIsHostile) {
  const auto channel = Connect();
  EXPECT_EQ(Run(*channel, v1::LOOKUP, "\xff").status.code(), absl::StatusCode::kInvalidArgument);
  v1::LookupRequest request;
  for (uint32_t i = 0; i < 4096; ++i) request.add_keys(Bytes(KeyNumber(i)));
  EXPECT_EQ(Ask<v1::LookupReply>(*channel, v1::LOOKUP, request).pieces_size(), 4096);
  request.add_keys(Bytes(KeyNumber(5000)));
  EXPECT_EQ(Run(*channel, v1::LOOKUP, request.SerializeAsString()).status.code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Run(*channel, v1::LOOKUP, std::string(kMaxRequestBytes + 1, '\0')).status.code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ServiceTest, StatDropsADamagedPieceOnceItIsAsked) {
  const auto channel = Connect();
  Store(*channel, KeyNumber(1), {.layers = 3});
  v1::StatRequest request;
  request.set_key(Bytes(KeyNumber(1)));
  request.set_verify(true);
  auto reply = Ask<v1::StatReply>(*channel, v1::STAT, request);
  EXPECT_FALSE(reply.dropped_as_corrupt());
  EXPECT_EQ(reply.info().planes_held(), 1u);
  EXPECT_FALSE(reply.meta().empty());

  // Flips one bit of the last segment, in the store's own memory.
  const storage::PieceRef piece = pieces_->Peek(1, KeyNumber(1));
  const ByteSpan body = piece->body();
  const auto offset = static_cast<size_t>(body.data() + body.size() - 1 - pieces_->arena().data());
  pieces_->arena()[offset] ^= std::byte{0x10};
  reply = Ask<v1::StatReply>(*channel, v1::STAT, request);
  EXPECT_TRUE(reply.dropped_as_corrupt());
  EXPECT_EQ(reply.info().content_id(), "");
  EXPECT_EQ(pieces_->Peek(1, KeyNumber(1)), nullptr);
  EXPECT_TRUE(HasMetric("reprise_store_corrupt_pieces_total 1"));
  reply = Ask<v1::StatReply>(*channel, v1::STAT, request);
  EXPECT_FALSE(reply.dropped_as_corrupt());
  EXPECT_EQ(reply.info().content_id(), "");
}

TEST_F(ServiceTest, StatFindsDamageInTheHeaderToo) {
  const auto channel = Connect();
  Store(*channel, KeyNumber(1));
  const storage::PieceRef piece = pieces_->Peek(1, KeyNumber(1));
  v1::StatRequest request;
  request.set_key(Bytes(KeyNumber(1)));
  request.set_verify(true);
  const auto offset = static_cast<size_t>(piece->meta_bytes().data() - pieces_->arena().data());
  pieces_->arena()[offset + 50] ^= std::byte{1};
  EXPECT_TRUE(Ask<v1::StatReply>(*channel, v1::STAT, request).dropped_as_corrupt());
}

TEST_F(ServiceTest, ListPagesInOrderAndByNamespace) {
  const auto channel = Connect();
  const Digest fingerprint = Sha256::Of(AsBytes("some namespace"));
  for (uint32_t i : {5u, 1u, 4u, 2u, 3u}) {
    Store(*channel, KeyNumber(i), {}, i % 2 == 0 ? fingerprint : Digest{});
  }
  v1::ListRequest request;
  request.set_limit(2);
  std::vector<std::string> keys;
  bool more = true;
  while (more) {
    const auto reply = Ask<v1::ListReply>(*channel, v1::LIST, request);
    for (const auto& entry : reply.entries()) keys.push_back(entry.key());
    more = reply.more();
    ASSERT_GT(reply.entries_size(), 0);
    request.set_after(keys.back());
  }
  std::vector<std::string> expected;
  for (uint32_t i = 1; i <= 5; ++i) expected.push_back(Bytes(KeyNumber(i)));
  EXPECT_EQ(keys, expected);

  v1::ListRequest even;
  even.set_namespace_fingerprint(std::string(fingerprint.AsString()));
  const auto reply = Ask<v1::ListReply>(*channel, v1::LIST, even);
  ASSERT_EQ(reply.entries_size(), 2);
  EXPECT_EQ(reply.entries(1).key(), Bytes(KeyNumber(4)));
  EXPECT_EQ(reply.entries(1).namespace_fingerprint(), fingerprint.AsString());

  even.set_namespace_fingerprint("short");
  EXPECT_EQ(Run(*channel, v1::LIST, even.SerializeAsString()).status.code(),
            absl::StatusCode::kInvalidArgument);
  v1::ListRequest large;
  large.set_limit(1025);
  EXPECT_EQ(Run(*channel, v1::LIST, large.SerializeAsString()).status.code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(ServiceTest, RemoveByKeyAndByNamespace) {
  const auto channel = Connect();
  const Digest fingerprint = Sha256::Of(AsBytes("some namespace"));
  for (uint32_t i = 1; i <= 4; ++i)
    Store(*channel, KeyNumber(i), {}, i <= 2 ? fingerprint : Digest{});
  v1::RemoveRequest both;
  EXPECT_EQ(Run(*channel, v1::REMOVE, both.SerializeAsString()).status.code(),
            absl::StatusCode::kInvalidArgument);
  v1::RemoveRequest keys;
  keys.add_keys(Bytes(KeyNumber(3)));
  keys.add_keys(Bytes(KeyNumber(9)));
  EXPECT_EQ(Ask<v1::RemoveReply>(*channel, v1::REMOVE, keys).removed(), 1u);
  // Nothing is removed when any key is malformed.
  keys.set_keys(0, Bytes(KeyNumber(4)));
  keys.set_keys(1, "short");
  EXPECT_EQ(Run(*channel, v1::REMOVE, keys.SerializeAsString()).status.code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_NE(pieces_->Peek(1, KeyNumber(4)), nullptr);
  v1::RemoveRequest whole;
  whole.set_namespace_fingerprint(std::string(fingerprint.AsString()));
  EXPECT_EQ(Ask<v1::RemoveReply>(*channel, v1::REMOVE, whole).removed(), 2u);
  EXPECT_TRUE(HasMetric("reprise_store_pieces 1"));
}

TEST_F(ServiceTest, TenantsSeeOnlyTheirOwn) {
  Start({.tenants = {{"search", "one"}, {"chat", "two"}}});
  const auto search = Connect("search", "one");
  const auto chat = Connect("chat", "two");
  const Key key = KeyNumber(1);
  Store(*search, key, {.seed = 1});

  v1::LookupRequest lookup;
  lookup.add_keys(Bytes(key));
  EXPECT_EQ(Ask<v1::LookupReply>(*chat, v1::LOOKUP, lookup).pieces(0).content_id(), "");
  v1::StatRequest stat;
  stat.set_key(Bytes(key));
  EXPECT_EQ(Ask<v1::StatReply>(*chat, v1::STAT, stat).meta(), "");
  EXPECT_EQ(Ask<v1::ListReply>(*chat, v1::LIST, v1::ListRequest()).entries_size(), 0);
  v1::RemoveRequest remove;
  remove.add_keys(Bytes(key));
  EXPECT_EQ(Ask<v1::RemoveReply>(*chat, v1::REMOVE, remove).removed(), 0u);
  v1::RemoveRequest whole;
  whole.set_namespace_fingerprint(std::string(32, '\0'));
  EXPECT_EQ(Ask<v1::RemoveReply>(*chat, v1::REMOVE, whole).removed(), 0u);
  v1::FetchRequest fetch;
  fetch.add_pieces()->set_key(Bytes(key));
  const CallResult fetched = Run(*chat, v1::FETCH, fetch.SerializeAsString());
  ASSERT_EQ(fetched.parts.size(), 1u);
  v1::FetchPart part;
  ASSERT_TRUE(part.ParseFromString(fetched.parts[0].message));
  EXPECT_EQ(part.miss(), v1::ABSENT);

  // The same key is another object for another tenant.
  Store(*chat, key, {.seed = 2});
  EXPECT_EQ(Ask<v1::ListReply>(*search, v1::LIST, v1::ListRequest()).entries_size(), 1);
  EXPECT_TRUE(HasMetric("reprise_store_pieces 2"));
}

TEST_F(ServiceTest, RequestsOverTheSessionsLimitAreRefused) {
  Start({.sessions = {.max_requests = 0}});
  const auto channel = Connect();
  EXPECT_EQ(Run(*channel, v1::LIST, "").status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(HasMetric("reprise_store_refused_requests_total 1"));
}

TEST_F(ServiceTest, AFullQueueRefuses) {
  Start({.queue_limit = 0});
  const auto channel = Connect();
  EXPECT_EQ(Run(*channel, v1::LOOKUP, "").status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Run(*channel, v1::LIST, "").status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(HasMetric("reprise_store_refused_requests_total 2"));
}

TEST_F(ServiceTest, BytesAreCountedByCarrier) {
  const auto channel = Connect();
  const auto container = Store(*channel, KeyNumber(1), {.segment_bytes = 100'000});
  const std::string text = service_->RenderMetrics();
  EXPECT_THAT(text, HasSubstr("reprise_store_bytes_in_total{carrier=\"ucx\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("reprise_store_bytes_in_total{carrier=\"loopback\"} 0\n")));
  EXPECT_THAT(text, HasSubstr("reprise_store_published_bytes_total " +
                              std::to_string(container.size()) + "\n"));
}

}  // namespace
}  // namespace reprise::store
