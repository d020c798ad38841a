#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "transport/conformance.h"

namespace reprise::transport {
namespace {

constexpr std::chrono::seconds kPatience{30};

// A fixed generator, so that expected bytes depend on nothing under test.
uint32_t NextRandom(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return state >> 8;
}

// Eight bytes a step, because sanitized builds fill megabytes with it.
void FillRandom(MutableByteSpan bytes, uint32_t seed) {
  uint64_t state = seed * uint64_t{2654435761} + 1;
  while (!bytes.empty()) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t value = state ^ (state >> 29);
    const size_t count = std::min(sizeof(value), bytes.size());
    std::memcpy(bytes.data(), &value, count);
    bytes = bytes.subspan(count);
  }
}

}  // namespace

std::string TestMessage(size_t size, uint32_t seed) {
  constexpr size_t kHeader = 6;  // tag of field 1, then its length as a varint of five bytes
  std::string message;
  message.reserve(size);
  if (size < kHeader) {
    // Field 1 as varints: of two bytes in the first field when the size is odd, else of one.
    uint32_t state = seed;
    if (size % 2 == 1) {
      message += '\x08';
      message += static_cast<char>(0x80 | (NextRandom(state) & 0x7f));
      message += '\x01';
    }
    while (message.size() < size) {
      message += '\x08';
      message += static_cast<char>(NextRandom(state) & 0x7f);
    }
    return message;
  }
  const size_t payload = size - kHeader;
  message += '\x0a';
  for (int shift = 0; shift < 28; shift += 7) {
    message += static_cast<char>(0x80 | ((payload >> shift) & 0x7f));
  }
  message += static_cast<char>(payload >> 28);
  message.resize(size);
  FillRandom(std::as_writable_bytes(std::span(message.data() + kHeader, payload)), seed);
  return message;
}

SharedBytes TestBulk(size_t size, uint32_t seed) {
  auto memory = std::make_shared<std::vector<std::byte>>(size);
  FillRandom(*memory, seed);
  return SharedBytes(*memory, memory);
}

void Event::Set() {
  MutexLock lock(mutex_);
  set_ = true;
  wake_.notify_all();
}

bool Event::Wait() { return WaitFor(kPatience); }

bool Event::WaitFor(Duration timeout) {
  const TimePoint until = Clock::Steady().Now() + timeout;
  MutexLock lock(mutex_);
  while (!set_) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) return set_;
  }
  return true;
}

bool Event::is_set() {
  MutexLock lock(mutex_);
  return set_;
}

void TestService::On(MethodId method, Handler handler) {
  MutexLock lock(mutex_);
  handlers_[method] = std::move(handler);
}

absl::StatusOr<HelloReply> TestService::Hello(std::string_view message, std::string_view endpoint) {
  ++hellos_;
  if (message != kGoodHello) return absl::UnauthenticatedError("the test refuses this hello");
  auto session = std::make_shared<TestSession>();
  session->endpoint = endpoint;
  return HelloReply{session, std::string(kHelloReply)};
}

void TestService::Handle(Request request, std::unique_ptr<Responder> responder) {
  Handler handler;
  {
    MutexLock lock(mutex_);
    const auto found = handlers_.find(request.method);
    if (found != handlers_.end()) handler = found->second;
  }
  if (!handler) return responder->Complete(absl::UnimplementedError("no handler in this test"));
  handler(std::move(request), std::move(responder));
}

void TestService::SessionLost(const std::shared_ptr<Session>& session) {
  MutexLock lock(mutex_);
  lost_.push_back(session);
  wake_.notify_all();
}

bool TestService::WaitForLostSessions(int count) {
  const TimePoint until = Clock::Steady().Now() + kPatience;
  MutexLock lock(mutex_);
  while (lost_.size() < static_cast<size_t>(count)) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) return false;
  }
  return true;
}

std::vector<std::shared_ptr<Session>> TestService::lost() {
  MutexLock lock(mutex_);
  return lost_;
}

void RecordingObserver::OnPart(Part part) {
  EXPECT_FALSE(inside_.exchange(true)) << "two callbacks of one observer at once";
  EXPECT_FALSE(done()) << "a part after OnDone";
  std::vector<Part> kept;
  if (on_part_) {
    on_part_(std::move(part));
  } else {
    kept.push_back(std::move(part));
  }
  {
    MutexLock lock(mutex_);
    ++seen_;
    for (Part& one : kept) parts_.push_back(std::move(one));
    wake_.notify_all();
  }
  inside_ = false;
}

void RecordingObserver::OnDone(absl::Status status) {
  EXPECT_FALSE(inside_.exchange(true)) << "two callbacks of one observer at once";
  {
    MutexLock lock(mutex_);
    EXPECT_FALSE(done_.has_value()) << "OnDone twice, the second time with " << status;
    done_ = std::move(status);
    wake_.notify_all();
  }
  inside_ = false;
}

absl::Status RecordingObserver::WaitDone() {
  const TimePoint until = Clock::Steady().Now() + kPatience;
  MutexLock lock(mutex_);
  while (!done_.has_value()) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) {
      return absl::DeadlineExceededError("test gave up");
    }
  }
  return *done_;
}

bool RecordingObserver::WaitParts(size_t count) {
  const TimePoint until = Clock::Steady().Now() + kPatience;
  MutexLock lock(mutex_);
  while (seen_ < count) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) return false;
  }
  return true;
}

bool RecordingObserver::done() {
  MutexLock lock(mutex_);
  return done_.has_value();
}

size_t RecordingObserver::parts_seen() {
  MutexLock lock(mutex_);
  return seen_;
}

std::vector<Part> RecordingObserver::TakeParts() {
  MutexLock lock(mutex_);
  return std::exchange(parts_, {});
}

void ParkedCalls::Park(Request request, std::unique_ptr<Responder> responder) {
  MutexLock lock(mutex_);
  parked_.push_back(Parked{std::move(request), std::move(responder)});
  wake_.notify_all();
}

std::optional<ParkedCalls::Parked> ParkedCalls::Take(Duration patience) {
  const TimePoint until = Clock::Steady().Now() + patience;
  MutexLock lock(mutex_);
  while (parked_.empty()) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) return std::nullopt;
  }
  Parked parked = std::move(parked_.front());
  parked_.pop_front();
  return parked;
}

void CarrierConformance::SetUp() {
  service_.On(kEcho, [](Request request, std::unique_ptr<Responder> responder) {
    responder->Send(Part{std::move(request.message), std::move(request.bulk)});
    responder->Complete(absl::OkStatus());
  });
  service_.On(kPark, [this](Request request, std::unique_ptr<Responder> responder) {
    parked_.Park(std::move(request), std::move(responder));
  });
  carrier_ = GetParam().make();
  absl::StatusOr<std::unique_ptr<Server>> server = carrier_->StartServer(service_);
  ASSERT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
}

std::unique_ptr<Channel> CarrierConformance::Connect() {
  absl::StatusOr<ConformanceConnection> connection = carrier_->Connect(
      *server_, std::string(kGoodHello), Deadline::After(std::chrono::seconds(30)));
  EXPECT_TRUE(connection.ok()) << connection.status();
  if (!connection.ok()) return nullptr;
  EXPECT_EQ(connection->hello_reply, kHelloReply);
  return std::move(connection->channel);
}

CallRequest CarrierConformance::MakeRequest(MethodId method, std::string message, SharedBytes bulk,
                                            Duration timeout) {
  return CallRequest{.method = method,
                     .message = std::move(message),
                     .bulk = std::move(bulk),
                     .deadline = Deadline::After(timeout)};
}

}  // namespace reprise::transport
