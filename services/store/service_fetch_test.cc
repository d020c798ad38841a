#include <cstring>
#include <map>

#include <gtest/gtest.h>

#include "services/store/service_fixture.h"

namespace reprise::store {
namespace {

// What a fetch brought of one piece: its segments' bytes by number, as the parts' runs say.
struct Fetched {
  std::string meta;
  uint32_t level = 0;
  std::string content_id;
  std::map<uint32_t, std::vector<std::byte>> segments;
  v1::MissReason miss = v1::MISS_UNSPECIFIED;
  size_t bulk_parts = 0;
};

void TakeSegments(const PieceMeta& meta, const v1::FetchPart& message, ByteSpan bulk,
                  Fetched& piece) {
  size_t at = 0;
  for (const auto& run : message.segments().runs()) {
    const uint64_t begin = meta.segments().at(run.first()).offset;
    for (uint32_t i = run.first(); i < run.first() + run.count(); ++i) {
      const Segment& segment = meta.segments().at(i);
      const ByteSpan bytes = bulk.subspan(at + segment.offset - begin, segment.length);
      EXPECT_TRUE(meta.VerifySegment(i, bytes).ok());
      EXPECT_TRUE(piece.segments.emplace(i, std::vector(bytes.begin(), bytes.end())).second);
    }
    at += meta.RangeOf({run.first(), run.count()}).length;
  }
  EXPECT_EQ(at, bulk.size());
  ++piece.bulk_parts;
}

class FetchTest : public ServiceTest {
 protected:
  void SetUp() override {
    ServiceTest::SetUp();
    channel_ = Connect();
  }

  static void Select(v1::FetchRequest& request, const Key& key, uint32_t level = 15,
                     uint32_t layer_begin = 0, uint32_t layer_end = 0) {
    v1::PieceSelection& piece = *request.add_pieces();
    piece.set_key(std::string(key.digest.AsString()));
    piece.set_level(level);
    piece.set_layer_begin(layer_begin);
    piece.set_layer_end(layer_end);
  }

  // Runs the fetch and checks the order of its parts. `containers` are the pieces asked for.
  std::vector<Fetched> Fetch(const v1::FetchRequest& request,
                             const std::vector<std::vector<std::byte>>& containers,
                             uint32_t credit_parts = 4) {
    const CallResult result =
        Run(*channel_, v1::FETCH, request.SerializeAsString(), {}, credit_parts);
    EXPECT_TRUE(result.status.ok()) << result.status;
    std::vector<Fetched> fetched(static_cast<size_t>(request.pieces_size()));
    int64_t last = -1;
    for (const transport::Part& part : result.parts) {
      v1::FetchPart message;
      EXPECT_TRUE(message.ParseFromString(part.message));
      Fetched& piece = fetched.at(message.piece());
      if (message.has_segments()) {
        EXPECT_EQ(message.piece(), last);
        const PieceMeta meta = PieceMeta::Parse(containers.at(message.piece())).value();
        TakeSegments(meta, message, part.bulk.bytes(), piece);
        continue;
      }
      EXPECT_EQ(message.piece(), last + 1);
      last = message.piece();
      piece.miss = message.miss();
      piece.meta = message.opening().meta();
      piece.level = message.opening().level();
      piece.content_id = message.opening().content_id();
    }
    EXPECT_EQ(last + 1, request.pieces_size());
    return fetched;
  }

  std::unique_ptr<transport::Channel> channel_;
};

TEST_F(FetchTest, AWholePieceComesBackByteForByte) {
  // 3 planes x 4 layers x 1.5 MiB: 18 MiB in parts of at most 8.
  const Key key = KeyNumber(1);
  const auto container =
      Store(*channel_, key, {.planes = 3, .layers = 4, .segment_bytes = 3 * kMiB / 2});
  v1::FetchRequest request;
  Select(request, key);
  for (const uint32_t credit : {1u, 2u, 8u}) {
    const Fetched piece = Fetch(request, {container}, credit).at(0);
    const PieceMeta meta = PieceMeta::Parse(container).value();
    EXPECT_EQ(piece.meta, AsText(ByteSpan(container).first(meta.meta_bytes())));
    EXPECT_EQ(piece.level, 2u);
    EXPECT_EQ(piece.content_id, meta.header().content_id.digest.AsString());
    ASSERT_EQ(piece.segments.size(), 12u);
    for (const auto& [index, bytes] : piece.segments) {
      EXPECT_EQ(0, std::memcmp(bytes.data(),
                               container.data() + meta.meta_bytes() + meta.segments()[index].offset,
                               bytes.size()));
    }
  }
  EXPECT_TRUE(HasMetric("reprise_store_fetch_pieces_total{result=\"hit\"} 3"));
}

TEST_F(FetchTest, LayersAndLevelsSelectSegments) {
  const Key key = KeyNumber(1);
  const auto container = Store(*channel_, key, {.planes = 4, .layers = 6, .segment_bytes = 3000});
  v1::FetchRequest request;
  Select(request, key, 2, 1, 3);
  request.mutable_pieces(0)->set_omit_meta(true);
  const Fetched piece = Fetch(request, {container}).at(0);
  EXPECT_EQ(piece.meta, "");
  EXPECT_EQ(piece.level, 2u);
  // Planes 0 to 2 of layers 1 and 2, in one gathered part.
  std::vector<uint32_t> indices;
  for (const auto& [index, bytes] : piece.segments) indices.push_back(index);
  EXPECT_EQ(indices, (std::vector<uint32_t>{1, 2, 7, 8, 13, 14}));
  EXPECT_EQ(piece.bulk_parts, 1u);
}

TEST_F(FetchTest, AReaderAsksForThePlanesItLacks) {
  const Key key = KeyNumber(1);
  const auto container = Store(*channel_, key, {.planes = 4, .layers = 2, .segment_bytes = 3000});
  v1::FetchRequest request;
  Select(request, key, 1);
  Select(request, key, 2);
  request.mutable_pieces(1)->set_first_plane(2);
  request.mutable_pieces(1)->set_omit_meta(true);
  Select(request, key, 15);
  request.mutable_pieces(2)->set_first_plane(3);
  const auto pieces = Fetch(request, {container, container, container});
  const auto indices = [](const Fetched& piece) {
    std::vector<uint32_t> found;
    for (const auto& [index, bytes] : piece.segments) found.push_back(index);
    return found;
  };
  EXPECT_EQ(indices(pieces[0]), (std::vector<uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(indices(pieces[1]), (std::vector<uint32_t>{4, 5}));
  EXPECT_EQ(indices(pieces[2]), (std::vector<uint32_t>{6, 7}));
  // Header and directory are left out for the one that asked.
  EXPECT_FALSE(pieces[0].meta.empty());
  EXPECT_TRUE(pieces[1].meta.empty());
  EXPECT_FALSE(pieces[2].meta.empty());
  EXPECT_EQ(pieces[1].level, 2u);
}

TEST_F(FetchTest, PlanesThatAreNotHeldAreNotSent) {
  const Key key = KeyNumber(1);
  const auto whole = MakeContainer(key, {.planes = 4});
  ASSERT_EQ(Publish(*channel_, key, CutTo(whole, 2))->outcome(), v1::PublishReply::STORED);
  v1::FetchRequest request;
  Select(request, key);
  Select(request, key);
  request.mutable_pieces(1)->set_first_plane(2);
  const auto pieces = Fetch(request, {whole, whole});
  EXPECT_EQ(pieces[0].level, 1u);
  EXPECT_EQ(pieces[0].segments.size(), 2u);
  EXPECT_EQ(pieces[1].level, 1u) << "below the first plane asked for: nothing follows";
  EXPECT_EQ(pieces[1].segments.size(), 0u);
  EXPECT_EQ(pieces[1].miss, v1::MISS_UNSPECIFIED);

  v1::LookupRequest lookup;
  lookup.add_keys(std::string(key.digest.AsString()));
  const auto found = Ask<v1::LookupReply>(*channel_, v1::LOOKUP, lookup);
  EXPECT_EQ(found.pieces(0).planes_held(), 2u);
  EXPECT_EQ(found.pieces(0).levels_size(), 4);
}

TEST_F(FetchTest, WithoutGatherBuffersRunsTravelAlone) {
  channel_.reset();
  Start({.gather_bytes = kMaxPartBytes});
  channel_ = Connect();
  const Key key = KeyNumber(1);
  const auto container = Store(*channel_, key, {.planes = 4, .layers = 6, .segment_bytes = 3000});
  v1::FetchRequest request;
  Select(request, key, 3, 1, 3);
  EXPECT_EQ(Fetch(request, {container}).at(0).bulk_parts, 1u);
  // Others have it all, as slow readers would.
  std::vector<std::shared_ptr<GatherPool::Buffer>> taken;
  const std::string readers(kMaxPartBytes / GatherPool::kLeastBytes, ' ');
  for (const char& reader : readers) {
    taken.push_back(service_->gather_pool().TryTake(&reader, GatherPool::kLeastBytes));
  }
  ASSERT_EQ(service_->gather_pool().free_bytes(), 0u);
  const Fetched piece = Fetch(request, {container}).at(0);
  EXPECT_EQ(piece.bulk_parts, 4u);
  EXPECT_EQ(piece.segments.size(), 8u);
  EXPECT_TRUE(HasMetric("reprise_store_gather_fallbacks_total 1"));
}

TEST_F(FetchTest, MissesSayWhyAndTheRestComes) {
  const auto first = Store(*channel_, KeyNumber(1));
  const auto third = Store(*channel_, KeyNumber(3), {.seed = 3});
  v1::FetchRequest request;
  Select(request, KeyNumber(1));
  Select(request, KeyNumber(2));
  Select(request, KeyNumber(3));
  request.mutable_pieces(2)->set_content_id(std::string(32, 'x'));
  Select(request, KeyNumber(3));
  request.mutable_pieces(3)->set_content_id(
      std::string(PieceMeta::Parse(third)->header().content_id.digest.AsString()));
  const auto pieces = Fetch(request, {first, {}, {}, third});
  EXPECT_EQ(pieces[0].segments.size(), 1u);
  EXPECT_EQ(pieces[1].miss, v1::ABSENT);
  EXPECT_EQ(pieces[2].miss, v1::OTHER_CONTENT);
  EXPECT_EQ(pieces[3].segments.size(), 1u);
  EXPECT_TRUE(HasMetric("reprise_store_fetch_pieces_total{result=\"miss\"} 2"));
}

TEST_F(FetchTest, ManyPiecesInOneCall) {
  std::vector<std::vector<std::byte>> containers;
  v1::FetchRequest request;
  for (uint32_t i = 0; i < 500; ++i) {
    containers.push_back(Store(*channel_, KeyNumber(i), {.segment_bytes = 100, .seed = i}));
    Select(request, KeyNumber(i));
  }
  const auto pieces = Fetch(request, containers, 2);
  for (const Fetched& piece : pieces) EXPECT_EQ(piece.segments.size(), 1u);
}

TEST_F(FetchTest, HostileRequestsAreRefused) {
  Store(*channel_, KeyNumber(1), {.layers = 4});
  const auto refusal = [&](const v1::FetchRequest& request) {
    return Run(*channel_, v1::FETCH, request.SerializeAsString()).status.code();
  };
  EXPECT_EQ(refusal({}), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Run(*channel_, v1::FETCH, "\x0a\xff").status.code(),
            absl::StatusCode::kInvalidArgument);
  v1::FetchRequest many;
  for (uint32_t i = 0; i < 4097; ++i) Select(many, KeyNumber(i));
  EXPECT_EQ(refusal(many), absl::StatusCode::kInvalidArgument);
  v1::FetchRequest short_key;
  short_key.add_pieces()->set_key("short");
  EXPECT_EQ(refusal(short_key), absl::StatusCode::kInvalidArgument);
  v1::FetchRequest short_content;
  Select(short_content, KeyNumber(1));
  short_content.mutable_pieces(0)->set_content_id("short");
  EXPECT_EQ(refusal(short_content), absl::StatusCode::kInvalidArgument);
  v1::FetchRequest planes;
  Select(planes, KeyNumber(1), 2);
  planes.mutable_pieces(0)->set_first_plane(3);
  EXPECT_EQ(refusal(planes), absl::StatusCode::kInvalidArgument);
  planes.mutable_pieces(0)->set_first_plane(UINT32_MAX);
  EXPECT_EQ(refusal(planes), absl::StatusCode::kInvalidArgument);
  for (const auto& [begin, end] : std::vector<std::pair<uint32_t, uint32_t>>{
           {0, 5}, {3, 3}, {3, 2}, {4, 0}, {UINT32_MAX, UINT32_MAX}, {0, UINT32_MAX}}) {
    v1::FetchRequest layers;
    Select(layers, KeyNumber(1), 0, begin, end);
    EXPECT_EQ(refusal(layers), absl::StatusCode::kInvalidArgument) << begin << " to " << end;
  }
}

TEST_F(FetchTest, APieceRemovedWhileItIsSentStaysWhole) {
  const Key key = KeyNumber(1);
  const auto container =
      Store(*channel_, key, {.planes = 1, .layers = 5, .segment_bytes = 4 * kMiB});
  // Holds every part back, so that the fetch waits for credit in the middle.
  class Holder final : public transport::CallObserver {
   public:
    void OnPart(transport::Part part) override {
      MutexLock lock(mutex_);
      if (!part.bulk.empty()) parts_.push_back(std::move(part.bulk));
      wake_.notify_all();
    }
    void OnDone(absl::Status status) override {
      MutexLock lock(mutex_);
      status_ = std::move(status);
      wake_.notify_all();
    }
    SharedBytes TakePart() {
      MutexLock lock(mutex_);
      while (parts_.empty() && !status_.has_value()) wake_.wait(mutex_);
      if (parts_.empty()) return {};
      SharedBytes part = std::move(parts_.front());
      parts_.erase(parts_.begin());
      return part;
    }
    absl::Status Status() {
      MutexLock lock(mutex_);
      while (!status_.has_value()) wake_.wait(mutex_);
      return *status_;
    }

   private:
    Mutex mutex_;
    CondVar wake_;
    std::vector<SharedBytes> parts_;
    std::optional<absl::Status> status_;
  };
  v1::FetchRequest request;
  Select(request, key);
  const auto holder = std::make_shared<Holder>();
  channel_->Start({.method = v1::FETCH,
                   .message = request.SerializeAsString(),
                   .bulk = {},
                   .deadline = Deadline::After(std::chrono::seconds(60)),
                   .credit_parts = 1},
                  holder);
  const PieceMeta meta = PieceMeta::Parse(container).value();
  size_t at = meta.meta_bytes();
  for (SharedBytes part = holder->TakePart(); !part.empty(); part = holder->TakePart()) {
    ASSERT_EQ(0, std::memcmp(part.data(), container.data() + at, part.size()));
    at += part.size();
    pieces_->Remove(1, key, nullptr);
    // Reuses the arena if the piece's bytes had been given back.
    if (at < container.size()) {
      Store(*Connect(), KeyNumber(uint32_t(at)),
            {.layers = 2, .segment_bytes = 8 * kMiB, .seed = 9});
    }
    part = SharedBytes();
  }
  EXPECT_TRUE(holder->Status().ok()) << holder->Status();
  EXPECT_EQ(at, container.size());
}

}  // namespace
}  // namespace reprise::store
