#include "bench/crowd/publish_load.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"

#include "codec/codec.h"
#include "common/bytes.h"
#include "common/mutex.h"
#include "common/sha256.h"

namespace reprise {
namespace {

constexpr std::chrono::seconds kTimeout{5};
constexpr std::chrono::milliseconds kLook{50};
// Fetches are of one of so many that were stored last.
constexpr size_t kRemembered = 256;

struct Counts {
  std::atomic<uint64_t> stored = 0;
  std::atomic<uint64_t> refused = 0;
  std::atomic<uint64_t> late = 0;
  std::atomic<uint64_t> dropped = 0;
  std::atomic<uint64_t> fetched = 0;
  std::atomic<uint64_t> missed = 0;
  std::atomic<uint64_t> wrong = 0;

  void Count(const absl::Status& status) {
    if (absl::IsResourceExhausted(status)) {
      ++refused;
    } else if (absl::IsDeadlineExceeded(status)) {
      ++late;
    } else {
      std::fprintf(stderr, "crowd_client: %s\n", status.ToString().c_str());
      std::_Exit(1);
    }
  }

  void Print() const {
    std::printf(
        "{\"stored\": %llu, \"refused\": %llu, \"late\": %llu, \"dropped\": %llu, "
        "\"fetched\": %llu, \"missed\": %llu, \"wrong\": %llu}\n",
        Number(stored), Number(refused), Number(late), Number(dropped), Number(fetched),
        Number(missed), Number(wrong));
    std::fflush(stdout);
  }

 private:
  static unsigned long long Number(const std::atomic<uint64_t>& count) { return count; }
};

class Publishers {
 public:
  Publishers(Client& client, const PublishLoad& load, const std::atomic<bool>& ended)
      : client_(client), load_(load), ended_(ended), content_(load.piece_bytes) {
    std::ranges::generate(content_, [this] { return static_cast<std::byte>(random_()); });
    next_due_ = Clock::Steady().Now();
  }

  void Run() {
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < load_.at_once; ++i) {
      threads.emplace_back([this] {
        while (AwaitTurn()) PublishAndFetch();
      });
    }
    TimePoint report = Clock::Steady().Now();
    while (!ended_) {
      report += std::chrono::seconds(1);
      while (!ended_ && Clock::Steady().Now() < report) Pause(kLook);
      counts_.Print();
    }
    for (std::thread& thread : threads) thread.join();
    counts_.Print();
  }

 private:
  // Until the next piece is due. False when the load has ended.
  bool AwaitTurn() {
    if (load_.per_second == 0) return !ended_;
    TimePoint due;
    {
      MutexLock lock(mutex_);
      const auto interval =
          std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1 / load_.per_second));
      // Nobody was free for what was due longer ago than the next.
      while (next_due_ + interval < Clock::Steady().Now()) {
        next_due_ += interval;
        ++counts_.dropped;
      }
      due = next_due_;
      next_due_ += interval;
    }
    while (!ended_ && Clock::Steady().Now() < due) Pause(due - Clock::Steady().Now());
    return !ended_;
  }

  void PublishAndFetch() {
    const uint64_t number = next_number_++;
    const Key key = KeyOf(number);
    const auto container = std::make_shared<const std::vector<std::byte>>(Container(key, number));
    const absl::StatusOr<PublishResult> published =
        client_.PublishPiece(SharedBytes(*container, container), {}, Deadline::After(kTimeout))
            .Wait();
    if (!published.ok()) return counts_.Count(published.status());
    ++counts_.stored;
    Fetch(Remember(number));
  }

  void Fetch(uint64_t number) {
    const Key key = KeyOf(number);
    const absl::StatusOr<ObjectBytes> object =
        client_.FetchPiece(key, {}, kMaxPlanes - 1, Deadline::After(kTimeout)).Wait();
    if (!object.ok()) return counts_.Count(object.status());
    if (object->miss.has_value()) {
      ++counts_.missed;
      return;
    }
    ++counts_.fetched;
    const ByteSpan body = ByteSpan(object->container).last(content_.size());
    uint64_t found = 0;
    std::memcpy(&found, body.data(), sizeof(found));
    const bool same =
        found == number &&
        std::ranges::equal(body.subspan(sizeof(found)), ByteSpan(content_).subspan(sizeof(found)));
    if (!same) ++counts_.wrong;
  }

  // One of those stored last.
  uint64_t Remember(uint64_t number) {
    MutexLock lock(mutex_);
    stored_.push_back(number);
    if (stored_.size() > kRemembered) stored_.pop_front();
    return stored_[random_() % stored_.size()];
  }

  Key KeyOf(uint64_t number) const {
    const std::string name = absl::StrCat(seed_, " ", number);
    return {Sha256::Of(AsBytes(name))};
  }

  std::vector<std::byte> Container(const Key& key, uint64_t number) const {
    std::vector<std::byte> content = content_;
    std::memcpy(content.data(), &number, sizeof(number));
    absl::StatusOr<std::vector<std::byte>> container = EncodeFile(key, Digest{}, content);
    if (!container.ok()) {
      std::fprintf(stderr, "crowd_client: %s\n", container.status().ToString().c_str());
      std::_Exit(1);
    }
    return *std::move(container);
  }

  void Pause(Duration time) {
    MutexLock lock(pause_mutex_);
    pause_.wait_for(pause_mutex_, std::min<Duration>(time, kLook));
  }

  Client& client_;
  const PublishLoad load_;
  const std::atomic<bool>& ended_;
  const uint32_t seed_ = std::random_device()();
  std::minstd_rand random_{seed_};
  std::vector<std::byte> content_;
  Counts counts_;
  std::atomic<uint64_t> next_number_ = 0;
  Mutex pause_mutex_;
  CondVar pause_;
  Mutex mutex_;
  TimePoint next_due_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint64_t> stored_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

void RunPublishLoad(Client& client, const PublishLoad& load, const std::atomic<bool>& ended) {
  Publishers(client, load, ended).Run();
}

}  // namespace reprise
