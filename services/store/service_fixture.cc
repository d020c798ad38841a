#include "services/store/service_fixture.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace reprise::store {
namespace {

class Collector final : public transport::CallObserver {
 public:
  void OnPart(transport::Part part) override {
    // Copied, so that the credit goes back to the store.
    part.bulk = SharedBytes::CopyOf(part.bulk.bytes());
    MutexLock lock(mutex_);
    result_.parts.push_back(std::move(part));
  }
  void OnDone(absl::Status status) override {
    MutexLock lock(mutex_);
    result_.status = std::move(status);
    done_ = true;
    wake_.notify_all();
  }
  CallResult Wait() {
    MutexLock lock(mutex_);
    while (!done_) wake_.wait(mutex_);
    return std::move(result_);
  }

 private:
  Mutex mutex_;
  CondVar wake_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  CallResult result_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

Key KeyNumber(uint32_t number) {
  Key key;
  for (size_t i = 0; i < 4; ++i) key.digest.bytes[i] = std::byte(number >> (24 - 8 * i));
  key.digest.bytes[31] = std::byte{0xab};
  return key;
}

std::vector<std::byte> MakeContainer(const Key& key, const PieceShape& shape,
                                     const Digest& fingerprint) {
  PieceHeader header;
  header.key = key;
  header.namespace_fingerprint = fingerprint;
  header.group_kind = GroupKind::kOpaque;
  header.slot = {
      .group = 0, .layer_begin = 0, .layer_end = shape.layers, .head_begin = 0, .head_end = 1};
  header.levels.resize(shape.planes);
  for (uint32_t level = 0; level < shape.planes; ++level) {
    const float more = 0.25f * static_cast<float>(shape.planes - 1 - level);
    header.levels[level].distortions.resize(shape.layers, {.key = shape.distortion + more});
  }
  std::vector<Segment> segments;
  for (uint16_t plane = 0; plane < shape.planes; ++plane) {
    for (uint32_t layer = 0; layer < shape.layers; ++layer) {
      segments.push_back({.plane = plane,
                          .part = TensorPart::kOpaque,
                          .layer = layer,
                          .length = shape.segment_bytes});
    }
  }
  absl::StatusOr<PieceLayout> layout = PieceLayout::Create(header, segments);
  EXPECT_TRUE(layout.ok()) << layout.status();
  std::vector<std::byte> container(layout->total_bytes());
  uint32_t state = shape.seed;
  for (uint32_t i = 0; i < segments.size(); ++i) {
    for (std::byte& byte : layout->SegmentBytes(i, container)) {
      state = state * 1664525u + 1013904223u;
      byte = std::byte(state >> 24);
    }
  }
  layout->Seal(container);
  return container;
}

ByteSpan CutTo(ByteSpan container, uint32_t planes) {
  return container.first(PieceMeta::Parse(container).value().bytes_to(planes - 1));
}

v1::PublishRequest FirstStepOf(const Key& key, ByteSpan container) {
  v1::PublishRequest request;
  request.set_key(std::string(key.digest.AsString()));
  request.set_total_bytes(container.size());
  request.set_content_id(std::string(32, 'c'));
  request.set_planes(1);
  const absl::StatusOr<PieceMeta> meta = PieceMeta::Parse(container);
  if (!meta.ok()) return request;
  const uint32_t level = meta->LevelEndingAt(container.size()).value_or(meta->level_count() - 1);
  request.set_content_id(std::string(meta->header().content_id.digest.AsString()));
  request.set_planes(level + 1);
  request.set_key_distortion(meta->header().levels[level].Worst().key);
  return request;
}

void ServiceTest::Start(StoreServiceOptions options, uint64_t budget_bytes, const Clock& clock) {
  server_.reset();
  service_.reset();
  pieces_ = storage::HostStore::Create({.budget_bytes = budget_bytes, .clock = &clock}).value();
  service_ = StoreService::Create(*pieces_, std::move(options), SystemRandom(), clock).value();
  server_ = transport::LoopbackServer::Create(service_->Face("loopback"));
}

ServiceTest::~ServiceTest() { server_.reset(); }

std::unique_ptr<transport::Channel> ServiceTest::Connect(const std::string& tenant,
                                                         const std::string& credential) {
  const auto door = server_->ConnectWithoutHello();
  v1::OpenSessionRequest open;
  open.set_tenant(tenant);
  open.set_credential(credential);
  const auto opened = Ask<v1::OpenSessionReply>(*door, v1::OPEN_SESSION, open);
  v1::HelloRequest hello;
  hello.set_token(opened.token());
  hello.set_lowest_version(1);
  hello.set_highest_version(1);
  auto connection = server_->Connect(hello.SerializeAsString());
  EXPECT_TRUE(connection.ok()) << connection.status();
  return std::move(connection->channel);
}

CallResult ServiceTest::Run(transport::Channel& channel, v1::Method method,
                            const std::string& message, SharedBytes bulk, uint32_t credit_parts) {
  const auto collector = std::make_shared<Collector>();
  channel.Start({.method = static_cast<transport::MethodId>(method),
                 .message = message,
                 .bulk = std::move(bulk),
                 .deadline = Deadline::After(std::chrono::seconds(60)),
                 .credit_parts = credit_parts},
                collector);
  return collector->Wait();
}

absl::StatusOr<v1::PublishReply> ServiceTest::Publish(transport::Channel& channel, const Key& key,
                                                      ByteSpan container, size_t step_bytes) {
  v1::PublishRequest request = FirstStepOf(key, container);
  v1::PublishReply reply;
  size_t offset = 0;
  while (offset < container.size()) {
    request.set_offset(offset);
    request.set_upload_id(reply.upload_id());
    const ByteSpan bulk =
        container.subspan(offset, std::min(step_bytes, container.size() - offset));
    const CallResult result =
        Run(channel, v1::PUBLISH, request.SerializeAsString(), SharedBytes::CopyOf(bulk));
    if (!result.status.ok()) return result.status;
    reply.ParseFromString(result.parts.at(0).message);
    if (reply.outcome() == v1::PublishReply::ALREADY_HELD) return reply;
    offset = reply.from_offset() > 0 ? reply.from_offset() : offset + bulk.size();
  }
  return reply;
}

std::vector<std::byte> ServiceTest::Store(transport::Channel& channel, const Key& key,
                                          const PieceShape& shape, const Digest& fingerprint) {
  std::vector<std::byte> container = MakeContainer(key, shape, fingerprint);
  const auto reply = Publish(channel, key, container);
  EXPECT_TRUE(reply.ok()) << reply.status();
  if (!reply.ok()) return container;
  EXPECT_EQ(reply->outcome(), v1::PublishReply::STORED);
  return container;
}

bool ServiceTest::HasMetric(const std::string& line) const {
  return ("\n" + service_->RenderMetrics()).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace reprise::store
