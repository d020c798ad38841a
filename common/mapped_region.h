// Page-aligned anonymous memory, huge pages where the machine gives them.
//
// The memory behind the host tier's arena and the transports' receive slots: few, large, and
// registered once.
#pragma once

#include <cstddef>
#include <memory>

#include "common/bytes.h"
#include "common/status.h"

namespace reprise {

enum class PageKind {
  kHugeReserved,     // MAP_HUGETLB, taken from the reserved pool
  kHugeTransparent,  // madvise(MADV_HUGEPAGE); the kernel may still use small pages
  kSmall,
};

// Owns one mapping, unmapped on destruction. Thread-safe after creation; the bytes are zero at
// first and become resident only when touched (kHugeReserved: at once).
class MappedRegion {
 public:
  // `size` > 0 is rounded up to the page size in use. Tries the page kinds in the order above,
  // starting with `best`, and never fails for want of huge pages. RESOURCE_EXHAUSTED when the
  // kernel refuses the memory.
  static absl::StatusOr<std::unique_ptr<MappedRegion>> Create(
      size_t size, PageKind best = PageKind::kHugeReserved);
  ~MappedRegion();
  MappedRegion(const MappedRegion&) = delete;
  MappedRegion& operator=(const MappedRegion&) = delete;

  MutableByteSpan bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  PageKind page_kind() const { return page_kind_; }

 private:
  MappedRegion(MutableByteSpan bytes, PageKind page_kind) : bytes_(bytes), page_kind_(page_kind) {}

  MutableByteSpan bytes_;
  PageKind page_kind_;
};

}  // namespace reprise
