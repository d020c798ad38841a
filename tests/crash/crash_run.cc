#include "tests/crash/crash_run.h"

#include <signal.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "client/reprise.h"
#include "common/limits.h"
#include "common/mutex.h"
#include "services/cli/reprise_process.h"
#include "storage/testing/test_piece.h"
#include "tests/crash/expected_pieces.h"

namespace reprise::crash {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr size_t kMaxProblems = 10;

Deadline Soon() { return Deadline::After(seconds(20)); }

std::unique_ptr<Client> ConnectTo(const std::string& address) {
  auto client = Client::Connect({.address = address, .receive_bytes = 2 * kMaxPartBytes});
  return client.ok() ? *std::move(client) : nullptr;
}

class CrashRun {
 public:
  explicit CrashRun(const CrashOptions& options) : options_(options), random_(options.seed) {
    for (uint32_t i = 0; i < options.keys; ++i) pieces_.emplace_back(i);
  }

  CrashReport Run() {
    for (uint32_t cycle = 0; cycle < options_.cycles; ++cycle) {
      const auto begin = std::chrono::steady_clock::now();
      // Little memory, so that most of what is read comes from the disk; and a disk that holds all
      // of it, so that nothing has to go.
      cli::RunningStore store({"--memory", "400MiB", "--data", "off", "--disk", options_.directory,
                               "--disk-size", "4GiB", "--log-level", "error"});
      if (store.grpc().empty()) return Stop("the store did not start");
      auto client = ConnectTo(store.grpc());
      if (client == nullptr || !client->Stat(pieces_[0].key(), false, Soon()).Wait().ok()) {
        return Stop("the store did not answer");
      }
      if (cycle > 0) {
        report_.restarts.push_back(
            std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin));
        ReadEverything(*client);
      }
      client.reset();
      LoadAndKill(store);
      ++report_.cycles;
    }
    return std::move(report_);
  }

 private:
  CrashReport Stop(const std::string& problem) {
    Problem(problem);
    return std::move(report_);
  }

  void Problem(const std::string& line) {
    if (report_.problems.size() < kMaxProblems) report_.problems.push_back(line);
  }

  void ReadEverything(Client& client) {
    for (const ExpectedPiece& piece : pieces_) {
      if (piece.latest() == nullptr) continue;
      const auto bytes =
          client.FetchPiece(piece.key(), std::nullopt, kMaxPlanes - 1, Soon()).Wait();
      const std::string name = "key " + piece.key().digest.Hex();
      if (!bytes.ok()) {
        Problem(name + ": " + std::string(bytes.status().message()));
        ++report_.lost;
      } else if (!bytes->miss.has_value()) {
        const std::string wrong = piece.Judge(bytes->container);
        ++report_.pieces_read;
        report_.durable_read += piece.is_durable() ? 1 : 0;
        if (!wrong.empty()) {
          Problem(name + ": " + wrong);
          ++report_.wrong;
        }
      } else if (piece.is_durable()) {
        Problem(name + " was durable and is gone: " + bytes->miss->detail);
        ++report_.lost;
      }
    }
  }

  void LoadAndKill(cli::RunningStore& store) {
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    loading_ = options_.threads;
    for (uint32_t i = 0; i < options_.threads; ++i) {
      threads.emplace_back([this, i, seed = random_(), address = store.grpc(), &stop] {
        Load(i, seed, address, stop);
        MutexLock lock(mutex_);
        --loading_;
        load_ended_.notify_all();
      });
    }
    const auto longest = static_cast<uint64_t>(options_.longest_load.count());
    {
      // Or earlier, when the store has ended by itself and so has the load.
      MutexLock lock(mutex_);
      const TimePoint end = Clock::Steady().Now() + milliseconds(1 + random_() % longest);
      while (loading_ > 0 && Clock::Steady().Now() < end) load_ended_.wait_until(mutex_, end);
      if (loading_ == 0) Problem("the load ended before the kill");
    }
    store.Stop(SIGKILL);
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
  }

  void Load(uint32_t thread, uint64_t seed, const std::string& address,
            const std::atomic<bool>& stop) {
    std::mt19937_64 random(seed);
    const auto client = ConnectTo(address);
    if (client == nullptr) return;  // it was killed before that
    while (!stop.load()) {
      const size_t own = random() % (pieces_.size() / options_.threads);
      ExpectedPiece& piece = pieces_[own * options_.threads + thread];
      const bool works = random() % 10 == 0  ? Remove(*client, piece)
                         : random() % 4 == 0 ? Read(*client, piece)
                                             : Publish(*client, piece, random());
      if (!works) return;
    }
  }

  bool Remove(Client& client, ExpectedPiece& piece) {
    piece.MayBeGone();
    return client.Remove({piece.key()}, Soon()).Wait().ok();
  }

  bool Read(Client& client, const ExpectedPiece& piece) {
    const auto bytes = client.FetchPiece(piece.key(), std::nullopt, kMaxPlanes - 1, Soon()).Wait();
    if (!bytes.ok() || bytes->miss.has_value()) return bytes.ok();
    const std::string wrong = piece.Judge(bytes->container);
    if (wrong.empty()) return true;
    MutexLock lock(mutex_);
    Problem("key " + piece.key().digest.Hex() + ", before the kill: " + wrong);
    ++report_.wrong;
    return true;
  }

  bool Publish(Client& client, ExpectedPiece& piece, uint64_t random) {
    // The rest of what was published in part, or something new.
    const bool goes_on = piece.latest() != nullptr && random % 3 == 0;
    const Version version = goes_on ? *piece.latest() : piece.AddVersion(random >> 8);
    const std::vector<std::byte> whole = piece.Container(version);
    const uint32_t planes =
        goes_on ? version.planes : 1 + static_cast<uint32_t>((random >> 4) % version.planes);
    const bool durable = random % 2 == 0;
    const ByteSpan container = ExpectedPiece::Cut(whole, planes);
    const auto result =
        client.PublishPiece(SharedBytes::CopyOf(container), {.durable = durable}, Soon()).Wait();
    if (!result.ok()) return absl::IsResourceExhausted(result.status());
    if (durable) piece.Durable(storage::OfferOf(piece.key(), container).quality);
    MutexLock lock(mutex_);
    ++report_.publishes;
    report_.durable_publishes += durable ? 1 : 0;
    return true;
  }

  const CrashOptions options_;
  std::mt19937_64 random_;
  std::vector<ExpectedPiece> pieces_;
  Mutex mutex_;  // for the report, while threads run
  CrashReport report_;
  uint32_t loading_ = 0;  // threads
  CondVar load_ended_;
};

}  // namespace

CrashReport RunCrashes(const CrashOptions& options) { return CrashRun(options).Run(); }

}  // namespace reprise::crash
