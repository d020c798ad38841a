// Counts every heap allocation of the process it is preloaded into, of whatever library, in the
// eight bytes of allocations.PID in its working directory. So the programs that are measured are
// those that users run.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

// glibc's own, for allocators that replace malloc.
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
// NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
}

namespace {

using Count = std::atomic<uint64_t>;
Count before_open;
Count* count = &before_open;

[[gnu::constructor]] void Open() {
  std::array<char, 32> name;
  std::snprintf(name.data(), name.size(), "allocations.%d", static_cast<int>(getpid()));
  const int file = open(name.data(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0 || ftruncate(file, sizeof(Count)) != 0) std::abort();
  void* mapped = mmap(nullptr, sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (mapped == MAP_FAILED) std::abort();
  close(file);
  count = static_cast<Count*>(mapped);
}

}  // namespace

extern "C" {

void* malloc(size_t size) {
  count->fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}

void* calloc(size_t elements, size_t size) {
  count->fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(elements, size);
}

void* realloc(void* block, size_t size) {
  count->fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(block, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  count->fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}

void* memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

int posix_memalign(void** block, size_t alignment, size_t size) {
  void* made = aligned_alloc(alignment, size);
  if (made == nullptr) return ENOMEM;
  *block = made;
  return 0;
}

}  // extern "C"
