// Moves data between one file and memory through our DiskQueue, as the nvme tier does, and prints
// what that took as a JSON line; bench/nvme/run.py drives it and fio in turn.
//
//   nvme_bench prepare FILE BYTES                              preallocates and writes all of it
//   nvme_bench queue FILE read|write SIZE DEPTH SECONDS        DEPTH operations of SIZE at once
//
// Reads are of random blocks, writes one block after the other, round and round. Processor time is
// the whole process's, from the first operation to the last.

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "common/mapped_region.h"
#include "common/mutex.h"
#include "storage/env/env.h"

namespace reprise::storage {
namespace {

constexpr uint64_t kPrepareBytes = 4 * kMiB;
// Memory below this would not get huge pages, as an arena does.
constexpr size_t kHugePageBytes = 2 * kMiB;

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "nvme_bench: %s\n", message.c_str());
  std::exit(1);
}

template <typename T>
T Value(absl::StatusOr<T> result) {
  if (!result.ok()) Fail(std::string(result.status().message()));
  return *std::move(result);
}

uint64_t Number(const char* text, uint64_t most) {
  uint64_t number = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  if (error != std::errc() || stop != end || number == 0 || number > most) {
    Fail(std::string(text) + " is not a number in [1, " + std::to_string(most) + "]");
  }
  return number;
}

double ProcessorSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A 64-bit mix (Steele, Lea and Flood, 2014), so that blocks come in no order and data does not
// compress.
uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

void Fill(MutableByteSpan memory, uint64_t seed) {
  for (size_t at = 0; at + sizeof(seed) <= memory.size(); at += sizeof(seed)) {
    const uint64_t word = Mix(seed++);
    std::memcpy(memory.data() + at, &word, sizeof(word));
  }
}

void Prepare(const std::string& path, uint64_t bytes) {
  const auto file = Value(Env::Machine().Open(path, OpenMode::kReplace, true));
  const auto memory = Value(MappedRegion::Create(kPrepareBytes));
  absl::Status status = file->Preallocate(bytes);
  for (uint64_t offset = 0; status.ok() && offset < bytes; offset += kPrepareBytes) {
    const MutableByteSpan part = memory->bytes().first(std::min(kPrepareBytes, bytes - offset));
    Fill(part, offset);
    status = file->WriteAt(offset, part);
  }
  if (status.ok()) status = file->Sync();
  if (!status.ok()) Fail(std::string(status.message()));
}

// What all operations of one run share.
struct Run {
  DiskQueue* queue = nullptr;
  uint64_t blocks = 0;
  bool random = false;
  TimePoint until;
  std::atomic<uint64_t> next_block = 0;
  std::atomic<uint64_t> bytes = 0;

  Mutex mutex;
  CondVar ended;
  uint64_t under_way ABSL_GUARDED_BY(mutex) = 0;
};

// Asks for the next block as soon as one has come, until the time is over.
class Transfer final : public DiskOperation {
 public:
  Transfer(Run& run, Kind transfer, EnvFile& of, MutableByteSpan memory) : run_(run) {
    kind = transfer;
    file = &of;
    bytes = memory;
  }

  void Choose() {
    const uint64_t number = run_.next_block++;
    offset = (run_.random ? Mix(number) : number) % run_.blocks * bytes.size();
  }

  void Done(absl::Status status) override {
    if (!status.ok()) Fail(std::string(status.message()));
    run_.bytes += bytes.size();
    if (Clock::Steady().Now() < run_.until) {
      Choose();
      run_.queue->Submit(*this);
      return;
    }
    MutexLock lock(run_.mutex);
    if (--run_.under_way == 0) run_.ended.notify_all();
  }

 private:
  Run& run_;
};

void Measure(const std::string& path, DiskOperation::Kind kind, uint64_t size, uint32_t depth,
             uint64_t seconds) {
  Env& env = Env::Machine();
  const auto file = Value(env.Open(path, OpenMode::kReadWrite, true));
  const auto memory = Value(MappedRegion::Create(std::max<size_t>(size * depth, kHugePageBytes)));
  Fill(memory->bytes(), size);
  const auto queue =
      Value(env.CreateQueue({.name = "nvme-bench", .depth = depth, .buffers = {memory->bytes()}}));
  Run run;
  run.queue = queue.get();
  run.blocks = Value(file->SizeBytes()) / size;
  run.random = kind == DiskOperation::Kind::kRead;
  if (run.blocks < depth) Fail(path + " has fewer blocks than are under way at once");

  std::deque<Transfer> transfers;
  std::vector<DiskOperation*> batch;
  for (uint32_t i = 0; i < depth; ++i) {
    Transfer& transfer =
        transfers.emplace_back(run, kind, *file, memory->bytes().subspan(i * size, size));
    transfer.Choose();
    batch.push_back(&transfer);
  }
  const double processor_before = ProcessorSeconds();
  const TimePoint begin = Clock::Steady().Now();
  run.until = begin + std::chrono::seconds(seconds);
  {
    MutexLock lock(run.mutex);
    run.under_way = depth;
  }
  queue->Submit(batch);
  {
    MutexLock lock(run.mutex);
    while (run.under_way > 0) run.ended.wait(run.mutex);
  }
  const double elapsed = std::chrono::duration<double>(Clock::Steady().Now() - begin).count();
  const double processor = ProcessorSeconds() - processor_before;
  std::printf(
      "{\"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"backend\": \"%s\", "
      "\"direct\": %s}\n",
      static_cast<unsigned long long>(run.bytes), elapsed, processor,
      std::string(env.backend()).c_str(), file->direct() ? "true" : "false");
}

int Main(const std::vector<const char*>& arguments) {
  const std::string command = arguments.empty() ? "" : arguments[0];
  if (command == "prepare" && arguments.size() == 3) {
    Prepare(arguments[1], Number(arguments[2], kGiB << 10) / kPrepareBytes * kPrepareBytes);
    return 0;
  }
  const std::string kind = arguments.size() == 6 ? arguments[2] : "";
  if (command == "queue" && (kind == "read" || kind == "write")) {
    const uint64_t size =
        Number(arguments[3], kGiB) / kDirectAlignmentBytes * kDirectAlignmentBytes;
    Measure(arguments[1], kind == "read" ? DiskOperation::Kind::kRead : DiskOperation::Kind::kWrite,
            std::max(size, kDirectAlignmentBytes),
            static_cast<uint32_t>(Number(arguments[4], 1024)), Number(arguments[5], 3600));
    return 0;
  }
  std::fprintf(stderr,
               "usage: nvme_bench prepare FILE BYTES\n"
               "       nvme_bench queue FILE read|write SIZE DEPTH SECONDS\n");
  return 2;
}

}  // namespace
}  // namespace reprise::storage

int main(int argc, char** argv) {
  return reprise::storage::Main(std::vector<const char*>(argv + 1, argv + argc));
}
