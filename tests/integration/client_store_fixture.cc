#include "tests/integration/client_store_fixture.h"

#include <optional>
#include <utility>

#include "proto/reprise.pb.h"

namespace reprise {
namespace {

constexpr storage::TenantId kFirstTenant = 1;

// OpenSession and Hello over loopback, as the network connector does over gRPC and UCX.
class LoopbackSessions final : public client::Connector {
 public:
  LoopbackSessions(transport::LoopbackServer& server, std::string tenant,
                   std::optional<transport::FaultPlan> plan)
      : server_(server), tenant_(std::move(tenant)), plan_(plan) {}

  absl::StatusOr<std::unique_ptr<transport::Channel>> Open(Deadline deadline) override {
    const auto door = server_.ConnectWithoutHello();
    v1::OpenSessionRequest request;
    request.set_tenant(tenant_);
    REPRISE_ASSIGN_OR_RETURN(const transport::UnaryReply answer,
                             transport::CallAndWait(*door, {.method = v1::OPEN_SESSION,
                                                            .message = request.SerializeAsString(),
                                                            .bulk = {},
                                                            .deadline = deadline}));
    v1::OpenSessionReply opened;
    if (!opened.ParseFromString(answer.message)) return absl::InternalError("OpenSession");
    v1::HelloRequest hello;
    hello.set_token(opened.token());
    hello.set_lowest_version(1);
    hello.set_highest_version(1);
    REPRISE_ASSIGN_OR_RETURN(transport::LoopbackConnection connection,
                             server_.Connect(hello.SerializeAsString()));
    if (!plan_) return std::move(connection.channel);
    // Another session meets other faults, but the same ones in every run.
    plan_->seed += 1'000'003;
    return std::make_unique<transport::FaultyChannel>(std::move(connection.channel), *plan_);
  }

 private:
  transport::LoopbackServer& server_;
  const std::string tenant_;
  std::optional<transport::FaultPlan> plan_;
};

std::unique_ptr<Client> MakeClient(std::unique_ptr<client::Connector> connector) {
  auto client = client::CreateClient(std::move(connector), ClientOptions{});
  EXPECT_TRUE(client.ok()) << client.status();
  return client.ok() ? *std::move(client) : nullptr;
}

MutableByteSpan Writable(const storage::HostStore& pieces, ByteSpan stored) {
  const MutableByteSpan arena = pieces.arena();
  return arena.subspan(static_cast<size_t>(stored.data() - arena.data()), stored.size());
}

}  // namespace

void ClientStoreTest::SetUp() {
  pieces_ = storage::HostStore::Create({.budget_bytes = 64 * kMiB}).value();
  store::StoreServiceOptions options;
  options.tenants = {{.name = "default", .credential = ""}, {.name = "other", .credential = ""}};
  service_ = store::StoreService::Create(*pieces_, std::move(options)).value();
  server_ = transport::LoopbackServer::Create(service_->Face("loopback"));
}

void ClientStoreTest::TearDown() {
  server_.reset();
  service_.reset();
}

std::unique_ptr<Client> ClientStoreTest::Connect(const std::string& tenant) {
  return MakeClient(std::make_unique<LoopbackSessions>(*server_, tenant, std::nullopt));
}

std::unique_ptr<Client> ClientStoreTest::ConnectFaulty(const transport::FaultPlan& plan) {
  return MakeClient(std::make_unique<LoopbackSessions>(*server_, "default", plan));
}

void ClientStoreTest::Publish(Client& client, const PrefixKeys& keys, uint32_t chunks,
                              uint32_t seed) {
  client::SampleTensors tensors(keys.name_space(), 0, chunks, client::Layout::kContiguous);
  tensors.Fill(seed);
  auto published = client.Publish(keys, chunks, tensors.views(), {}, Soon()).Wait();
  ASSERT_TRUE(published.ok()) << published.status();
  ASSERT_EQ(published->pieces_stored, chunks * keys.pieces_per_chunk());
}

MutableByteSpan ClientStoreTest::StoredMeta(const Key& key) {
  const storage::PieceRef piece = pieces_->Peek(kFirstTenant, key);
  return piece == nullptr ? MutableByteSpan{} : Writable(*pieces_, piece->meta_bytes());
}

MutableByteSpan ClientStoreTest::StoredBody(const Key& key) {
  const storage::PieceRef piece = pieces_->Peek(kFirstTenant, key);
  return piece == nullptr ? MutableByteSpan{} : Writable(*pieces_, piece->body());
}

}  // namespace reprise
