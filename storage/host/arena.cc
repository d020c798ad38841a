#include "storage/host/arena.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/limits.h"
#include "common/log.h"

namespace reprise::storage {
namespace {

// Below this, rounding up to huge pages could cost more than huge pages gain.
constexpr uint64_t kHugePagesFromBytes = 64 * kMiB;
constexpr uint64_t kHugePageBytes = 2 * kMiB;

std::string_view Name(PageKind kind) {
  switch (kind) {
    case PageKind::kHugeReserved:
      return "huge, reserved";
    case PageKind::kHugeTransparent:
      return "huge, transparent";
    case PageKind::kSmall:
      break;
  }
  return "small";
}

}  // namespace

Extent::Extent(Extent&& other) noexcept
    : arena_(std::exchange(other.arena_, nullptr)),
      offset_(other.offset_),
      size_bytes_(other.size_bytes_) {}

Extent& Extent::operator=(Extent&& other) noexcept {
  std::swap(arena_, other.arena_);
  std::swap(offset_, other.offset_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

Extent::~Extent() {
  if (arena_ != nullptr) arena_->Free(offset_, size_bytes_);
}

MutableByteSpan Extent::bytes() const { return arena_->bytes().subspan(offset_, size_bytes_); }

MutableByteSpan Extent::occupied() const {
  return arena_->bytes().subspan(offset_, occupied_bytes());
}

void Extent::Shrink(uint64_t size_bytes) {
  arena_->Shrink(offset_, size_bytes_, size_bytes);
  size_bytes_ = size_bytes;
}

absl::StatusOr<std::unique_ptr<Arena>> Arena::Create(uint64_t capacity_bytes) {
  const bool huge = capacity_bytes >= kHugePagesFromBytes;
  const uint64_t unit = huge ? kHugePageBytes : ExtentAllocator::kGranularityBytes;
  const uint64_t capacity = capacity_bytes / unit * unit;
  if (capacity == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("an arena of ", capacity_bytes, " bytes holds no extent of ", unit, " bytes"));
  }
  auto region = MappedRegion::Create(capacity, huge ? PageKind::kHugeReserved : PageKind::kSmall);
  if (!region.ok()) return Annotate(region.status(), "host tier's arena");
  LogInfo("host arena mapped", {{"bytes", capacity}, {"pages", Name((*region)->page_kind())}});
  return std::unique_ptr<Arena>(new Arena(*std::move(region), capacity));
}

Arena::Arena(std::unique_ptr<MappedRegion> region, uint64_t capacity_bytes)
    : region_(std::move(region)),
      bytes_(region_->bytes().first(capacity_bytes)),
      allocator_(capacity_bytes) {}

std::optional<Extent> Arena::Allocate(uint64_t size_bytes) {
  MutexLock lock(mutex_);
  const std::optional<uint64_t> offset = allocator_.Allocate(size_bytes);
  if (!offset.has_value()) return std::nullopt;
  return Extent(this, *offset, size_bytes);
}

uint64_t Arena::used_bytes() const {
  MutexLock lock(mutex_);
  return allocator_.used_bytes();
}

uint64_t Arena::largest_free_bytes() const {
  MutexLock lock(mutex_);
  return allocator_.largest_free_bytes();
}

void Arena::Free(uint64_t offset, uint64_t size_bytes) {
  MutexLock lock(mutex_);
  allocator_.Free(offset, size_bytes);
}

void Arena::Shrink(uint64_t offset, uint64_t size_bytes, uint64_t new_size_bytes) {
  MutexLock lock(mutex_);
  allocator_.Shrink(offset, size_bytes, new_size_bytes);
}

}  // namespace reprise::storage
