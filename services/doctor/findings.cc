#include "services/doctor/findings.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/limits.h"
#include "services/store/byte_size.h"
#include "services/store/memory_plan.h"

namespace reprise::doctor {
namespace {

// Connections, segment files and the index's own.
constexpr uint64_t kFewOpenFiles = 4096;
// A tier smaller than this is not worth a disk.
constexpr uint64_t kLittleDiskBytes = 2 * kGiB;

std::string Size(uint64_t bytes) {
  return bytes == kUnlimited ? "unlimited" : store::FormatByteSize(bytes);
}

Finding Cpu(const MachineFacts& machine) {
  Finding finding{.subject = "cpu", .says = absl::StrCat(machine.cores, " cores, ")};
  if (machine.avx512) {
    finding.says += "AVX-512";
  } else if (machine.avx2) {
    finding.says +=
        "AVX2 but no AVX-512 with VBMI2: the codec runs at about two thirds of the speed";
  } else {
    finding.verdict = Verdict::kSlower;
    finding.says += "no AVX2: the codec runs its scalar reference, many times slower";
    finding.remedy =
        "use a machine from 2013 on, and let a virtual one see its host's CPU (QEMU: -cpu host)";
  }
  return finding;
}

Finding Numa(const MachineFacts& machine) {
  if (machine.numa_nodes == 1) return {.subject = "numa", .says = "one node"};
  return {
      .subject = "numa",
      .verdict = Verdict::kSlower,
      .says = absl::StrCat(machine.numa_nodes,
                           " nodes; a store whose memory and network card are on different ones "
                           "sends more slowly"),
      .remedy = "numactl --cpunodebind=N --membind=N reprise store ..., one store for each node N"};
}

Finding Memory(const MachineFacts& machine) {
  const uint64_t least = store::MinimumMemoryBytes();
  if (machine.memory_bytes >= least) {
    return {.subject = "memory", .says = absl::StrCat(Size(machine.memory_bytes), " usable")};
  }
  return {.subject = "memory",
          .verdict = Verdict::kBroken,
          .says = absl::StrCat(Size(machine.memory_bytes), " usable; a store needs ", Size(least)),
          .remedy = "raise the container's memory limit, or use a larger machine"};
}

Finding HugePages(const MachineFacts& machine) {
  Finding finding{.subject = "huge pages"};
  if (machine.huge_pages_free > 0) {
    finding.says = absl::StrCat(machine.huge_pages_free, " of ", machine.huge_pages_reserved,
                                " reserved ones free");
    return finding;
  }
  if (machine.transparent_huge_pages == "always" || machine.transparent_huge_pages == "madvise") {
    finding.says = absl::StrCat("transparent (", machine.transparent_huge_pages, ")");
    return finding;
  }
  finding.verdict = Verdict::kSlower;
  finding.says = "none reserved free, and transparent ones are off: the arena gets small pages";
  finding.remedy =
      "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled, or "
      "sysctl vm.nr_hugepages=N for N pages of 2 MiB; on the host, for a container";
  return finding;
}

Finding Memlock(const MachineFacts& machine) {
  if (machine.memlock_bytes >= machine.memory_bytes) {
    return {.subject = "memlock", .says = Size(machine.memlock_bytes)};
  }
  const bool needed = !machine.rdma_devices.empty();
  return {
      .subject = "memlock",
      .verdict = needed ? Verdict::kBroken : Verdict::kSlower,
      .says = absl::StrCat(
          Size(machine.memlock_bytes), ", of ", Size(machine.memory_bytes), " of memory: ",
          needed ? "RDMA cannot register the arena" : "disk transfers use unregistered buffers"),
      .remedy =
          "ulimit -l unlimited; systemd: LimitMEMLOCK=infinity; docker run --ulimit memlock=-1"};
}

Finding OpenFiles(const MachineFacts& machine) {
  if (machine.open_files >= kFewOpenFiles) {
    return {
        .subject = "open files",
        .says = machine.open_files == kUnlimited ? "unlimited" : absl::StrCat(machine.open_files)};
  }
  return {.subject = "open files",
          .verdict = Verdict::kSlower,
          .says = absl::StrCat(machine.open_files, ": few clients and disk segments at a time"),
          .remedy = "ulimit -n 65536; systemd: LimitNOFILE=65536"};
}

Finding IoUring(const MachineFacts& machine) {
  if (machine.io_uring.ok()) return {.subject = "io_uring", .says = "allowed"};
  Finding finding{.subject = "io_uring",
                  .verdict = Verdict::kSlower,
                  .says = absl::StrCat(std::string(machine.io_uring.message()),
                                       ": a disk tier uses threads of pread and pwrite")};
  if (machine.io_uring_disabled.value_or(0) > 0) {
    finding.remedy = "sysctl kernel.io_uring_disabled=0 on the host";
  } else {
    finding.remedy =
        "container profiles deny it by default: allow io_uring_setup, io_uring_enter and "
        "io_uring_register in the seccomp profile (docker run --security-opt "
        "seccomp=FILE; Kubernetes: seccompProfile of type Localhost)";
  }
  return finding;
}

Finding DataPath(const MachineFacts& machine) {
  Finding finding{.subject = "data path"};
  if (!machine.ucx_devices.ok()) {
    finding.verdict = Verdict::kSlower;
    finding.says = absl::StrCat(std::string(machine.ucx_devices.status().message()),
                                ": bytes travel over gRPC");
    finding.remedy = "reinstall UCX (apt-get install libucx0)";
    return finding;
  }
  std::vector<std::string> names;
  bool rdma = false;
  for (const transport::UcxDevice& device : *machine.ucx_devices) {
    names.push_back(absl::StrCat(device.transport, "/", device.device));
    rdma = rdma || device.rdma;
  }
  if (names.empty()) {
    finding.verdict = Verdict::kSlower;
    finding.says = "UCX sees no network device: bytes travel over gRPC";
    finding.remedy = "mount /sys, where UCX looks for /sys/class/net";
    return finding;
  }
  finding.says =
      absl::StrCat(rdma ? "UCX over RDMA: " : "UCX over TCP: ", absl::StrJoin(names, ", "));
  return finding;
}

Finding Rdma(const MachineFacts& machine) {
  if (machine.rdma_devices.empty()) {
    return {.subject = "rdma", .verdict = Verdict::kAbsent, .says = "no device"};
  }
  const std::string names = absl::StrJoin(machine.rdma_devices, ", ");
  if (machine.verbs_accessible) return {.subject = "rdma", .says = names};
  return {.subject = "rdma",
          .verdict = Verdict::kSlower,
          .says = absl::StrCat(names, ", but /dev/infiniband/uverbs* cannot be opened"),
          .remedy =
              "modprobe ib_uverbs on the host; docker run --device=/dev/infiniband; Kubernetes: "
              "an RDMA device plugin"};
}

Finding Gpu(const MachineFacts& machine) {
  if (machine.gpus.empty()) {
    return {.subject = "gpu", .verdict = Verdict::kAbsent, .says = "no NVIDIA GPU"};
  }
  Finding finding{.subject = "gpu", .says = absl::StrCat(machine.gpus.size(), " of NVIDIA")};
  if (machine.cuda_library) return finding;
  finding.verdict = Verdict::kSlower;
  finding.says += ", but libcuda.so.1 cannot be loaded";
  finding.remedy = "docker run --gpus all, with the NVIDIA container toolkit on the host";
  return finding;
}

Finding Disk(const DiskFacts& disk) {
  Finding finding{.subject = "disk"};
  if (!disk.usable.ok()) {
    finding.verdict = Verdict::kBroken;
    finding.says = std::string(disk.usable.message());
    finding.remedy = "give a directory that exists and that this user may write to";
    return finding;
  }
  finding.says = absl::StrCat(disk.directory, ": ", Size(disk.free_bytes), " free");
  if (!disk.direct) {
    finding.verdict = Verdict::kSlower;
    finding.says += ", and no direct I/O: reads and writes go through the page cache";
    finding.remedy = "use a directory on ext4 or xfs; in a container, a mounted volume";
  } else if (disk.free_bytes < kLittleDiskBytes) {
    finding.verdict = Verdict::kSlower;
    finding.says += ", too little for a tier";
    finding.remedy = absl::StrCat("free some: ", Size(kLittleDiskBytes), " is a beginning");
  }
  return finding;
}

}  // namespace

std::string_view NameOf(Verdict verdict) {
  switch (verdict) {
    case Verdict::kGood:
      return "ok";
    case Verdict::kAbsent:
      return "none";
    case Verdict::kSlower:
      return "slow";
    case Verdict::kBroken:
      return "FAIL";
  }
  return "";
}

std::vector<Finding> Examine(const MachineFacts& machine) {
  std::vector<Finding> findings = {
      Cpu(machine),  Memory(machine),  HugePages(machine), Memlock(machine), OpenFiles(machine),
      Numa(machine), IoUring(machine), DataPath(machine),  Rdma(machine),    Gpu(machine)};
  if (machine.disk.has_value()) findings.push_back(Disk(*machine.disk));
  return findings;
}

}  // namespace reprise::doctor
