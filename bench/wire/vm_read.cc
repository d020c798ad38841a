// The yardstick of a fetch on one host: a single thread that copies a working set out of another
// process with process_vm_readv and computes the CRC-32C of each piece, with nothing around it.
//
//   vm_read PIECE_MIB PIECES ROUNDS        a JSON line a round, as wire_client prints it
//
// The set lies in huge pages where the machine gives them, as a store's does, and is cycled: no
// piece is read twice in a row. Every piece lands in the same buffer.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "bench/wire/cpu_seconds.h"
#include "common/clock.h"
#include "common/crc32c.h"
#include "common/limits.h"
#include "common/mapped_region.h"

namespace reprise::bench {
namespace {

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "vm_read: %s\n", what.c_str());
  std::exit(1);
}

std::unique_ptr<MappedRegion> Map(size_t bytes) {
  auto region = MappedRegion::Create(bytes, PageKind::kHugeTransparent);
  if (!region.ok()) Fail(region.status().ToString());
  return *std::move(region);
}

void Fill(MutableByteSpan set) {
  uint64_t state = 1;
  for (size_t i = 0; i + 8 <= set.size(); i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(set.data() + i, &state, 8);
  }
}

// A process that has filled `set`, in memory of its own at the same address.
pid_t StartHolder(MutableByteSpan set) {
  int ready[2];
  if (pipe(ready) != 0) Fail("cannot make a pipe");
  const pid_t holder = fork();
  if (holder < 0) Fail("cannot fork");
  if (holder == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Fill(set);
    if (write(ready[1], "r", 1) != 1) _exit(1);
    while (true) pause();
  }
  char byte = 0;
  if (read(ready[0], &byte, 1) != 1) Fail("the other process has gone");
  close(ready[0]);
  close(ready[1]);
  return holder;
}

int Run(size_t piece_bytes, size_t pieces, int rounds) {
  const std::unique_ptr<MappedRegion> set = Map(piece_bytes * pieces);
  const std::unique_ptr<MappedRegion> buffer = Map(piece_bytes);
  const MutableByteSpan to = buffer->bytes().first(piece_bytes);
  const pid_t holder = StartHolder(set->bytes());
  for (int round = 0; round < rounds; ++round) {
    uint32_t sum = 0;
    const double cpu_before = CpuSeconds();
    const TimePoint start = Clock::Steady().Now();
    for (size_t piece = 0; piece < pieces; ++piece) {
      const iovec local{to.data(), to.size()};
      const iovec remote{set->bytes().data() + piece * piece_bytes, piece_bytes};
      const ssize_t got = process_vm_readv(holder, &local, 1, &remote, 1, 0);
      if (got != static_cast<ssize_t>(piece_bytes)) Fail("process_vm_readv failed");
      sum ^= Crc32c(to);
    }
    const double seconds = std::chrono::duration<double>(Clock::Steady().Now() - start).count();
    std::printf("{\"bytes\": %zu, \"seconds\": %.9f, \"cpu_seconds\": %.6f, \"sum\": %u}\n",
                piece_bytes * pieces, seconds, CpuSeconds() - cpu_before, sum);
  }
  kill(holder, SIGKILL);
  waitpid(holder, nullptr, 0);
  return 0;
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: vm_read PIECE_MIB PIECES ROUNDS\n");
    return 2;
  }
  return reprise::bench::Run(std::stoul(argv[1]) * reprise::kMiB, std::stoul(argv[2]),
                             std::stoi(argv[3]));
}
