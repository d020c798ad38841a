#include "services/cli/file_io.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include <stdio.h>

namespace reprise::cli {
namespace {

constexpr size_t kReadStepBytes = size_t{1} << 20;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ > STDERR_FILENO) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

absl::Status CannotRead(const std::string& path) {
  return absl::NotFoundError(absl::StrCat("cannot read ", path, ": ", strerror(errno)));
}

absl::Status CannotWrite(const std::string& path) {
  return absl::UnavailableError(absl::StrCat("cannot write ", path, ": ", strerror(errno)));
}

absl::Status WriteAll(int fd, ByteSpan bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t wrote = write(fd, bytes.data(), bytes.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return CannotWrite(path);
    bytes = bytes.subspan(static_cast<size_t>(wrote));
  }
  return absl::OkStatus();
}

// Removes a file when the process is interrupted while it is written. One at a time.
class RemovedOnInterrupt {
 public:
  explicit RemovedOnInterrupt(const std::string& path) {
    path_.assign(path.begin(), path.end());
    path_.push_back('\0');
    struct sigaction action {};
    action.sa_handler = RemoveAndEnd;
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before_[i]);
  }
  ~RemovedOnInterrupt() {
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  RemovedOnInterrupt(const RemovedOnInterrupt&) = delete;
  RemovedOnInterrupt& operator=(const RemovedOnInterrupt&) = delete;

 private:
  static constexpr std::array<int, 3> kSignals{SIGINT, SIGTERM, SIGHUP};

  // Nothing here but what a signal handler may call.
  static void RemoveAndEnd(int number) {
    unlink(path_.data());
    signal(number, SIG_DFL);
    raise(number);
  }

  static inline std::vector<char> path_;
  std::array<struct sigaction, kSignals.size()> before_{};
};

}  // namespace

absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path, size_t limit_bytes) {
  const std::string name = path == "-" ? "standard input" : path;
  const Descriptor file(path == "-" ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.get() < 0) return CannotRead(name);
  struct stat status {};
  if (fstat(file.get(), &status) != 0) return CannotRead(name);
  const auto known_bytes = S_ISREG(status.st_mode) ? static_cast<uint64_t>(status.st_size) : 0;
  if (known_bytes > limit_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(name, " has ", known_bytes, " bytes; at most ",
                                                   limit_bytes, " can be stored as one piece"));
  }
  std::vector<std::byte> bytes;
  size_t filled = 0;
  while (true) {
    // One byte of room beyond a regular file's length, to see its end without growing.
    if (filled == bytes.size()) {
      bytes.resize(std::max<size_t>(filled + kReadStepBytes, known_bytes + 1));
    }
    const ssize_t got = read(file.get(), bytes.data() + filled, bytes.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return CannotRead(name);
    if (got == 0) break;
    filled += static_cast<size_t>(got);
    if (filled > limit_bytes) {
      return absl::InvalidArgumentError(absl::StrCat(name, " is longer than the ", limit_bytes,
                                                     " bytes that can be stored as one piece"));
    }
  }
  bytes.resize(filled);
  return bytes;
}

absl::Status WriteFile(const std::string& path, ByteSpan bytes) {
  if (path == "-") return WriteAll(STDOUT_FILENO, bytes, "standard output");
  const std::string partial = absl::StrCat(path, ".partial-", getpid());
  const RemovedOnInterrupt guard(partial);
  absl::Status written;
  {
    const Descriptor file(open(partial.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file.get() < 0) return CannotWrite(path);
    written = WriteAll(file.get(), bytes, path);
  }
  if (written.ok() && rename(partial.c_str(), path.c_str()) != 0) written = CannotWrite(path);
  if (!written.ok()) unlink(partial.c_str());
  return written;
}

}  // namespace reprise::cli
