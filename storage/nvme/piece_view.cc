#include "storage/nvme/piece_view.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace reprise::storage {

namespace {

// Expiry is kept apart, where it takes no room and is found without parsing.
std::vector<std::byte> EncodeWithoutExpiry(PieceRecord record) {
  record.summary.attributes.expires_at_s = 0;
  return EncodeRecord(record);
}

}  // namespace

// How a block of the slab begins; the record follows.
struct PieceView::Head {
  uint32_t space : 29;  // never 0: the slab's mark of a free block
  uint32_t unused : 3;  // bytes at the end of the block, which is a multiple of 8 long
  uint32_t expires_at_s;
  TrackedPiece* tracked;
  Key key;
};

PieceView::PieceView(size_t max_pieces)
    : spaces_(1),
      by_name_(0, Hash{this}, Equal{this}),
      in_order_(Order{this}),
      expiring_(ByExpiry{this}) {
  by_name_.reserve(max_pieces);
}

PieceView::Head PieceView::ReadHead(Number piece) const {
  Head head;
  std::memcpy(&head, slab_.Block(piece), sizeof(head));
  return head;
}

const std::byte* PieceView::KeyBytes(Number piece) const {
  return slab_.Block(piece) + offsetof(Head, key);
}

size_t PieceView::Hash::operator()(const Name& name) const {
  // Every byte of the key counts: a tenant chooses its keys, and must not be able to make them
  // collide for all.
  return absl::HashOf(name.tenant, name.key.digest.bytes);
}

size_t PieceView::Hash::operator()(Number piece) const {
  return (*this)(Name{view->tenant(piece), view->key(piece)});
}

bool PieceView::Equal::operator()(Number a, const Name& b) const {
  return std::memcmp(view->KeyBytes(a), b.key.digest.bytes.data(), sizeof(Digest::bytes)) == 0 &&
         view->tenant(a) == b.tenant;
}

bool PieceView::Order::operator()(Number a, Number b) const {
  const TenantId tenant_a = view->tenant(a);
  const TenantId tenant_b = view->tenant(b);
  if (tenant_a != tenant_b) return tenant_a < tenant_b;
  return std::memcmp(view->KeyBytes(a), view->KeyBytes(b), sizeof(Digest::bytes)) < 0;
}

bool PieceView::Order::operator()(Number a, const Position& b) const {
  const TenantId tenant = view->tenant(a);
  if (tenant != b.tenant) return tenant < b.tenant;
  return b.key != nullptr &&
         std::memcmp(view->KeyBytes(a), b.key->digest.bytes.data(), sizeof(Digest::bytes)) <= 0;
}

bool PieceView::ByExpiry::operator()(Number a, Number b) const {
  const uint32_t of_a = view->expires_at_s(a);
  const uint32_t of_b = view->expires_at_s(b);
  return of_a != of_b ? of_a < of_b : a < b;
}

std::optional<PieceView::Number> PieceView::FirstExpired(uint32_t now_s) const {
  if (expiring_.empty() || !HasExpired(*expiring_.begin(), now_s)) return std::nullopt;
  return *expiring_.begin();
}

bool PieceView::HasExpired(Number piece, uint32_t now_s) const {
  return PieceAttributes{.expires_at_s = expires_at_s(piece)}.ExpiredAt(now_s);
}

uint32_t PieceView::expires_at_s(Number piece) const { return ReadHead(piece).expires_at_s; }

ByteSpan PieceView::RecordBytes(Number piece, const Head& head) const {
  return ByteSpan(slab_.Block(piece), slab_.BlockBytes(piece) - head.unused).subspan(sizeof(Head));
}

std::optional<PieceView::Number> PieceView::Find(TenantId tenant, const Key& key) const {
  const auto found = by_name_.find(Name{tenant, key});
  if (found == by_name_.end()) return std::nullopt;
  return *found;
}

PieceView::Number PieceView::Insert(TenantId tenant, const Key& key, const PieceRecord& record) {
  const std::vector<std::byte> bytes = EncodeWithoutExpiry(record);
  const Number piece = slab_.Allocate(sizeof(Head) + bytes.size());
  const uint32_t expires_at_s = record.summary.attributes.expires_at_s;
  const uint32_t space = TakeSpace({tenant, record.summary.namespace_fingerprint});
  const size_t unused = slab_.BlockBytes(piece) - sizeof(Head) - bytes.size();
  const Head head{.space = space & ((1u << 29) - 1),
                  .unused = static_cast<uint32_t>(unused) & 7u,
                  .expires_at_s = expires_at_s,
                  .tracked = nullptr,
                  .key = key};
  std::byte* block = slab_.Block(piece);
  std::memcpy(block, &head, sizeof(head));
  std::memcpy(block + sizeof(head), bytes.data(), bytes.size());
  if (!by_name_.insert(piece).second) std::abort();  // the caller has seen it absent
  in_order_.insert(in_order_.end(), piece);
  if (expires_at_s != 0) expiring_.insert(piece);
  return piece;
}

void PieceView::Erase(Number piece) {
  in_order_.erase(piece);
  expiring_.erase(piece);
  by_name_.erase(piece);
  LeaveSpace(ReadHead(piece).space);
  slab_.Free(piece);
}

bool PieceView::Exists(Number piece) const { return ReadHead(piece).space != 0; }

PieceRecord PieceView::record(Number piece) const {
  const Head head = ReadHead(piece);
  absl::StatusOr<PieceRecord> record = ParseRecord(RecordBytes(piece, head));
  if (!record.ok()) std::abort();  // we wrote it
  record->summary.attributes.expires_at_s = head.expires_at_s;
  record->summary.namespace_fingerprint = spaces_[head.space].space.fingerprint;
  return *record;
}

TenantId PieceView::tenant(Number piece) const {
  return spaces_[ReadHead(piece).space].space.tenant;
}

Key PieceView::key(Number piece) const {
  Key key;
  std::memcpy(key.digest.bytes.data(), KeyBytes(piece), sizeof(Digest::bytes));
  return key;
}

void PieceView::Update(Number piece, const PieceRecord& record) {
  const std::vector<std::byte> bytes = EncodeWithoutExpiry(record);
  if (bytes.size() != RecordBytes(piece, ReadHead(piece)).size()) std::abort();  // other fields
  std::memcpy(slab_.Block(piece) + sizeof(Head), bytes.data(), bytes.size());
}

TrackedPiece* PieceView::tracked(Number piece) const { return ReadHead(piece).tracked; }

void PieceView::set_tracked(Number piece, TrackedPiece* tracked) {
  std::memcpy(slab_.Block(piece) + offsetof(Head, tracked), &tracked, sizeof(TrackedPiece*));
}

void PieceView::Walk(TenantId tenant, const Key* after,
                     absl::FunctionRef<bool(Number)> visit) const {
  for (auto at = in_order_.lower_bound(Position{tenant, after});
       at != in_order_.end() && this->tenant(*at) == tenant; ++at) {
    if (!visit(*at)) return;
  }
}

std::optional<PieceView::Number> PieceView::Next(TenantId tenant, const Key* after) const {
  const auto at = in_order_.lower_bound(Position{tenant, after});
  if (at == in_order_.end()) return std::nullopt;
  return *at;
}

const Digest& PieceView::fingerprint(Number piece) const {
  return spaces_[ReadHead(piece).space].space.fingerprint;
}

size_t PieceView::bytes() const {
  // Of the tree's nodes a third may be empty.
  return slab_.bytes() + by_name_.capacity() * (sizeof(Number) + 1) +
         (in_order_.size() + expiring_.size()) * sizeof(Number) * 3 / 2 +
         spaces_.capacity() * (sizeof(SpaceUse) + sizeof(Space) + 2 * sizeof(uint32_t) + 1);
}

uint32_t PieceView::TakeSpace(const Space& space) {
  const auto found = space_numbers_.find(space);
  if (found != space_numbers_.end()) {
    ++spaces_[found->second].pieces;
    return found->second;
  }
  uint32_t number = static_cast<uint32_t>(spaces_.size());
  if (free_spaces_.empty()) {
    spaces_.emplace_back();
  } else {
    number = free_spaces_.back();
    free_spaces_.pop_back();
  }
  spaces_[number] = {.space = space, .pieces = 1};
  space_numbers_.emplace(space, number);
  return number;
}

void PieceView::LeaveSpace(uint32_t number) {
  SpaceUse& use = spaces_[number];
  if (--use.pieces > 0) return;
  space_numbers_.erase(use.space);
  free_spaces_.push_back(number);
}

}  // namespace reprise::storage
