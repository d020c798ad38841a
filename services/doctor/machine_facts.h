// What a machine offers to Reprise, as this process sees it: a container may be shown less.
//
// ReadMachine looks; findings.h judges. Plain values, so that a test can describe any machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "transport/ucx/ucx_devices.h"

namespace reprise::doctor {

inline constexpr uint64_t kUnlimited = ~uint64_t{0};

struct DiskFacts {
  std::string directory{};
  absl::Status usable{};    // that a file can be made, written and read back there
  bool direct = false;      // past the page cache
  uint64_t free_bytes = 0;  // for this user
};

struct MachineFacts {
  uint32_t cores = 0;  // that this process may use
  uint32_t numa_nodes = 1;
  bool avx2 = false;
  bool avx512 = false;        // with BW and VL, as the codec wants it
  uint64_t memory_bytes = 0;  // of the machine, or less where a control group says so
  uint64_t huge_pages_reserved = 0;
  uint64_t huge_pages_free = 0;
  std::string transparent_huge_pages;  // "always", "madvise", "never"; empty: not in this kernel
  uint64_t memlock_bytes = 0;          // that may be locked, or kUnlimited
  uint64_t open_files = 0;             // RLIMIT_NOFILE, hard, or kUnlimited
  absl::Status io_uring;               // of making a ring
  std::optional<uint32_t> io_uring_disabled;  // sysctl kernel.io_uring_disabled, where there is one
  absl::StatusOr<std::vector<transport::UcxDevice>> ucx_devices =
      std::vector<transport::UcxDevice>{};
  std::vector<std::string> rdma_devices;  // of the kernel
  bool verbs_accessible = false;          // any /dev/infiniband/uverbs* can be opened
  std::vector<std::string> gpus;          // of NVIDIA's driver
  bool cuda_library = false;              // libcuda can be loaded
  std::optional<DiskFacts> disk;          // of the directory that was asked about
};

// `disk_directory`: where a store would keep its disk tier; empty: not looked at. Makes and deletes
// one small file there. Blocks for as long as drivers and the disk take.
MachineFacts ReadMachine(const std::string& disk_directory);

}  // namespace reprise::doctor
