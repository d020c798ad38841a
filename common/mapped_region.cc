#include "common/mapped_region.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "common/byte_io.h"
#include "common/limits.h"

namespace reprise {
namespace {

constexpr size_t kSmallPageBytes = 4 * kKiB;
constexpr size_t kHugePageBytes = 2 * kMiB;

// MAP_FAILED as an empty span.
MutableByteSpan Map(size_t size, int extra_flags) {
  void* base =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
  if (base == MAP_FAILED) return {};
  return {static_cast<std::byte*>(base), size};
}

}  // namespace

absl::StatusOr<std::unique_ptr<MappedRegion>> MappedRegion::Create(size_t size, PageKind best) {
  if (size == 0 || size > (size_t{1} << 62)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot map ", size, " bytes"));
  }
  const size_t huge_size = AlignUp(size, kHugePageBytes);
  if (best == PageKind::kHugeReserved) {
    const MutableByteSpan bytes = Map(huge_size, MAP_HUGETLB);
    if (!bytes.empty()) {
      return std::unique_ptr<MappedRegion>(new MappedRegion(bytes, PageKind::kHugeReserved));
    }
  }
  const bool want_huge = best != PageKind::kSmall && size >= kHugePageBytes;
  const MutableByteSpan bytes = Map(want_huge ? huge_size : AlignUp(size, kSmallPageBytes), 0);
  if (bytes.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the kernel refused to map ", size, " bytes: ", std::strerror(errno)));
  }
  const bool huge = want_huge && madvise(bytes.data(), bytes.size(), MADV_HUGEPAGE) == 0;
  return std::unique_ptr<MappedRegion>(
      new MappedRegion(bytes, huge ? PageKind::kHugeTransparent : PageKind::kSmall));
}

MappedRegion::~MappedRegion() { munmap(bytes_.data(), bytes_.size()); }

}  // namespace reprise
