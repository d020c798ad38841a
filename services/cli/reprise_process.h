// For tests: runs the real executable, as a command or as a store.
//
// Not thread-safe, except that RunReprise may run on several threads.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace reprise::cli {

struct Finished {
  int exit_code = -1;  // 128 + signal when one ended it
  std::string out;
  std::string err;
};

// Runs `reprise ARGS...` to its end. `input` is what its standard input reads.
Finished RunReprise(const std::vector<std::string>& args, const std::string& input = "");

class ScratchDir;
// The same, but sends `signal` as soon as a file is made in `folder`.
Finished InterruptReprise(const std::vector<std::string>& args, const ScratchDir& folder,
                          int signal);

// A `reprise store` on ports of its own.
class RunningStore {
 public:
  // Adds --listen and --metrics with port 0 unless `args` has them, and waits for the ready line.
  explicit RunningStore(std::vector<std::string> args);
  // Kills it if it still runs.
  ~RunningStore();
  RunningStore(const RunningStore&) = delete;
  RunningStore& operator=(const RunningStore&) = delete;

  // From the ready line; empty when it never came.
  const std::string& grpc() const { return grpc_; }
  const std::string& data() const { return data_; }
  const std::string& metrics() const { return metrics_; }
  pid_t pid() const { return pid_; }

  // Runs `reprise COMMAND... --store` against this one.
  Finished Run(std::vector<std::string> args, const std::string& input = "") const;

  struct Stopped {
    int exit_code = -1;
    std::chrono::milliseconds took{0};
  };
  // Sends `signal` and waits for the end.
  Stopped Stop(int signal);

  // The body of `method` `path` on the metrics port.
  std::string Http(const std::string& path, const std::string& method = "GET") const;
  // A field of /proc/PID/status in kB, for example "VmHWM".
  int64_t StatusKb(const std::string& field) const;

 private:
  pid_t pid_ = -1;
  int out_fd_ = -1;
  std::string grpc_;
  std::string data_;
  std::string metrics_;
};

// A directory of the test's own, made anew and removed at the end.
class ScratchDir {
 public:
  ScratchDir();
  ~ScratchDir();
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;

  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  // Writes a file and returns its path.
  std::string Write(const std::string& name, const std::string& bytes) const;

 private:
  std::string path_;
};

std::string ReadWhole(const std::string& path);
// `size` bytes that differ from place to place and with `seed`.
std::string Pattern(size_t size, uint32_t seed);

}  // namespace reprise::cli
