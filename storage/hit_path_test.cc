// What storage does for a fetch that hits host memory: no allocation and no system call. This
// binary counts both; calls are caught by the kernel's user dispatch (Linux 5.11), which turns each
// one of this thread into a signal while it is on.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <ucontext.h>

#include "common/limits.h"
#include "storage/host/host_store.h"
#include "storage/testing/counted_heap.h"
#include "storage/testing/test_piece.h"
#include "storage/tiered_store.h"
#include "storage/tiering/tiering_policy.h"

namespace reprise::storage {
namespace {

constexpr TenantId kTenant = 1;
constexpr int kPieces = 64;
constexpr int kRounds = 100;

volatile char dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
volatile sig_atomic_t system_calls = 0;
volatile sig_atomic_t calls_of_no_lock = 0;  // since the start

// The first call ends the catching, so that the handler itself may return. It is made here: the
// wake of another thread, once lost, would never come again.
void CountCall(int, siginfo_t* info, void* context) {
  dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
  system_calls = system_calls + 1;
  if (info->si_syscall != SYS_futex) calls_of_no_lock = calls_of_no_lock + 1;
#ifdef __x86_64__
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const int64_t result =
      syscall(info->si_syscall, registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
              registers[REG_R10], registers[REG_R8], registers[REG_R9]);
  registers[REG_RAX] = result < 0 ? -errno : result;
#endif
}

// Does `work`. Whether it made a system call on this thread; nullopt where that cannot be told.
template <typename Work>
std::optional<bool> MakesSystemCalls(Work work) {
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
  constexpr bool kTold = true;
#else
  constexpr bool kTold = false;  // ThreadSanitizer would hold the signal back
#endif
  struct sigaction action {};
  action.sa_sigaction = CountCall;
  action.sa_flags = SA_SIGINFO;
  if (!kTold || sigaction(SIGSYS, &action, nullptr) != 0 ||
      prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, 0, 0, &dispatch) != 0) {
    work();
    return std::nullopt;
  }
  system_calls = 0;
  dispatch = SYSCALL_DISPATCH_FILTER_BLOCK;
  work();
  dispatch = SYSCALL_DISPATCH_FILTER_ALLOW;
  prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
  return system_calls > 0;
}

class HitPathTest : public ::testing::Test {
 protected:
  ~HitPathTest() override {
    store_.reset();
    if (!directory_.empty()) std::filesystem::remove_all(directory_);
  }

  HostStoreOptions Host() {
    return {.budget_bytes = 32 * kMiB, .make_policy = [](size_t max_pieces) {
              return std::make_unique<TieringPolicy>(max_pieces, TieringOptions{});
            }};
  }
  void UseMemory() { store_ = HostStore::Create(Host()).value(); }
  void UseMemoryAndDisk() {
    std::string folder = ::testing::TempDir() + "reprise-hits-XXXXXX";
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    directory_ = folder;
    TieredStoreOptions options;
    options.host = Host();
    options.nvme.directory = directory_;
    options.nvme.budget_bytes = 512 * kMiB;
    options.nvme.memory_bytes = 32 * kMiB;
    options.nvme.make_policy = options.host.make_policy;
    auto store = TieredStore::Create(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // On the disk too where there is one, so that both tiers learn of each use.
  void Fill() {
    for (int i = 0; i < kPieces; ++i) {
      keys_.push_back(TestKey(std::to_string(i)));
      const std::vector<std::byte> container = Build({.key = keys_.back(), .plane_bytes = 60'000});
      ASSERT_TRUE(Put(*store_, kTenant, keys_.back(), container).ok());
      if (directory_.empty()) continue;
      std::promise<absl::Status> persisted;
      store_->Persist(kTenant, keys_.back(), OfferOf(keys_.back(), container).quality.content_id,
                      [&](const absl::Status& status) { persisted.set_value(status); });
      ASSERT_EQ(persisted.get_future().get(), absl::OkStatus());
    }
  }

  // As the service does for each piece of a fetch, up to the wire.
  uint64_t FetchAll() {
    uint64_t bytes = 0;
    for (const Key& key : keys_) {
      const std::optional<PieceSummary> summary = store_->Describe(kTenant, key);
      if (!summary.has_value() || summary->tier != Tier::kHost) continue;
      const PieceRef piece = store_->Find(kTenant, key);
      if (piece == nullptr) continue;
      const SharedBytes body(piece->body(), piece);
      bytes += body.Slice(0, body.size()).size();
    }
    return bytes;
  }

  void Check() {
    Fill();
    ASSERT_EQ(FetchAll(), kPieces * 60'000u);
    const uint64_t before = AllocationsOfThread();
    uint64_t bytes = 0;
    // A lock is waited for in a call while the disk's threads, which still put away what Fill
    // wrote, hold it. A call of the path itself is in every round.
    const sig_atomic_t others_before = calls_of_no_lock;
    int quiet_rounds = 0;
    bool told = true;
    for (int round = 0; round < kRounds; ++round) {
      const std::optional<bool> calls = MakesSystemCalls([&] { bytes += FetchAll(); });
      told = told && calls.has_value();
      if (calls == false) ++quiet_rounds;
    }
    EXPECT_EQ(bytes, kRounds * kPieces * 60'000u);
    EXPECT_EQ(AllocationsOfThread() - before, 0u);
    if (!told) GTEST_SKIP() << "nothing tells of system calls here";
    EXPECT_EQ(calls_of_no_lock, others_before);
    EXPECT_GT(quiet_rounds, kRounds / 2);
  }

  std::string directory_;
  std::vector<Key> keys_;
  std::unique_ptr<PieceStore> store_;
};

TEST_F(HitPathTest, TheCountersSeeWhatTheyCount) {
  const uint64_t before = AllocationsOfThread();
  const auto block = std::make_unique<std::vector<int>>(100);
  EXPECT_EQ(AllocationsOfThread() - before, 2u);
  const std::optional<bool> calls = MakesSystemCalls([] { getppid(); });
  if (!calls.has_value()) GTEST_SKIP() << "nothing tells of system calls here";
  EXPECT_TRUE(*calls);
}

TEST_F(HitPathTest, MemoryAlone) {
  UseMemory();
  Check();
}

TEST_F(HitPathTest, MemoryOverADisk) {
  UseMemoryAndDisk();
  Check();
}

}  // namespace
}  // namespace reprise::storage
