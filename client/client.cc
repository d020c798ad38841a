#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "client/connector.h"
#include "client/entry_points.h"
#include "client/operation.h"
#include "client/reprise.h"
#include "common/limits.h"

namespace reprise {

std::string_view TierName(Tier tier) {
  switch (tier) {
    case Tier::kGpu:
      return "gpu";
    case Tier::kHost:
      return "host";
    case Tier::kNvme:
      return "nvme";
    case Tier::kUnknown:
      break;
  }
  return "unknown";
}

namespace client {
namespace {

class ConnectedClient final : public Client {
 public:
  ConnectedClient(std::unique_ptr<Membership> membership, ConnectorOf connector_of,
                  const ClientOptions& options, const Clock& clock)
      : core_(std::move(membership), std::move(connector_of), options, clock) {}
  ~ConnectedClient() override { core_.operations.CancelAllAndWait(); }

  // Opens the first sessions; the error of the first store when there is none to be had.
  absl::Status Open() {
    const std::shared_ptr<const StoreSet> stores = core_.stores.Current();
    std::vector<Async<bool>> opening;
    for (Session* session : stores->sessions) {
      const Async<bool>::Source opened;
      opening.push_back(opened.future());
      session->Acquire(Deadline::After(core_.options.connect_timeout),
                       [opened](absl::StatusOr<ChannelRef> channel) {
                         const absl::Status status = channel.status();
                         // The reference goes before the client may.
                         if (channel.ok()) channel->reset();
                         if (status.ok()) {
                           opened.Complete(true);
                         } else {
                           opened.Complete(status);
                         }
                       });
    }
    absl::Status failure;
    bool open = false;
    for (Async<bool>& one : opening) {
      const absl::Status status = one.Wait().status();
      open = open || status.ok();
      if (failure.ok()) failure = status;
    }
    return open ? absl::OkStatus() : failure;
  }

  Async<LookupResult> Lookup(const PrefixKeys& keys, LookupOptions options,
                             Deadline deadline) override {
    return BeginLookup(core_, keys, options, deadline);
  }
  Async<PublishResult> Publish(const PrefixKeys& keys, uint32_t chunk_count,
                               std::vector<GroupViews> views, PublishOptions options,
                               Deadline deadline) override {
    return BeginPublish(core_, keys, chunk_count, std::move(views), options, deadline);
  }
  Async<LoadResult> Load(const PrefixKeys& keys, uint32_t first, uint32_t count,
                         std::vector<GroupViews> views, LoadOptions options,
                         Deadline deadline) override {
    return BeginLoad(core_, keys, first, count, std::move(views), options, deadline);
  }
  Async<PublishResult> PublishPiece(SharedBytes container, PieceOptions options,
                                    Deadline deadline) override {
    return BeginPublishPiece(core_, std::move(container), options, deadline);
  }
  Async<ObjectBytes> FetchPiece(const Key& key, std::optional<Digest> fingerprint, uint32_t level,
                                Deadline deadline) override {
    return BeginFetchPiece(core_, key, fingerprint, level, deadline);
  }
  Async<ObjectStat> Stat(const Key& key, bool verify, Deadline deadline) override {
    return BeginStat(core_, key, verify, deadline);
  }
  Async<ObjectPage> List(std::optional<Key> after, uint32_t limit,
                         std::optional<Digest> fingerprint, Deadline deadline) override {
    return BeginList(core_, after, limit, fingerprint, deadline);
  }
  Async<uint64_t> Remove(std::vector<Key> keys, Deadline deadline) override {
    return BeginRemove(core_, std::move(keys), deadline);
  }
  Async<uint64_t> RemoveNamespace(const Digest& fingerprint, Deadline deadline) override {
    return BeginRemoveNamespace(core_, fingerprint, deadline);
  }
  Async<uint64_t> Pin(std::vector<Key> keys, std::chrono::seconds time,
                      Deadline deadline) override {
    if (time.count() < 1 || time > kMaxPin) {
      return Refused<uint64_t>(absl::InvalidArgumentError(
          absl::StrCat("a pin for ", time.count(), " seconds; 1 to ",
                       std::chrono::seconds(kMaxPin).count(), " are allowed")));
    }
    return BeginPin(core_, keys, time, deadline);
  }
  Async<uint64_t> Unpin(std::vector<Key> keys, Deadline deadline) override {
    return BeginPin(core_, keys, std::chrono::seconds(0), deadline);
  }
  Async<uint64_t> Warm(std::vector<Key> keys, uint32_t level, Deadline deadline) override {
    return BeginWarm(core_, keys, level, deadline);
  }
  std::string_view carrier() const override { return core_.stores.carrier(); }
  ClientCounters counters() const override { return core_.counters.Read(); }

 private:
  Core core_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> CreateClient(std::unique_ptr<Membership> membership,
                                                     ConnectorOf connector_of,
                                                     const ClientOptions& options,
                                                     const Clock& clock) {
  if (options.receive_bytes < 2 * kMaxPartBytes || options.receive_bytes % kMaxPartBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("receive_bytes is ", options.receive_bytes,
                                                   "; it must be a multiple of ", kMaxPartBytes,
                                                   ", at least 2 of them"));
  }
  if (options.verify_threads == 0)
    return absl::InvalidArgumentError("verify_threads must be at least 1");
  if (options.encode_threads == 0)
    return absl::InvalidArgumentError("encode_threads must be at least 1");
  if (options.replicas == 0) return absl::InvalidArgumentError("replicas must be at least 1");
  auto client = std::make_unique<ConnectedClient>(std::move(membership), std::move(connector_of),
                                                  options, clock);
  REPRISE_RETURN_IF_ERROR(client->Open());
  return client;
}

absl::StatusOr<std::unique_ptr<Client>> CreateClient(std::unique_ptr<Connector> connector,
                                                     const ClientOptions& options,
                                                     const Clock& clock) {
  auto once = std::make_shared<std::unique_ptr<Connector>>(std::move(connector));
  return CreateClient(
      std::make_unique<StaticMembership>(View{.epoch = 0, .nodes = {{.id = "", .address = ""}}}),
      [once](const Node& /*node*/) { return std::move(*once); }, options, clock);
}

}  // namespace client
}  // namespace reprise
