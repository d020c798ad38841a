#include "services/cli/reprise_process.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <spawn.h>
#include <stdlib.h>

extern char** environ;

namespace reprise::cli {
namespace {

struct Pipe {
  int read_end = -1;
  int write_end = -1;
};

Pipe MakePipe() {
  int ends[2] = {-1, -1};
  if (pipe2(ends, O_CLOEXEC) != 0) abort();
  return {ends[0], ends[1]};
}

pid_t Spawn(const std::vector<std::string>& args, int in, int out, int err) {
  std::vector<std::string> all{REPRISE_BINARY};
  all.insert(all.end(), args.begin(), args.end());
  std::vector<char*> argv;
  argv.reserve(all.size() + 1);
  for (std::string& arg : all) argv.push_back(arg.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (in >= 0) posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  if (out >= 0) posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  if (err >= 0) posix_spawn_file_actions_adddup2(&actions, err, STDERR_FILENO);
  pid_t pid = -1;
  if (posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid = -1;
  posix_spawn_file_actions_destroy(&actions);
  return pid;
}

int WaitFor(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// Feeds `input` and drains both outputs until all are closed.
void Converse(int in, int out, int err, const std::string& input, Finished& finished) {
  size_t fed = 0;
  std::array<pollfd, 3> fds{{{in, POLLOUT, 0}, {out, POLLIN, 0}, {err, POLLIN, 0}}};
  if (input.empty()) {
    close(in);
    fds[0].fd = -1;
  }
  std::array<char, 65536> buffer;
  while (fds[0].fd >= 0 || fds[1].fd >= 0 || fds[2].fd >= 0) {
    if (poll(fds.data(), fds.size(), -1) < 0) return;
    if (fds[0].revents != 0) {
      const ssize_t wrote =
          write(in, input.data() + fed, std::min<size_t>(input.size() - fed, 65536));
      fed += wrote > 0 ? static_cast<size_t>(wrote) : 0;
      if (wrote <= 0 || fed == input.size()) {
        close(in);
        fds[0].fd = -1;
      }
    }
    for (size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents == 0) continue;
      const ssize_t got = read(fds[i].fd, buffer.data(), buffer.size());
      if (got > 0) {
        (i == 1 ? finished.out : finished.err).append(buffer.data(), static_cast<size_t>(got));
        continue;
      }
      close(fds[i].fd);
      fds[i].fd = -1;
    }
  }
}

std::string Field(const std::string& line, const std::string& name) {
  const size_t at = line.find(" " + name + "=");
  if (at == std::string::npos) return "";
  const size_t begin = at + name.size() + 2;
  return line.substr(begin, line.find_first_of(" \n", begin) - begin);
}

bool Has(const std::vector<std::string>& args, const std::string& flag) {
  return std::find(args.begin(), args.end(), flag) != args.end();
}

}  // namespace

Finished RunReprise(const std::vector<std::string>& args, const std::string& input) {
  // A command that stops reading must not end the test.
  signal(SIGPIPE, SIG_IGN);
  const Pipe in = MakePipe();
  const Pipe out = MakePipe();
  const Pipe err = MakePipe();
  const pid_t pid = Spawn(args, in.read_end, out.write_end, err.write_end);
  close(in.read_end);
  close(out.write_end);
  close(err.write_end);
  Finished finished;
  Converse(in.write_end, out.read_end, err.read_end, input, finished);
  finished.exit_code = WaitFor(pid);
  return finished;
}

Finished InterruptReprise(const std::vector<std::string>& args, const ScratchDir& folder,
                          int signal) {
  const int watch = inotify_init1(IN_CLOEXEC);
  if (inotify_add_watch(watch, folder.Path("").c_str(), IN_CREATE) < 0) abort();
  const pid_t pid = Spawn(args, -1, -1, -1);
  std::array<char, 4096> events;
  Finished finished;
  pollfd made{watch, POLLIN, 0};
  if (poll(&made, 1, 60'000) == 1 && read(watch, events.data(), events.size()) > 0) {
    kill(pid, signal);
  }
  finished.exit_code = WaitFor(pid);
  close(watch);
  return finished;
}

RunningStore::RunningStore(std::vector<std::string> args) {
  args.insert(args.begin(), "store");
  for (const char* flag : {"--listen", "--metrics"}) {
    if (!Has(args, flag)) args.insert(args.end(), {flag, "127.0.0.1:0"});
  }
  const Pipe out = MakePipe();
  pid_ = Spawn(args, -1, out.write_end, -1);
  close(out.write_end);
  out_fd_ = out.read_end;
  std::string line;
  char c = 0;
  while (line.find('\n') == std::string::npos && read(out_fd_, &c, 1) == 1) line += c;
  grpc_ = Field(line, "grpc");
  data_ = Field(line, "data");
  metrics_ = Field(line, "metrics");
}

RunningStore::~RunningStore() {
  if (pid_ > 0) Stop(SIGKILL);
  close(out_fd_);
}

Finished RunningStore::Run(std::vector<std::string> args, const std::string& input) const {
  args.insert(args.end(), {"--store", grpc_});
  return RunReprise(args, input);
}

RunningStore::Stopped RunningStore::Stop(int signal) {
  const auto begin = std::chrono::steady_clock::now();
  kill(pid_, signal);
  Stopped stopped;
  stopped.exit_code = WaitFor(pid_);
  stopped.took = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::steady_clock::now() - begin);
  pid_ = -1;
  return stopped;
}

std::string RunningStore::Http(const std::string& path, const std::string& method) const {
  const size_t colon = metrics_.rfind(':');
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (colon == std::string::npos ||
      getaddrinfo(metrics_.substr(0, colon).c_str(), metrics_.substr(colon + 1).c_str(), &hints,
                  &found) != 0) {
    return "";
  }
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  std::string reply;
  const std::string request = method + " " + path + " HTTP/1.0\r\nConnection: close\r\n\r\n";
  if (connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
      write(fd, request.data(), request.size()) == static_cast<ssize_t>(request.size())) {
    std::array<char, 65536> buffer;
    for (ssize_t got = 1; got > 0;) {
      got = read(fd, buffer.data(), buffer.size());
      if (got > 0) reply.append(buffer.data(), static_cast<size_t>(got));
    }
  }
  freeaddrinfo(found);
  close(fd);
  const size_t body = reply.find("\r\n\r\n");
  return body == std::string::npos ? "" : reply.substr(body + 4);
}

int64_t RunningStore::StatusKb(const std::string& field) const {
  std::istringstream status(ReadWhole("/proc/" + std::to_string(pid_) + "/status"));
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(field + ":")) return std::stol(line.substr(field.size() + 1));
  }
  return -1;
}

ScratchDir::ScratchDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "reprise-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) abort();
  path_ = pattern;
}

ScratchDir::~ScratchDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchDir::Write(const std::string& name, const std::string& bytes) const {
  std::ofstream(Path(name), std::ios::binary) << bytes;
  return Path(name);
}

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Pattern(size_t size, uint32_t seed) {
  std::string bytes(size, '\0');
  uint64_t state = seed + 0x9e3779b97f4a7c15u;
  for (size_t i = 0; i < size; i += 8) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t word = state ^ (state >> 29);
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(8, size - i));
  }
  return bytes;
}

}  // namespace reprise::cli
