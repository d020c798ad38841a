// A client that calls its store all the time, whatever becomes of it; tests/faults/run.py starts
// two of them, breaks what is between, and judges.
//
//   fault_client ADDRESS ucx|grpc SEED
//
// Says "ready", then a line for each call that has ended, until its standard input ends:
//
//   KIND BEGIN DEADLINE END OUTCOME BYTES WRONG
//
// in seconds of the monotonic clock, which all processes share. OUTCOME is a status code, or
// miss:REASON. BYTES were loaded or sent; WRONG is 1 when they are not those that were published.
// KIND is lookup, load, publish or connect; `close` is the end of what connect opened, which has no
// deadline; `timer` is no call but a thread that only waits for a moment: its lateness is the
// machine's.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "client/reprise.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/mutex.h"

namespace reprise {
namespace {

using std::chrono::milliseconds;

constexpr uint32_t kChunks = 4;
constexpr uint32_t kChunkTokens = 256;
constexpr uint32_t kHeads = 8;
constexpr uint32_t kDims = 64;
constexpr size_t kChunkBytes = size_t{kChunkTokens} * kHeads * kDims * 2;  // of K, and of V
constexpr milliseconds kShortest{200};
constexpr milliseconds kLongest{3'000};
// Lookups and loads are of one of so many prefixes that were published last.
constexpr size_t kRemembered = 8;

double Seconds(TimePoint at) {
  return std::chrono::duration<double>(at.time_since_epoch()).count();
}

TimePoint Now() { return Clock::Steady().Now(); }

// What became of one call, for its line.
struct Outcome {
  std::string word = "OK";
  uint64_t bytes = 0;
  bool wrong = false;
};

std::string WordOf(const absl::Status& status) {
  return std::string(absl::StatusCodeToString(status.code()));
}

std::string WordOf(const Miss& miss) { return "miss:" + std::string(MissReasonName(miss.reason)); }

// K and V of a whole prefix.
struct Tensors {
  Tensors() : key(kChunks * kChunkBytes), value(kChunks * kChunkBytes) {}

  GroupViews views() {
    const auto view = [](std::vector<std::byte>& memory) {
      TensorView result;
      result.data = memory.data();
      result.dtype = Dtype::kBf16;
      result.shape = {1, kChunks * kChunkTokens, kHeads, kDims};
      result.stride_bytes = {static_cast<int64_t>(memory.size()), kHeads * kDims * 2, kDims * 2};
      return result;
    };
    return {view(key), view(value)};
  }

  std::vector<std::byte> key;
  std::vector<std::byte> value;
};

// Calls `visit` with the offset and the value of each word of a tensor's first `bytes`.
template <typename Visit>
void EachWord(uint64_t seed, size_t bytes, Visit visit) {
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (size_t at = 0; at < bytes; at += sizeof(state)) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    visit(at, state);
  }
}

void Fill(std::vector<std::byte>& tensor, uint64_t seed) {
  EachWord(seed, tensor.size(),
           [&](size_t at, uint64_t word) { std::memcpy(&tensor[at], &word, sizeof(word)); });
}

bool Holds(const std::vector<std::byte>& tensor, uint64_t seed, size_t bytes) {
  bool same = true;
  EachWord(seed, bytes, [&](size_t at, uint64_t word) {
    same = same && std::memcmp(&tensor[at], &word, sizeof(word)) == 0;
  });
  return same;
}

class FaultClient {
 public:
  FaultClient(ClientOptions options, uint32_t seed) : options_(std::move(options)), seed_(seed) {
    LayerGroup group;
    group.layers = {0};
    group.kv_heads = kHeads;
    group.key_dim = kDims;
    group.value_dim = kDims;
    group.layers_per_piece = 1;
    group.heads_per_piece = kHeads;
    name_space_.model = "tests/faults";
    name_space_.kv_dtype = Dtype::kBf16;
    name_space_.chunk_tokens = kChunkTokens;
    name_space_.groups = {group};
  }

  absl::Status Connect() {
    auto client = Client::Connect(options_);
    if (client.ok()) client_ = *std::move(client);
    return client.status();
  }

  void Run() {
    std::vector<std::thread> threads;
    threads.emplace_back([this] { Repeat(milliseconds(20), &FaultClient::Publish); });
    threads.emplace_back([this] { Repeat(milliseconds(20), &FaultClient::Publish); });
    threads.emplace_back([this] { Repeat(milliseconds(5), &FaultClient::Load); });
    threads.emplace_back([this] { Repeat(milliseconds(5), &FaultClient::Load); });
    threads.emplace_back([this] { Repeat(milliseconds(10), &FaultClient::Lookup); });
    threads.emplace_back([this] { Repeat(milliseconds(100), &FaultClient::Open); });
    threads.emplace_back([this] { Repeat(milliseconds(5), &FaultClient::WaitOnly); });
    for (char byte = 0; read(STDIN_FILENO, &byte, 1) > 0;) {
    }
    {
      MutexLock lock(mutex_);
      ended_ = true;
      end_.notify_all();
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  struct Worker {
    std::minstd_rand random;
    Tensors tensors;

    milliseconds Draw(milliseconds from, milliseconds to) {
      return milliseconds(std::uniform_int_distribution<int64_t>(from.count(), to.count())(random));
    }
  };
  using Work = void (FaultClient::*)(Worker& worker, milliseconds timeout);

  void Repeat(milliseconds longest_pause, Work work) {
    Worker worker{.random = std::minstd_rand(seed_ + ++workers_), .tensors = {}};
    while (!EndsWithin(worker.Draw(milliseconds(0), longest_pause))) {
      (this->*work)(worker, worker.Draw(kShortest, kLongest));
    }
  }

  bool EndsWithin(milliseconds pause) {
    const TimePoint until = Now() + pause;
    MutexLock lock(mutex_);
    while (!ended_ && end_.wait_until(mutex_, until) != std::cv_status::timeout) {
    }
    return ended_;
  }

  // The call's line. `end` is when the caller went on.
  static void Report(const char* kind, TimePoint begin, Deadline deadline, TimePoint end,
                     const Outcome& outcome) {
    std::printf("%s %.6f %.6f %.6f %s %llu %d\n", kind, Seconds(begin), Seconds(deadline.at()),
                Seconds(end), outcome.word.c_str(), static_cast<unsigned long long>(outcome.bytes),
                outcome.wrong ? 1 : 0);
  }

  PrefixKeys KeysOf(uint32_t prefix) const {
    std::vector<uint32_t> tokens(kChunks * kChunkTokens, prefix);
    tokens[0] = seed_;
    auto keys = PrefixKeys::Create(name_space_, "", tokens);
    if (!keys.ok()) std::abort();
    return *std::move(keys);
  }

  uint64_t ContentOf(uint32_t prefix) const { return 2 * (uint64_t{seed_} << 32 | prefix); }

  uint32_t SomePrefix(Worker& worker) {
    MutexLock lock(mutex_);
    if (recent_.empty()) return 0;
    return recent_[std::uniform_int_distribution<size_t>(0, recent_.size() - 1)(worker.random)];
  }

  void Publish(Worker& worker, milliseconds timeout) {
    const uint32_t prefix = ++prefixes_;
    Fill(worker.tensors.key, ContentOf(prefix));
    Fill(worker.tensors.value, ContentOf(prefix) + 1);
    const PrefixKeys keys = KeysOf(prefix);
    const TimePoint begin = Now();
    const Deadline deadline(begin + timeout);
    const auto published =
        client_
            ->Publish(keys, kChunks, {worker.tensors.views()}, {.codec = CodecId::kRaw}, deadline)
            .Wait();
    const TimePoint end = Now();
    Outcome outcome{.word = WordOf(published.status())};
    if (published.ok()) outcome.bytes = published->bytes_sent;
    Report("publish", begin, deadline, end, outcome);
    // Also one that failed: what the store has of it must be right.
    MutexLock lock(mutex_);
    recent_.push_back(prefix);
    if (recent_.size() > kRemembered) recent_.pop_front();
  }

  void Load(Worker& worker, milliseconds timeout) {
    const uint32_t prefix = SomePrefix(worker);
    const PrefixKeys keys = KeysOf(prefix);
    const TimePoint begin = Now();
    const Deadline deadline(begin + timeout);
    const auto loaded =
        client_->Load(keys, 0, kChunks, {worker.tensors.views()}, {}, deadline).Wait();
    const TimePoint end = Now();
    Outcome outcome{.word = WordOf(loaded.status())};
    if (loaded.ok()) {
      const size_t bytes = loaded->chunks * kChunkBytes;
      outcome.bytes = 2 * bytes;
      outcome.wrong = !Holds(worker.tensors.key, ContentOf(prefix), bytes) ||
                      !Holds(worker.tensors.value, ContentOf(prefix) + 1, bytes);
      if (!loaded->misses.empty()) outcome.word = WordOf(loaded->misses.front());
    }
    Report("load", begin, deadline, end, outcome);
  }

  void Lookup(Worker& worker, milliseconds timeout) {
    const PrefixKeys keys = KeysOf(SomePrefix(worker));
    const TimePoint begin = Now();
    const Deadline deadline(begin + timeout);
    const auto found = client_->Lookup(keys, {}, deadline).Wait();
    const TimePoint end = Now();
    Outcome outcome{.word = WordOf(found.status())};
    if (found.ok() && found->miss.has_value()) outcome.word = WordOf(*found->miss);
    Report("lookup", begin, deadline, end, outcome);
  }

  void Open(Worker& /*worker*/, milliseconds timeout) {
    ClientOptions options = options_;
    options.connect_timeout = timeout;
    const TimePoint begin = Now();
    auto client = Client::Connect(options);
    const TimePoint end = Now();
    Report("connect", begin, Deadline(begin + timeout), end, {.word = WordOf(client.status())});
    if (!client.ok()) return;
    client->reset();
    Report("close", end, Deadline(end), Now(), {});
  }

  void WaitOnly(Worker& worker, milliseconds /*timeout*/) {
    const TimePoint begin = Now();
    const Deadline deadline(begin + worker.Draw(milliseconds(20), kShortest));
    MutexLock lock(never_mutex_);
    while (!deadline.PassedAt(Now())) never_.wait_until(never_mutex_, deadline.at());
    Report("timer", begin, deadline, Now(), {});
  }

  const ClientOptions options_;
  const uint32_t seed_;
  Namespace name_space_;
  std::unique_ptr<Client> client_;
  std::atomic<uint32_t> workers_{0};
  std::atomic<uint32_t> prefixes_{0};
  Mutex mutex_;
  CondVar end_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<uint32_t> recent_ ABSL_GUARDED_BY(mutex_);
  Mutex never_mutex_;
  CondVar never_;
};

int Run(const std::vector<std::string>& args) {
  if (args.size() != 3) {
    std::fprintf(stderr, "usage: fault_client ADDRESS ucx|grpc SEED\n");
    return 2;
  }
  ClientOptions options;
  options.address = args[0];
  options.carrier = args[1] == "grpc" ? Carrier::kGrpc : Carrier::kUcx;
  options.receive_bytes = 2 * kMaxPartBytes;
  setvbuf(stdout, nullptr, _IOLBF, 1 << 16);
  FaultClient client(options, static_cast<uint32_t>(std::stoul(args[2])));
  if (const absl::Status connected = client.Connect(); !connected.ok()) {
    std::fprintf(stderr, "fault_client: %s\n", connected.ToString().c_str());
    return 1;
  }
  std::puts("ready");
  client.Run();
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Run({argv + 1, argv + argc}); }
