#include "services/doctor/machine_facts.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include <dirent.h>
#include <dlfcn.h>
#include <sched.h>

#include "codec/progressive/kernels.h"
#include "services/store/memory_plan.h"
#include "storage/env/env.h"
#include "storage/env/uring_queue.h"

namespace reprise::doctor {
namespace {

constexpr size_t kProbeBytes = storage::kDirectAlignmentBytes;

std::vector<std::string> Names(const char* directory, std::string_view prefix) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(opendir(directory), closedir);
  if (stream == nullptr) return names;
  while (const dirent* entry = readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name.starts_with(prefix) && !name.starts_with('.')) names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string FirstLine(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

uint64_t MeminfoPages(std::string_view name) {
  std::ifstream file("/proc/meminfo");
  std::string word;
  uint64_t pages = 0;
  while (file >> word) {
    if (word == name && file >> pages) return pages;
  }
  return 0;
}

// "always [madvise] never" says madvise.
std::string TransparentHugePages() {
  const std::string line = FirstLine("/sys/kernel/mm/transparent_hugepage/enabled");
  const size_t open = line.find('[');
  const size_t close = line.find(']');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  return line.substr(open + 1, close - open - 1);
}

uint64_t Limit(int resource, bool hard) {
  rlimit limit{};
  if (getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return 0;
  const rlim_t value = hard ? limit.rlim_max : limit.rlim_cur;
  return value == RLIM_INFINITY ? kUnlimited : value;
}

// CAP_IPC_LOCK lifts the limit on locked memory (capabilities(7)).
bool MayLockAnyMemory() {
  constexpr uint64_t kIpcLock = uint64_t{1} << 14;
  std::ifstream file("/proc/self/status");
  std::string word;
  while (file >> word) {
    uint64_t capabilities = 0;
    if (word == "CapEff:" && file >> std::hex >> capabilities)
      return (capabilities & kIpcLock) != 0;
  }
  return false;
}

uint32_t UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return static_cast<uint32_t>(CPU_COUNT(&set));
}

bool CanOpenVerbs() {
  for (const std::string& name : Names("/dev/infiniband", "uverbs")) {
    const int descriptor = open(absl::StrCat("/dev/infiniband/", name).c_str(), O_RDWR | O_CLOEXEC);
    if (descriptor < 0) continue;
    close(descriptor);
    return true;
  }
  return false;
}

bool CanLoadCuda() {
  void* const library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return false;
  dlclose(library);
  return true;
}

absl::Status WriteAndReadBack(storage::EnvFile& file) {
  alignas(kProbeBytes) static std::byte written[kProbeBytes];
  alignas(kProbeBytes) static std::byte read[kProbeBytes];
  std::memset(written, 0x5A, sizeof(written));
  REPRISE_RETURN_IF_ERROR(file.WriteAt(0, written));
  REPRISE_RETURN_IF_ERROR(file.Sync());
  REPRISE_RETURN_IF_ERROR(file.ReadAt(0, read));
  if (std::memcmp(written, read, sizeof(read)) == 0) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(file.path(), ": other bytes came back"));
}

DiskFacts ReadDisk(const std::string& directory) {
  storage::Env& env = storage::Env::Machine();
  DiskFacts facts{.directory = directory};
  const std::string path = absl::StrCat(directory, "/.reprise-doctor-", getpid());
  absl::StatusOr<std::unique_ptr<storage::EnvFile>> file =
      env.Open(path, storage::OpenMode::kCreate, /*direct=*/true);
  facts.usable = file.status();
  if (file.ok()) {
    facts.direct = (*file)->direct();
    facts.usable = WriteAndReadBack(**file);
    file->reset();
    facts.usable.Update(env.Delete(path));
  }
  const absl::StatusOr<storage::DiskSpace> space = env.Space(directory);
  if (space.ok()) facts.free_bytes = space->free_bytes;
  return facts;
}

}  // namespace

MachineFacts ReadMachine(const std::string& disk_directory) {
  MachineFacts machine;
  machine.cores = UsableCores();
  machine.numa_nodes =
      static_cast<uint32_t>(std::max<size_t>(1, Names("/sys/devices/system/node", "node").size()));
  machine.avx2 = progressive::KernelsOf(progressive::InstructionSet::kAvx2) != nullptr;
  machine.avx512 = progressive::KernelsOf(progressive::InstructionSet::kAvx512) != nullptr;
  machine.memory_bytes = store::PhysicalMemoryBytes();
  machine.huge_pages_reserved = MeminfoPages("HugePages_Total:");
  machine.huge_pages_free = MeminfoPages("HugePages_Free:");
  machine.transparent_huge_pages = TransparentHugePages();
  machine.memlock_bytes = MayLockAnyMemory() ? kUnlimited : Limit(RLIMIT_MEMLOCK, /*hard=*/false);
  machine.open_files = Limit(RLIMIT_NOFILE, /*hard=*/true);
  machine.io_uring = storage::UringQueue::Create({.name = "doctor", .depth = 1}).status();
  uint32_t disabled = 0;
  if (absl::SimpleAtoi(FirstLine("/proc/sys/kernel/io_uring_disabled"), &disabled)) {
    machine.io_uring_disabled = disabled;
  }
  machine.ucx_devices = transport::ListUcxDevices();
  machine.rdma_devices = Names("/sys/class/infiniband", "");
  machine.verbs_accessible = CanOpenVerbs();
  machine.gpus = Names("/proc/driver/nvidia/gpus", "");
  machine.cuda_library = CanLoadCuda();
  if (!disk_directory.empty()) machine.disk = ReadDisk(disk_directory);
  return machine;
}

}  // namespace reprise::doctor
