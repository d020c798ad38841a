// The gRPC carrier against peers that are there and do nothing: everything ends by its deadline.
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <netinet/in.h>

#include "common/limits.h"
#include "transport/conformance.h"
#include "transport/grpc/grpc_channel.h"
#include "transport/grpc/unreachable.h"

namespace reprise::transport {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr MethodId kPublish = 1;

// A TCP socket of this machine's loopback address.
class TestSocket {
 public:
  explicit TestSocket(int flags = 0) : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0)) {
    name_.sin_family = AF_INET;
    name_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  }
  ~TestSocket() { close(fd_); }
  TestSocket(const TestSocket&) = delete;
  TestSocket& operator=(const TestSocket&) = delete;

  void Listen(int backlog) {
    socklen_t size = sizeof(name_);
    EXPECT_EQ(bind(fd_, name(), size), 0);
    EXPECT_EQ(listen(fd_, backlog), 0);
    EXPECT_EQ(getsockname(fd_, name(), &size), 0);
  }
  // With one that may not block: begins to.
  void Connect(TestSocket& to) const {
    EXPECT_TRUE(connect(fd_, to.name(), sizeof(name_)) == 0 || errno == EINPROGRESS);
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(ntohs(name_.sin_port)); }
  int fd() const { return fd_; }

 private:
  sockaddr* name() { return reinterpret_cast<sockaddr*>(&name_); }

  const int fd_;
  sockaddr_in name_{};
};

// Takes no connection and refuses none: its queue is full, so that the kernel drops what comes.
class DeafListener {
 public:
  DeafListener() {
    listener_.Listen(0);
    for (const TestSocket& other : others_) other.Connect(listener_);
    // The first of them is in the queue.
    pollfd connected{others_[0].fd(), POLLOUT, 0};
    EXPECT_EQ(poll(&connected, 1, 10'000), 1);
  }
  std::string address() const { return listener_.address(); }

 private:
  TestSocket listener_;
  const std::array<TestSocket, 3> others_{TestSocket(SOCK_NONBLOCK), TestSocket(SOCK_NONBLOCK),
                                          TestSocket(SOCK_NONBLOCK)};
};

// Greets whoever connects, allows them to send all there is, and reads nothing.
class PeerThatReadsNothing {
 public:
  PeerThatReadsNothing() {
    listener_.Listen(1);
    greeter_ = std::thread([this] {
      connection_ = accept(listener_.fd(), nullptr, nullptr);
      EXPECT_EQ(write(connection_, kGreeting.data(), kGreeting.size()),
                static_cast<ssize_t>(kGreeting.size()));
    });
  }
  ~PeerThatReadsNothing() {
    greeter_.join();
    close(connection_);
  }
  PeerThatReadsNothing(const PeerThatReadsNothing&) = delete;
  PeerThatReadsNothing& operator=(const PeerThatReadsNothing&) = delete;

  std::string address() const { return listener_.address(); }

 private:
  // RFC 9113: SETTINGS with the largest INITIAL_WINDOW_SIZE, and a WINDOW_UPDATE of the connection.
  static constexpr std::string_view kGreeting{
      "\0\0\6\4\0\0\0\0\0\0\4\x7f\xff\xff\xff\0\0\4\x8\0\0\0\0\0\x7f\xff\0\0", 28};

  TestSocket listener_;
  int connection_ = -1;
  std::thread greeter_;
};

TEST(GrpcSilentPeerTest, AsksWhyNobodyCouldBeReachedUntilTheDeadlineOnly) {
  const DeafListener nobody;
  const TimePoint begin = Clock::Steady().Now();
  EXPECT_EQ(WhyUnreachable(nobody.address(), Deadline::After(milliseconds(50))),
            "Connection timed out");
  EXPECT_LT(Clock::Steady().Now() - begin, milliseconds(500));
  EXPECT_EQ(WhyUnreachable(nobody.address(), Deadline(begin)), "Connection timed out");
}

// The first of several is the one that gRPC is writing.
TEST(GrpcSilentPeerTest, ACallThatCannotBeWrittenEndsInTime) {
  // More than the kernel takes of it, on both sides.
  const std::string bulk(kMaxPartBytes, 'b');
  for (const bool cancel : {false, true}) {
    SCOPED_TRACE(cancel);
    auto peer = std::make_unique<PeerThatReadsNothing>();
    auto connection = ConnectGrpc({.address = peer->address(), .paths = {"", "/wire.Test/Publish"}},
                                  Deadline::After(seconds(30)));
    ASSERT_TRUE(connection.ok()) << connection.status();
    const auto publish = [&](Duration timeout, const std::shared_ptr<CallObserver>& observer) {
      return connection->channel->Start({.method = kPublish,
                                         .message = "",
                                         .bulk = SharedBytes(AsBytes(bulk), nullptr),
                                         .deadline = Deadline::After(timeout)},
                                        observer);
    };
    const TimePoint begin = Clock::Steady().Now();
    const auto first = std::make_shared<RecordingObserver>();
    const auto second = std::make_shared<RecordingObserver>();
    const auto last = std::make_shared<RecordingObserver>();
    const auto call = publish(cancel ? seconds(60) : milliseconds(500), first);
    publish(milliseconds(1'000), second);
    publish(seconds(60), last);
    EXPECT_TRUE(absl::IsDeadlineExceeded(second->WaitDone()));
    if (cancel) call->Cancel();
    const absl::Status status = first->WaitDone();
    EXPECT_TRUE(cancel ? absl::IsCancelled(status) : absl::IsDeadlineExceeded(status)) << status;
    // Sooner than keep-alive finds out about the peer.
    EXPECT_LT(Clock::Steady().Now() - begin, seconds(4));
    EXPECT_FALSE(last->done());
    peer.reset();
    EXPECT_TRUE(absl::IsUnavailable(last->WaitDone()));
  }
}

}  // namespace
}  // namespace reprise::transport
