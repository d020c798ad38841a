// Two stores in processes of their own, over UCX, of which one is killed while it is being read.

#include <signal.h>
#include <sys/types.h>

#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "client/placement.h"
#include "client/sample_tensors.h"
#include "services/cli/reprise_process.h"

namespace reprise {
namespace {

constexpr uint32_t kChunks = 40;  // two runs
constexpr int kKills = 100;
constexpr std::chrono::seconds kDeadline{30};

// 512 KiB a chunk in one piece: far more is on its way than the parts that a client has credit for.
Namespace BigNamespace() {
  Namespace name_space = client::LatentNamespace();
  name_space.chunk_tokens = 256;
  name_space.groups[0].key_dim = 1024;
  name_space.groups[0].layers = {0};
  name_space.groups[0].layers_per_piece = 1;
  name_space.groups[0].rope = {};
  return name_space;
}

class FanOutStoreTest : public ::testing::Test {
 protected:
  FanOutStoreTest() : keys_(client::SampleKeys(BigNamespace(), kChunks)) {
    for (std::unique_ptr<cli::RunningStore>& store : stores_) Start(store, "127.0.0.1:0");
    addresses_ = stores_[0]->grpc() + "," + stores_[1]->grpc();
  }

  static void Start(std::unique_ptr<cli::RunningStore>& store, const std::string& address) {
    store = std::make_unique<cli::RunningStore>(
        std::vector<std::string>{"--memory", "384MiB", "--listen", address});
    ASSERT_FALSE(store->grpc().empty());
  }

  std::unique_ptr<Client> Connect() {
    auto client = Client::Connect({.address = addresses_, .replicas = 2, .carrier = Carrier::kUcx});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
  }

  void Publish() {
    client::SampleTensors tensors(keys_.name_space(), 0, kChunks, client::Layout::kContiguous);
    tensors.Fill(9);
    auto published = Connect()
                         ->Publish(keys_, kChunks, tensors.views(), {.codec = CodecId::kRaw},
                                   Deadline::After(kDeadline))
                         .Wait();
    ASSERT_TRUE(published.ok()) << published.status();
    ASSERT_EQ(published->replicas, 2u);
  }

  const PrefixKeys keys_;
  std::unique_ptr<cli::RunningStore> stores_[2];
  std::string addresses_;
};

// The second half of "Must hold 6" of the data plane: 100 of 100.
TEST_F(FanOutStoreTest, AKilledReplicaIsReplacedInMidFetch) {
  const client::View view = client::ParseView(addresses_).value();
  const uint32_t victim = client::Placement(view, 2, keys_).OfChunk(0)[0];
  client::SampleTensors loaded(keys_.name_space(), 0, kChunks, client::Layout::kContiguous);
  for (int i = 0; i < kKills; ++i) {
    SCOPED_TRACE(i);
    Publish();
    const std::unique_ptr<Client> reader = Connect();
    const LookupResult hit = reader->Lookup(keys_, {}, Deadline::After(kDeadline)).Wait().value();
    ASSERT_EQ(hit.chunks, kChunks);
    loaded.Fill(static_cast<uint32_t>(100 + i));
    // Another moment each time, in the run of 32 chunks that the victim is asked for.
    const size_t moment = static_cast<size_t>(i) % 24;
    const pid_t pid = stores_[victim]->pid();
    const Deadline deadline = Deadline::After(kDeadline);
    const auto kill_then = [pid, moment](size_t selection, const SelectionResult& /*result*/) {
      if (selection == moment) kill(pid, SIGKILL);
    };
    auto result = reader
                      ->Load(keys_, 0, kChunks, loaded.views(),
                             {.expected = &hit, .observer = kill_then}, deadline)
                      .Wait();
    ASSERT_LT(Clock::Steady().Now(), deadline.at());
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_EQ(result->chunks, kChunks);
    ASSERT_TRUE(result->misses.empty());
    ASSERT_TRUE(loaded.Holds(9, 0, kChunks));
    ASSERT_TRUE(loaded.GuardsIntact());
    EXPECT_EQ(stores_[victim]->Stop(SIGKILL).exit_code, 128 + SIGKILL);
    Start(stores_[victim], view.nodes[victim].address);
  }
}

TEST_F(FanOutStoreTest, AStoppedReplicaIsReplacedWithinTheDeadline) {
  Publish();
  const client::View view = client::ParseView(addresses_).value();
  const cli::RunningStore& stopped = *stores_[client::Placement(view, 2, keys_).OfChunk(0)[0]];
  const std::unique_ptr<Client> reader = Connect();
  kill(stopped.pid(), SIGSTOP);
  const Deadline deadline = Deadline::After(std::chrono::seconds(10));
  client::SampleTensors loaded(keys_.name_space(), 0, kChunks, client::Layout::kContiguous);
  const auto result = reader->Load(keys_, 0, kChunks, loaded.views(), {}, deadline).Wait();
  EXPECT_LT(Clock::Steady().Now(), deadline.at());
  kill(stopped.pid(), SIGCONT);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->chunks, kChunks);
  EXPECT_TRUE(loaded.Holds(9, 0, kChunks));
}

TEST_F(FanOutStoreTest, TheCommandLineSpansStores) {
  const std::string bytes = cli::Pattern(100'000, 5);
  const cli::ScratchDir dir;
  const std::vector<std::string> to = {"--store", addresses_, "--replicas", "2"};
  const auto run = [&](std::vector<std::string> args) {
    args.insert(args.end(), to.begin(), to.end());
    return cli::RunReprise(args);
  };
  EXPECT_EQ(run({"put", "notes", dir.Write("notes", bytes)}).exit_code, 0);
  for (const auto& store : stores_) EXPECT_TRUE(store->Run({"get", "notes"}).out == bytes);
  stores_[0]->Stop(SIGKILL);
  EXPECT_TRUE(run({"get", "notes"}).out == bytes);
  EXPECT_EQ(cli::RunReprise({"get", "notes", "--store", "a:1,b"}).exit_code, 2);
}

}  // namespace
}  // namespace reprise
