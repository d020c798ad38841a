#include "client/fake_store.h"

#include <algorithm>
#include <utility>

#include "proto/reprise.pb.h"

namespace reprise::client {
namespace {

class FakeSession final : public transport::Session {};

Key KeyOf(const std::string& bytes) { return Key{Digest::FromBytes(bytes).value_or(Digest{})}; }

v1::PieceInfo Describe(const std::vector<std::byte>& container) {
  v1::PieceInfo info;
  const auto meta = PieceMeta::Parse(container);
  if (!meta.ok()) {
    info.set_content_id(std::string(32, 'x'));
    info.add_levels()->set_bytes(container.size());
    info.set_planes_held(1);
    return info;
  }
  info.set_content_id(std::string(meta->header().content_id.digest.AsString()));
  for (const Level& level : meta->header().levels) {
    v1::LevelInfo& described = *info.add_levels();
    described.set_bytes(meta->meta_bytes() + level.body_bytes);
    described.set_key_distortion(level.Worst().key);
    described.set_value_distortion(level.Worst().value);
  }
  info.set_planes_held(meta->level_count());
  info.set_tier(v1::HOST);
  return info;
}

template <typename T>
void Answer(transport::Responder& responder, const T& reply, ByteSpan bulk = {}) {
  responder.Send({.message = reply.SerializeAsString(),
                  .bulk = bulk.empty() ? SharedBytes() : SharedBytes::CopyOf(bulk)});
}

}  // namespace

absl::StatusOr<transport::HelloReply> FakeStore::Hello(std::string_view, std::string_view) {
  return transport::HelloReply{.session = std::make_shared<FakeSession>(), .message = ""};
}

void FakeStore::SessionLost(const std::shared_ptr<transport::Session>&) {}

void FakeStore::Handle(transport::Request request,
                       std::unique_ptr<transport::Responder> responder) {
  Intercept intercept;
  {
    MutexLock lock(mutex_);
    ++requests_[request.method];
    requested_.notify_all();
    intercept = intercept_;
  }
  if (intercept && intercept(request, responder)) return;
  static const std::map<int, Handler> handlers = {{v1::LOOKUP, &FakeStore::Lookup},
                                                  {v1::PUBLISH, &FakeStore::Publish},
                                                  {v1::FETCH, &FakeStore::Fetch},
                                                  {v1::STAT, &FakeStore::Stat},
                                                  {v1::REMOVE, &FakeStore::Remove}};
  const auto handler = handlers.find(request.method);
  if (handler == handlers.end())
    return responder->Complete(absl::UnimplementedError("no such method"));
  responder->Complete((this->*handler->second)(request, *responder));
}

absl::Status FakeStore::Lookup(const transport::Request& request, transport::Responder& responder) {
  v1::LookupRequest asked;
  if (!asked.ParseFromString(request.message)) return absl::InvalidArgumentError("lookup");
  v1::LookupReply reply;
  MutexLock lock(mutex_);
  for (const std::string& key : asked.keys()) {
    const auto found = pieces_.find(KeyOf(key));
    if (found == pieces_.end() && asked.stop_at_absent()) break;
    v1::PieceInfo& info = *reply.add_pieces();
    if (found == pieces_.end()) continue;
    info = Describe(found->second);
    reply.set_held_ms(std::min(asked.hold_ms(), static_cast<uint32_t>(max_hold_.count())));
  }
  Answer(responder, reply);
  return absl::OkStatus();
}

absl::Status FakeStore::Publish(const transport::Request& request,
                                transport::Responder& responder) {
  v1::PublishRequest step;
  if (!step.ParseFromString(request.message)) return absl::InvalidArgumentError("publish");
  v1::PublishReply reply;
  MutexLock lock(mutex_);
  uint64_t id = step.upload_id();
  if (id == 0) {
    if (pieces_.contains(KeyOf(step.key()))) {
      reply.set_outcome(v1::PublishReply::ALREADY_HELD);
      Answer(responder, reply);
      return absl::OkStatus();
    }
    id = next_upload_++;
    uploads_[id] = {.key = KeyOf(step.key()),
                    .container = std::vector<std::byte>(step.total_bytes()),
                    .missing = step.total_bytes()};
  }
  Upload& upload = uploads_.at(id);
  const ByteSpan bulk = request.bulk.bytes();
  if (step.offset() + bulk.size() > upload.container.size())
    return absl::InvalidArgumentError("offset");
  std::copy(bulk.begin(), bulk.end(),
            upload.container.begin() + static_cast<ptrdiff_t>(step.offset()));
  upload.missing -= bulk.size();
  reply.set_upload_id(id);
  reply.set_outcome(v1::PublishReply::IN_PROGRESS);
  if (upload.missing == 0) {
    pieces_[upload.key] = std::move(upload.container);
    uploads_.erase(id);
    reply.set_outcome(v1::PublishReply::STORED);
  }
  Answer(responder, reply);
  return absl::OkStatus();
}

absl::Status FakeStore::Fetch(const transport::Request& request, transport::Responder& responder) {
  v1::FetchRequest asked;
  if (!asked.ParseFromString(request.message)) return absl::InvalidArgumentError("fetch");
  MutexLock lock(mutex_);
  for (int i = 0; i < asked.pieces_size(); ++i) {
    v1::FetchPart part;
    part.set_piece(static_cast<uint32_t>(i));
    const auto found = pieces_.find(KeyOf(asked.pieces(i).key()));
    if (found == pieces_.end()) {
      part.set_miss(v1::ABSENT);
      Answer(responder, part);
      continue;
    }
    const ByteSpan container = found->second;
    const auto size = PieceMeta::PeekMetaBytes(container);
    const size_t meta_bytes = size.ok() ? *size : container.size();
    const auto meta = PieceMeta::Parse(container);
    part.mutable_opening()->set_meta(
        std::string(AsText(container.first(std::min(meta_bytes, container.size())))));
    if (!meta.ok()) {
      Answer(responder, part);
      continue;
    }
    const uint32_t level = std::min(asked.pieces(i).level(), meta->level_count() - 1);
    part.mutable_opening()->set_level(level);
    part.mutable_opening()->set_content_id(
        std::string(meta->header().content_id.digest.AsString()));
    Answer(responder, part);
    const bool all_layers = asked.pieces(i).layer_end() == 0;
    const auto runs =
        meta->Resolve(asked.pieces(i).layer_begin(),
                      all_layers ? meta->layer_count() : asked.pieces(i).layer_end(), level);
    for (const SegmentRun& run : *runs) {
      uint32_t first = run.first;
      while (first < run.first + run.count) {
        SegmentRun sent{.first = first, .count = 1};
        while (sent.first + sent.count < run.first + run.count &&
               meta->RangeOf({sent.first, sent.count + 1}).length <= part_bytes_) {
          ++sent.count;
        }
        v1::PieceSegments::Run& announced = *part.mutable_segments()->add_runs();
        announced.set_first(sent.first);
        announced.set_count(sent.count);
        const ByteRange range = meta->RangeOf(sent);
        Answer(responder, part, container.subspan(meta_bytes + range.offset, range.length));
        part.mutable_segments()->clear_runs();
        first += sent.count;
      }
    }
  }
  return absl::OkStatus();
}

absl::Status FakeStore::Stat(const transport::Request& request, transport::Responder& responder) {
  v1::StatRequest asked;
  if (!asked.ParseFromString(request.message)) return absl::InvalidArgumentError("stat");
  v1::StatReply reply;
  MutexLock lock(mutex_);
  const auto found = pieces_.find(KeyOf(asked.key()));
  if (found != pieces_.end()) {
    const auto meta = PieceMeta::Parse(found->second);
    const ByteSpan container = found->second;
    if (asked.verify() &&
        !(meta.ok() &&
          meta->VerifyBody(container.subspan(meta->meta_bytes()), meta->level_count() - 1).ok())) {
      reply.set_dropped_as_corrupt(true);
      pieces_.erase(found);
    } else {
      *reply.mutable_info() = Describe(found->second);
      reply.set_meta(std::string(AsText(container.first(meta->meta_bytes()))));
    }
  }
  Answer(responder, reply);
  return absl::OkStatus();
}

absl::Status FakeStore::Remove(const transport::Request& request, transport::Responder& responder) {
  v1::RemoveRequest asked;
  if (!asked.ParseFromString(request.message)) return absl::InvalidArgumentError("remove");
  v1::RemoveReply reply;
  MutexLock lock(mutex_);
  for (const std::string& key : asked.keys())
    reply.set_removed(reply.removed() + pieces_.erase(KeyOf(key)));
  Answer(responder, reply);
  return absl::OkStatus();
}

void FakeStore::set_intercept(Intercept intercept) {
  MutexLock lock(mutex_);
  intercept_ = std::move(intercept);
}

void FakeStore::set_max_hold(std::chrono::milliseconds max_hold) {
  MutexLock lock(mutex_);
  max_hold_ = max_hold;
}

void FakeStore::set_part_bytes(size_t part_bytes) {
  MutexLock lock(mutex_);
  part_bytes_ = part_bytes;
}

std::vector<Key> FakeStore::keys() const {
  MutexLock lock(mutex_);
  std::vector<Key> keys;
  for (const auto& [key, container] : pieces_) keys.push_back(key);
  return keys;
}

std::vector<std::byte> FakeStore::Container(const Key& key) const {
  MutexLock lock(mutex_);
  const auto found = pieces_.find(key);
  return found == pieces_.end() ? std::vector<std::byte>() : found->second;
}

void FakeStore::Put(const Key& key, std::vector<std::byte> container) {
  MutexLock lock(mutex_);
  pieces_[key] = std::move(container);
}

void FakeStore::Erase(const Key& key) {
  MutexLock lock(mutex_);
  pieces_.erase(key);
}

int FakeStore::requests(int method) const {
  MutexLock lock(mutex_);
  const auto found = requests_.find(method);
  return found == requests_.end() ? 0 : found->second;
}

void FakeStore::WaitForRequests(int method, int count) {
  MutexLock lock(mutex_);
  while (requests_[method] < count) requested_.wait(mutex_);
}

absl::StatusOr<std::unique_ptr<transport::Channel>> LoopbackConnector::Open(Deadline /*deadline*/) {
  transport::LoopbackServer* const server = server_();
  if (server == nullptr) return absl::UnavailableError("no store is running");
  REPRISE_ASSIGN_OR_RETURN(transport::LoopbackConnection connection, server->Connect(""));
  return std::move(connection.channel);
}

}  // namespace reprise::client
