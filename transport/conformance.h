// What every carrier must do, as one GoogleTest suite run against each of them.
//
// A carrier joins by writing a CarrierUnderTest and, in a test file of its own that links
// transport_conformance:
//   INSTANTIATE_TEST_SUITE_P(Loopback, CarrierConformance,
//                            ::testing::Values(CarrierParam{"loopback", MakeLoopbackCarrier}),
//                            CarrierName);
// The suite talks to the carrier only through transport.h. Methods 1 to 15 are used; method
// kHelloMethod is left to the carrier. Messages are valid protobuf, because gRPC splits bulk off by
// field number.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "gtest/gtest.h"

#include "common/clock.h"
#include "common/mutex.h"
#include "transport/transport.h"

namespace reprise::transport {

inline constexpr MethodId kHelloMethod = 2;
inline constexpr MethodId kConformanceMethods = 16;

struct ConformanceConnection {
  std::unique_ptr<Channel> channel;
  std::string hello_reply;
};

// One way to set up a carrier. Made anew for each test, destroyed after its channels and servers.
class CarrierUnderTest {
 public:
  virtual ~CarrierUnderTest() = default;

  virtual absl::StatusOr<std::unique_ptr<Server>> StartServer(Service& service) = 0;

  // Connects to `server` and says hello. Blocks until `deadline` at most.
  virtual absl::StatusOr<ConformanceConnection> Connect(Server& server, std::string hello,
                                                        Deadline deadline) = 0;

  // Connects without saying hello. nullopt where the carrier cannot (its endpoints begin with
  // Hello).
  virtual std::optional<absl::StatusOr<std::unique_ptr<Channel>>> ConnectWithoutHello(
      Server& /*server*/, Deadline /*deadline*/) {
    return std::nullopt;
  }

  // Parts that a server may send ahead of a client that holds all it got, beyond the call's credit:
  // what the carrier buffers between the two. In parts of 1 MiB.
  virtual size_t parts_buffered_ahead() const { return 0; }
};

struct CarrierParam {
  std::string name;
  std::function<std::unique_ptr<CarrierUnderTest>()> make;
};

inline void PrintTo(const CarrierParam& param, std::ostream* out) { *out << param.name; }

inline std::string CarrierName(const ::testing::TestParamInfo<CarrierParam>& info) {
  return info.param.name;
}

// ---- what the suite's tests are written with; carriers' own tests may use it too ----

inline constexpr std::string_view kGoodHello = "\x0a\x04open";
inline constexpr std::string_view kHelloReply = "\x0a\x07welcome";

// A valid protobuf message of exactly `size` bytes (any but 1) without a field 15; differs by
// `seed`.
std::string TestMessage(size_t size, uint32_t seed);
// `size` bytes that differ by `seed`.
SharedBytes TestBulk(size_t size, uint32_t seed);

// Set once, waited for by any number of threads.
class Event {
 public:
  void Set();
  // False when it was not set within 30 s, which is long enough for any sanitizer.
  [[nodiscard]] bool Wait();
  [[nodiscard]] bool WaitFor(Duration timeout);
  bool is_set();

 private:
  Mutex mutex_;
  CondVar wake_;
  bool set_ ABSL_GUARDED_BY(mutex_) = false;
};

struct TestSession final : Session {
  std::string endpoint;
};

// Accepts kGoodHello, refuses any other with UNAUTHENTICATED, and runs for each method what the
// test set.
class TestService final : public Service {
 public:
  using Handler = std::function<void(Request, std::unique_ptr<Responder>)>;

  // Before the first call of the method.
  void On(MethodId method, Handler handler);

  absl::StatusOr<HelloReply> Hello(std::string_view message, std::string_view endpoint) override;
  void Handle(Request request, std::unique_ptr<Responder> responder) override;
  void SessionLost(const std::shared_ptr<Session>& session) override;

  int hellos() const { return hellos_; }
  // Waits until `count` sessions were lost. False after 30 s.
  [[nodiscard]] bool WaitForLostSessions(int count);
  std::vector<std::shared_ptr<Session>> lost();

 private:
  std::atomic<int> hellos_{0};
  Mutex mutex_;
  CondVar wake_;
  absl::flat_hash_map<MethodId, Handler> handlers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Session>> lost_ ABSL_GUARDED_BY(mutex_);
};

// Keeps what a call yields, and fails the test when the carrier breaks the observer's contract.
class RecordingObserver final : public CallObserver {
 public:
  // Given each part instead of keeping it.
  using OnPartHook = std::function<void(Part)>;
  explicit RecordingObserver(OnPartHook on_part = nullptr) : on_part_(std::move(on_part)) {}

  void OnPart(Part part) override;
  void OnDone(absl::Status status) override;

  // The status, or DEADLINE_EXCEEDED "test gave up" when OnDone did not come within 30 s.
  absl::Status WaitDone();
  // False when fewer than `count` parts came within 30 s.
  [[nodiscard]] bool WaitParts(size_t count);
  bool done();
  size_t parts_seen();
  // Hands over the parts kept so far; dropping them gives credit back.
  std::vector<Part> TakeParts();

 private:
  const OnPartHook on_part_;
  std::atomic<bool> inside_{false};
  Mutex mutex_;
  CondVar wake_;
  size_t seen_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Part> parts_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> done_ ABSL_GUARDED_BY(mutex_);
};

// Requests whose handler returned without an answer; the test takes each responder when it wants
// to.
class ParkedCalls {
 public:
  struct Parked {
    Request request;
    std::unique_ptr<Responder> responder;
  };

  void Park(Request request, std::unique_ptr<Responder> responder);
  // The oldest call parked and not taken; nullopt when there was none for that long.
  std::optional<Parked> Take(Duration patience = std::chrono::seconds(30));

 private:
  Mutex mutex_;
  CondVar wake_;
  std::deque<Parked> parked_ ABSL_GUARDED_BY(mutex_);
};

class CarrierConformance : public ::testing::TestWithParam<CarrierParam> {
 protected:
  void SetUp() override;

  // A connection after a good hello; fails the test and returns null when there is none.
  std::unique_ptr<Channel> Connect();

  static CallRequest MakeRequest(MethodId method, std::string message = "",
                                 SharedBytes bulk = SharedBytes(),
                                 Duration timeout = std::chrono::seconds(30));

  ParkedCalls parked_;
  TestService service_;
  std::unique_ptr<CarrierUnderTest> carrier_;
  std::unique_ptr<Server> server_;
};

// Methods that SetUp installs.
inline constexpr MethodId kEcho = 3;  // one part with the request's message and bulk, then OK
inline constexpr MethodId kPark = 4;  // keeps request and responder in parked_

}  // namespace reprise::transport
