// Peers that are killed, stopped, absent or restarted.
//
// The other process is this program again, started with --serve or --fetch.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include <spawn.h>

#include "common/limits.h"
#include "transport/conformance.h"
#include "transport/ucx/channel_core.h"
#include "transport/ucx/testing/test_address.h"
#include "transport/ucx/ucx_transport.h"

extern char** environ;  // NOLINT

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// How late the end of a call may be noticed; sanitized tests share two cores.
constexpr seconds kLate{5};
constexpr MethodId kStream = 5;   // parts of kMaxPartBytes without end
constexpr MethodId kSwallow = 6;  // keeps the request's bulk and never answers

// Sends the same buffer for as long as the client takes it.
class EndlessStream final : public std::enable_shared_from_this<EndlessStream> {
 public:
  explicit EndlessStream(std::unique_ptr<Responder> responder) : responder_(std::move(responder)) {}

  void SendMore() {
    if (responder_->dead()) return;
    responder_->Send(Part{"", SharedBytes(AsBytes(*bytes_), bytes_)});
    responder_->WhenWritable([self = shared_from_this()] { self->SendMore(); });
  }

 private:
  const std::unique_ptr<Responder> responder_;
  const std::shared_ptr<std::string> bytes_ = std::make_shared<std::string>(kMaxPartBytes, 's');
};

// Handlers come on the server's I/O thread; the stream goes on from there.
void ServeStreams(TestService& service) {
  service.On(kEcho, [](Request request, std::unique_ptr<Responder> responder) {
    responder->Send(Part{std::move(request.message), std::move(request.bulk)});
    responder->Complete(absl::OkStatus());
  });
  service.On(kStream, [](Request /*request*/, std::unique_ptr<Responder> responder) {
    std::make_shared<EndlessStream>(std::move(responder))->SendMore();
  });
}

CallRequest Ask(MethodId method, Duration timeout, SharedBytes bulk = SharedBytes()) {
  return CallRequest{.method = method,
                     .message = "",
                     .bulk = std::move(bulk),
                     .deadline = Deadline::After(timeout)};
}

absl::StatusOr<UcxConnection> ConnectTo(const std::string& address, bool same_host = false) {
  return ConnectUcx({.address = address, .hello = std::string(kGoodHello), .same_host = same_host},
                    Deadline::After(seconds(30)));
}

// This program once more, in another process.
class OtherProcess {
 public:
  OtherProcess(const std::string& mode, const std::string& argument) {
    std::array<int, 2> out{};
    EXPECT_EQ(pipe2(out.data(), O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions{};
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    std::array<std::string, 3> words = {"/proc/self/exe", mode, argument};
    std::array<char*, 4> arguments = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    EXPECT_EQ(posix_spawn(&pid_, words[0].c_str(), &actions, nullptr, arguments.data(), environ),
              0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    for (char c = 0; read(out[0], &c, 1) == 1 && c != '\n';) first_line_ += c;
    close(out[0]);
  }
  ~OtherProcess() {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  void Signal(int signal) const { kill(pid_, signal); }
  const std::string& first_line() const { return first_line_; }

 private:
  pid_t pid_ = -1;
  std::string first_line_;
};

int Serve(bool same_host) {
  TestService service;
  ServeStreams(service);
  Mutex mutex;
  std::vector<std::pair<Request, std::unique_ptr<Responder>>> swallowed;
  service.On(kSwallow, [&](Request request, std::unique_ptr<Responder> responder) {
    MutexLock lock(mutex);
    swallowed.emplace_back(std::move(request), std::move(responder));
  });
  const auto server =
      UcxServer::Create({.listen = TestAddress(), .service = &service, .same_host = same_host});
  if (!server.ok()) return 1;
  std::cout << (*server)->address() << std::endl;
  pause();
  return 0;
}

int Fetch(const std::string& address) {
  // A server that lends no memory sends instead.
  const auto connection = ConnectTo(address, /*same_host=*/true);
  if (!connection.ok()) return 1;
  auto observer = std::make_shared<RecordingObserver>([](const Part&) {});
  auto call = connection->channel->Start(Ask(kStream, seconds(60)), observer);
  if (!observer->WaitParts(10)) return 1;
  std::cout << "fetching" << std::endl;
  pause();
  return 0;
}

size_t OpenFiles() {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {}));
}

// Whether bulk is read from the server's memory instead of being sent.
class UcxFaultTestEitherWay : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Bulk, UcxFaultTestEitherWay, ::testing::Bool(),
                         [](const auto& way) { return way.param ? "Read" : "Sent"; });

TEST_P(UcxFaultTestEitherWay, AKilledServerEndsCallsInTheMiddleOfAStream) {
  const OtherProcess server("--serve", GetParam() ? "same_host" : "");
  const auto connection = ConnectTo(server.first_line(), GetParam());
  ASSERT_TRUE(connection.ok()) << connection.status();
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  std::vector<std::shared_ptr<Call>> calls;
  for (int i = 0; i < 3; ++i) {
    observers.push_back(std::make_shared<RecordingObserver>([](const Part&) {}));
    calls.push_back(connection->channel->Start(Ask(kStream, seconds(60)), observers.back()));
  }
  for (const auto& observer : observers) ASSERT_TRUE(observer->WaitParts(5));
  EXPECT_EQ(connection->channel->statistics().same_host_bytes > 0, GetParam());
  server.Signal(SIGKILL);
  const TimePoint killed = Clock::Steady().Now();
  for (const auto& observer : observers) {
    EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kUnavailable) << observer->WaitDone();
  }
  EXPECT_LT(Clock::Steady().Now() - killed, kLate);
  EXPECT_FALSE(connection->channel->alive());
  EXPECT_EQ(CallAndWait(*connection->channel, Ask(kEcho, seconds(30))).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(UcxFaultTest, AKilledServerLetsGoOfUploads) {
  const OtherProcess server("--serve", "");
  auto connection = ConnectTo(server.first_line());
  ASSERT_TRUE(connection.ok()) << connection.status();
  std::atomic<int> in_use{0};
  std::vector<std::shared_ptr<RecordingObserver>> observers;
  const auto memory = std::make_shared<std::string>(kMaxPartBytes, 'u');
  // More than the server has slots for: some are under way, some parked, some not announced.
  for (int i = 0; i < 80; ++i) {
    ++in_use;
    const std::shared_ptr<const void> owner(memory.get(),
                                            [memory, &in_use](const void*) { --in_use; });
    observers.push_back(std::make_shared<RecordingObserver>());
    connection->channel->Start(Ask(kSwallow, seconds(60), SharedBytes(AsBytes(*memory), owner)),
                               observers.back());
  }
  while (in_use == 80) std::this_thread::yield();
  server.Signal(SIGKILL);
  for (const auto& observer : observers) {
    EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kUnavailable) << observer->WaitDone();
  }
  connection->channel.reset();
  EXPECT_EQ(in_use, 0);
}

TEST_P(UcxFaultTestEitherWay, AStoppedServerIsADeadline) {
  const OtherProcess server("--serve", GetParam() ? "same_host" : "");
  auto connection = ConnectTo(server.first_line(), GetParam());
  ASSERT_TRUE(connection.ok()) << connection.status();
  auto observer = std::make_shared<RecordingObserver>([](const Part&) {});
  const TimePoint start = Clock::Steady().Now();
  auto call = connection->channel->Start(Ask(kStream, milliseconds(1'000)), observer);
  ASSERT_TRUE(observer->WaitParts(1));
  server.Signal(SIGSTOP);
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(Clock::Steady().Now() - start, milliseconds(999));
  // An upload to it cannot finish either, and does not keep its buffer for ever.
  std::atomic<bool> released{false};
  const auto memory = std::make_shared<std::string>(kMaxPartBytes, 'u');
  std::shared_ptr<const void> owner(memory.get(),
                                    [memory, &released](const void*) { released = true; });
  auto upload = std::make_shared<RecordingObserver>();
  connection->channel->Start(
      Ask(kSwallow, milliseconds(200), SharedBytes(AsBytes(*memory), std::move(owner))), upload);
  EXPECT_EQ(upload->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  const TimePoint closing = Clock::Steady().Now();
  connection->channel.reset();
  EXPECT_LT(Clock::Steady().Now() - closing, kCloseTimeout);
  EXPECT_TRUE(released);
}

TEST_P(UcxFaultTestEitherWay, AKilledClientIsALostSession) {
  TestService service;
  ServeStreams(service);
  auto server =
      UcxServer::Create({.listen = TestAddress(), .service = &service, .same_host = GetParam()});
  ASSERT_TRUE(server.ok()) << server.status();
  const OtherProcess client("--fetch", (*server)->address());
  ASSERT_EQ(client.first_line(), "fetching");
  EXPECT_TRUE(service.lost().empty());
  EXPECT_EQ((*server)->statistics().same_host_bytes > 0, GetParam());
  const TimePoint killed = Clock::Steady().Now();
  client.Signal(SIGKILL);
  EXPECT_TRUE(service.WaitForLostSessions(1));
  EXPECT_LT(Clock::Steady().Now() - killed, kLate);
  // Others are served, and shutting down is not held up.
  const auto other = ConnectTo((*server)->address());
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_TRUE(CallAndWait(*other->channel, Ask(kEcho, seconds(30), TestBulk(kMiB, 1))).ok());
}

TEST(UcxFaultTest, NobodyListeningIsUnavailableAndNamesTheAddress) {
  std::string address;
  {
    TestService service;
    const auto server = UcxServer::Create({.listen = TestAddress(), .service = &service});
    ASSERT_TRUE(server.ok()) << server.status();
    address = (*server)->address();
  }
  const TimePoint start = Clock::Steady().Now();
  const absl::Status status = ConnectTo(address).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find(absl::StrCat("cannot connect to ", address)),
            absl::string_view::npos)
      << status;
  EXPECT_LT(Clock::Steady().Now() - start, kLate);
}

TEST(UcxFaultTest, APortInUseIsUnavailableAndIsFreeAfterTheServer) {
  TestService service;
  ServeStreams(service);
  auto first = UcxServer::Create({.listen = TestAddress(), .service = &service});
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = (*first)->address();
  const absl::Status status = UcxServer::Create({.listen = address, .service = &service}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_NE(status.message().find(absl::StrCat(address, ": the port is in use")),
            absl::string_view::npos)
      << status;
  // Restarted at once, with connections of the old server lingering.
  const auto client = ConnectTo(address);
  ASSERT_TRUE(client.ok()) << client.status();
  first->reset();
  const auto second = UcxServer::Create({.listen = address, .service = &service});
  ASSERT_TRUE(second.ok()) << second.status();
  const auto again = ConnectTo(address);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(CallAndWait(*again->channel, Ask(kEcho, seconds(30))).ok());
}

TEST(UcxFaultTest, NamesCanBeListenedOnAndIpv6IsRefused) {
  TestService service;
  ServeStreams(service);
  for (const std::string listen : {"localhost:0", "0.0.0.0:0"}) {
    SCOPED_TRACE(listen);
    const auto server = UcxServer::Create({.listen = listen, .service = &service});
    ASSERT_TRUE(server.ok()) << server.status();
    const std::string address = (*server)->address();
    const std::string port = address.substr(address.rfind(':'));
    EXPECT_NE(port, ":0");
    const auto connection = ConnectTo(absl::StrCat("localhost", port));
    ASSERT_TRUE(connection.ok()) << connection.status();
    const SharedBytes bulk = TestBulk(2 * kMiB, 3);
    const auto reply = CallAndWait(*connection->channel, Ask(kEcho, seconds(30), bulk));
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(AsText(reply->bulk.bytes()), AsText(bulk.bytes()));
  }
  EXPECT_EQ(UcxServer::Create({.listen = "[::1]:0", .service = &service}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(UcxServer::Create({.listen = "127.0.0.1", .service = &service}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(UcxServer::Create({.listen = "192.0.2.77:0", .service = &service}).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST(UcxFaultTest, ConnectingAThousandTimesLeaksNoDescriptor) {
#ifdef REPRISE_SANITIZED
  constexpr int kCycles = 100;
#else
  constexpr int kCycles = 1'000;
#endif
  TestService service;
  ServeStreams(service);
  const auto server = UcxServer::Create({.listen = TestAddress(), .service = &service});
  ASSERT_TRUE(server.ok()) << server.status();
  size_t open_at_first = 0;
  for (int i = 0; i < kCycles; ++i) {
    const auto connection = ConnectTo((*server)->address());
    ASSERT_TRUE(connection.ok()) << connection.status() << " in cycle " << i;
    if (i % 10 == 0) {
      ASSERT_TRUE(
          CallAndWait(*connection->channel, Ask(kEcho, seconds(30), TestBulk(100'000, 1))).ok());
    }
    if (i == 10) open_at_first = OpenFiles();
  }
  ASSERT_TRUE(service.WaitForLostSessions(kCycles));
  // A few sockets may still be on their way out.
  EXPECT_LE(OpenFiles(), open_at_first + 10);
}

TEST(UcxFaultTest, DeadlinesFollowTheInjectedClock) {
  TestService service;
  Event arrived;
  std::vector<std::unique_ptr<Responder>> held;
  service.On(1, [&](Request /*request*/, std::unique_ptr<Responder> responder) {
    held.push_back(std::move(responder));
    arrived.Set();
  });
  ManualClock clock;
  const auto server =
      UcxServer::Create({.listen = TestAddress(), .service = &service, .clock = &clock});
  ASSERT_TRUE(server.ok()) << server.status();
  const auto connection = ConnectUcx(
      {.address = (*server)->address(), .hello = std::string(kGoodHello), .clock = &clock},
      Deadline::After(seconds(30), clock));
  ASSERT_TRUE(connection.ok()) << connection.status();
  auto observer = std::make_shared<RecordingObserver>();
  auto call = connection->channel->Start(
      {.method = 1, .message = "", .bulk = {}, .deadline = Deadline::After(seconds(10), clock)},
      observer);
  ASSERT_TRUE(arrived.Wait());
  clock.Advance(seconds(9));
  EXPECT_FALSE(observer->done());
  EXPECT_FALSE(held[0]->dead());
  clock.Advance(seconds(2));
  EXPECT_EQ(observer->WaitDone().code(), absl::StatusCode::kDeadlineExceeded);
  while (!held[0]->dead()) std::this_thread::yield();
}

}  // namespace
}  // namespace reprise::transport

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "--serve") == 0) {
    return reprise::transport::Serve(argc > 2 && std::strcmp(argv[2], "same_host") == 0);
  }
  if (argc > 2 && std::strcmp(argv[1], "--fetch") == 0) return reprise::transport::Fetch(argv[2]);
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
