// A store as its operator sees it: configuration, health, metrics, memory, signals.

#include <signal.h>

#include <regex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

double Metric(const std::string& text, const std::string& series) {
  const size_t at = ("\n" + text).find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size()));
}

TEST(CliStore, BothSignalsEndItCleanly) {
  for (const int signal : {SIGTERM, SIGINT}) {
    RunningStore store({"--memory", "512MiB"});
    ASSERT_EQ(store.Run({"ls"}).exit_code, kExitOk);
    const RunningStore::Stopped stopped = store.Stop(signal);
    EXPECT_EQ(stopped.exit_code, 0);
    EXPECT_LT(stopped.took, std::chrono::seconds(5));
  }
}

TEST(CliStore, HealthAndMetrics) {
  const ScratchDir scratch;
  const RunningStore store({"--memory", "512MiB"});
  EXPECT_EQ(store.Http("/healthz"), "ok\n");
  EXPECT_EQ(store.Http("/readyz"), "ready\n");
  EXPECT_EQ(store.Http("/metrics", "POST"), "only GET and HEAD are allowed here\n");
  ASSERT_EQ(store.Run({"put", "x", scratch.Write("x", Pattern(100'000, 1)), "--carrier", "ucx"})
                .exit_code,
            kExitOk);
  ASSERT_EQ(store.Run({"get", "x", "--carrier", "grpc"}).exit_code, kExitOk);
  const std::string metrics = store.Http("/metrics");
  EXPECT_EQ(Metric(metrics, "reprise_store_pieces"), 1);
  EXPECT_GT(Metric(metrics, "reprise_store_bytes_in_total{carrier=\"ucx\"}"), 100'000);
  EXPECT_GT(Metric(metrics, "reprise_store_bytes_out_total{carrier=\"grpc\"}"), 100'000);
  EXPECT_LT(Metric(metrics, "reprise_store_bytes_out_total{carrier=\"ucx\"}"), 100'000);
  EXPECT_EQ(Metric(metrics, "reprise_store_requests_total{code=\"OK\",method=\"Fetch\"}"), 1);
}

TEST(CliStore, ClientsOnItsHostReadItsMemoryOnlyWhereItWasTold) {
  constexpr uint32_t kSize = 64 << 20;
  const ScratchDir scratch;
  const std::string file = scratch.Write("x", Pattern(kSize, 1));
  for (const bool same_host : {false, true}) {
    SCOPED_TRACE(same_host);
    std::vector<std::string> flags{"--memory", "512MiB"};
    if (same_host) flags.emplace_back("--same-host");
    const RunningStore store(std::move(flags));
    ASSERT_EQ(store.Run({"put", "x", file}).exit_code, kExitOk);
    const Finished get = store.Run({"get", "x", "--carrier", "ucx"});
    EXPECT_EQ(get.err, "");
    EXPECT_TRUE(get.out == ReadWhole(file));
    const std::string metrics = store.Http("/metrics");
    EXPECT_GE(Metric(metrics, "reprise_store_bytes_out_total{carrier=\"ucx\"}"), double{kSize});
    EXPECT_EQ(Metric(metrics, "reprise_store_same_host_bytes_total"),
              same_host ? double{kSize} : 0);
  }
}

TEST(CliStore, FlagsWinOverTheFileAndPathsCanBeSwitchedOff) {
  const ScratchDir scratch;
  const std::string config = scratch.Write(
      "store.yaml",
      "listen: 127.0.0.1:1\nmetrics: off\ndata: off\nmemory: 512MiB\nlog_level: off\n");
  RunningStore store({"--config", config, "--listen", "127.0.0.1:0", "--metrics", "off"});
  EXPECT_EQ(store.data(), "off");
  EXPECT_EQ(store.metrics(), "off");
  EXPECT_THAT(store.grpc(), Not(HasSubstr(":1\n")));
  const Finished list = store.Run({"ls", "--carrier", "auto"});
  EXPECT_EQ(list.exit_code, kExitOk) << list.err;
  EXPECT_EQ(store.Run({"ls", "--carrier", "ucx"}).exit_code, kExitError);
}

TEST(CliStore, TenantsNeedTheirCredentialAndSeeOnlyTheirOwn) {
  const ScratchDir scratch;
  const std::string search_key = scratch.Write("search.key", "one\n");
  const std::string chat_key = scratch.Write("chat.key", "two\n");
  const std::string config = scratch.Write(
      "store.yaml", "memory: 512MiB\ntenants:\n  - name: search\n    credential_file: " +
                        search_key + "\n  - name: chat\n    credential: two\n");
  const RunningStore store({"--config", config});
  ASSERT_NE(store.grpc(), "");
  const std::vector<std::string> search{"--tenant", "search", "--credential-file", search_key};
  const std::vector<std::string> chat{"--tenant", "chat", "--credential-file", chat_key};
  const auto run = [&](std::vector<std::string> args, const std::vector<std::string>& who) {
    args.insert(args.end(), who.begin(), who.end());
    return store.Run(args);
  };
  const std::string file = scratch.Write("x", "private");
  ASSERT_EQ(run({"put", "x", file}, search).exit_code, kExitOk);
  const std::string key = run({"ls"}, search).out.substr(0, 64);
  EXPECT_EQ(run({"get", "x"}, search).out, "private");
  // Not even with the key.
  EXPECT_EQ(run({"get", "x"}, chat).exit_code, kExitMiss);
  EXPECT_EQ(run({"get", "--key", key}, chat).exit_code, kExitMiss);
  EXPECT_EQ(run({"ls"}, chat).out, "");
  EXPECT_EQ(run({"rm", "--key", key}, chat).exit_code, kExitMiss);
  EXPECT_EQ(run({"ls"}, {"--tenant", "search", "--credential-file", chat_key}).exit_code,
            kExitError);
  EXPECT_EQ(run({"ls"}, {}).exit_code, kExitError);
}

#ifndef REPRISE_SANITIZED
TEST(CliStore, MemoryStaysBelowItsLimitUnderLoad) {
  constexpr int kPieces = 64;
  const ScratchDir scratch;
  const RunningStore store({"--memory", "320MiB"});
  ASSERT_NE(store.grpc(), "");
  // 8 MiB each: several times what fits, published and fetched by four clients at once, over both
  // carriers.
  std::vector<std::string> files;
  for (uint32_t i = 0; i < 4; ++i) {
    files.push_back(scratch.Write("in" + std::to_string(i), Pattern(8 << 20, i)));
  }
  std::vector<std::thread> clients;
  clients.reserve(4);
  std::atomic<int> stored{0};
  std::atomic<int> same{0};
  for (int client = 0; client < 4; ++client) {
    clients.emplace_back([&, client] {
      for (int i = client; i < kPieces; i += 4) {
        const std::string name = "load" + std::to_string(i);
        const std::string carrier = i % 8 < 4 ? "ucx" : "grpc";
        const std::string& file = files[static_cast<size_t>(client)];
        stored += store.Run({"put", name, file, "--carrier", carrier}).exit_code == kExitOk ? 1 : 0;
        const Finished get = store.Run({"get", name, "--carrier", carrier});
        same += get.exit_code == kExitOk && get.out == ReadWhole(file) ? 1 : 0;
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(stored.load(), kPieces);
  EXPECT_GT(same.load(), kPieces / 2);
  const std::string metrics = store.Http("/metrics");
  EXPECT_GT(Metric(metrics, "reprise_store_evicted_pieces_total"), kPieces / 2);
  EXPECT_LE(Metric(metrics, "reprise_store_bytes_used"),
            Metric(metrics, "reprise_store_bytes_budget"));
  const int64_t peak_kb = store.StatusKb("VmHWM");
  RecordProperty("peak_kb", static_cast<int>(peak_kb));
  EXPECT_GT(peak_kb, 50 * 1024);
  EXPECT_LT(peak_kb, 320 * 1024);
}
#endif

}  // namespace
}  // namespace reprise::cli
