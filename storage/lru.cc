#include "storage/lru.h"

#include <cstdlib>
#include <utility>

namespace reprise::storage {

struct LruPolicy::Name {
  TenantId tenant;
  uint64_t position;
  Key key;

  friend bool operator==(const Name&, const Name&) = default;
};

struct LruPolicy::Links {
  Links* older = this;
  Links* newer = this;
};

struct LruPolicy::Node final : TrackedPiece, Links {
  enum class Place : uint8_t { kNone, kInUseOrder, kLate };

  explicit Node(const Name& node_name) : TrackedPiece(0), name(node_name) {}
  using TrackedPiece::set_tag;

  bool may_be_victim() const { return resident && !held && children == 0; }

  // What Use touches comes first and lies together.
  Node* parent = nullptr;  // only while resident
  uint64_t last_use = 0;
  uint32_t children = 0;  // resident ones
  bool resident = false;  // false: known only as somebody's parent
  bool held = false;
  Place place = Place::kNone;
  const Name name;
};

size_t LruPolicy::NameHash::operator()(const Name& name) const {
  // Every byte of the key counts: a tenant chooses its keys, and must not be able to make them
  // collide for all.
  return absl::HashOf(name.tenant, name.position, name.key.digest.bytes);
}

size_t LruPolicy::NameHash::operator()(const std::unique_ptr<Node>& node) const {
  return (*this)(node->name);
}

bool LruPolicy::NameEqual::operator()(const std::unique_ptr<Node>& a, const Name& b) const {
  return a->name == b;
}

bool LruPolicy::NameEqual::operator()(const std::unique_ptr<Node>& a,
                                      const std::unique_ptr<Node>& b) const {
  return a->name == b->name;
}

bool LruPolicy::ByLastUse::operator()(const Node* a, const Node* b) const {
  return a->last_use < b->last_use;  // every use has its own number
}

LruPolicy::LruPolicy(size_t max_pieces) : in_use_order_(std::make_unique<Links>()) {
  // Twice: a piece and its absent parent. An eighth more: the table then never grows only to drop
  // its tombstones.
  nodes_.reserve(2 * max_pieces + max_pieces / 4);
}

LruPolicy::~LruPolicy() = default;

TrackedPiece* LruPolicy::Insert(const PolicyPiece& piece) {
  const PieceAttributes& attributes = piece.attributes;
  Node* node = FindOrAdd({piece.tenant, attributes.position, piece.key});
  if (node->resident) std::abort();  // the tier lost track of what it holds
  node->set_tag(piece.tag);
  node->resident = true;
  node->last_use = ++uses_;
  if (attributes.parent.has_value() && attributes.position > 0) {
    node->parent = FindOrAdd({piece.tenant, attributes.position - 1, *attributes.parent});
    ++node->parent->children;
    Unplace(node->parent);
  }
  if (node->may_be_victim()) Append(node);
  return node;
}

void LruPolicy::Use(TrackedPiece* piece) {
  Node* node = static_cast<Node*>(piece);
  Unplace(node);
  node->last_use = ++uses_;
  if (node->may_be_victim()) Append(node);
}

void LruPolicy::Remove(TrackedPiece* piece) {
  Node* node = static_cast<Node*>(piece);
  Unplace(node);
  node->resident = false;
  node->held = false;
  if (Node* parent = std::exchange(node->parent, nullptr); parent != nullptr) {
    --parent->children;
    if (parent->may_be_victim()) Place(parent);
    if (!parent->resident && parent->children == 0) nodes_.erase(parent->name);
  }
  if (node->children == 0) nodes_.erase(node->name);
}

void LruPolicy::SetHeld(TrackedPiece* piece, bool held) {
  Node* node = static_cast<Node*>(piece);
  node->held = held;
  if (held) {
    Unplace(node);
  } else if (node->may_be_victim()) {
    Place(node);
  }
}

Victim LruPolicy::ChooseAmong(bool /*fresh_too*/, std::span<TrackedPiece* const> pieces) {
  Node* oldest = nullptr;
  for (TrackedPiece* const piece : pieces) {
    Node* const node = static_cast<Node*>(piece);
    if (!node->may_be_victim()) continue;
    if (oldest == nullptr || node->last_use < oldest->last_use) oldest = node;
  }
  return {.piece = oldest};
}

Victim LruPolicy::ChooseVictim(bool /*fresh_too*/,
                               absl::FunctionRef<bool(const TrackedPiece&)> can_evict) {
  Links* listed = in_use_order_->newer;
  auto late = late_.begin();
  while (listed != in_use_order_.get() || late != late_.end()) {
    Node* node = nullptr;
    const bool from_late =
        listed == in_use_order_.get() ||
        (late != late_.end() && (*late)->last_use < static_cast<Node*>(listed)->last_use);
    if (from_late) {
      node = *late++;
    } else {
      node = static_cast<Node*>(listed);
      listed = listed->newer;
    }
    if (can_evict(*node)) return {.piece = node};
  }
  return {};
}

size_t LruPolicy::fixed_bytes() const {
  return sizeof(*this) + sizeof(Links) + nodes_.capacity() * (sizeof(std::unique_ptr<Node>) + 1);
}

size_t LruPolicy::bytes_per_piece() const {
  // The node of the piece and that of an absent parent, and a place in `late_` whose tree nodes may
  // be half empty.
  constexpr size_t kLateBytes = 3 * sizeof(void*);  // each entry is a pointer
  return 2 * sizeof(Node) + kLateBytes;
}

LruPolicy::Node* LruPolicy::FindOrAdd(const Name& name) {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) found = nodes_.insert(std::make_unique<Node>(name)).first;
  return found->get();
}

void LruPolicy::Place(Node* node) {
  if (node->place != Node::Place::kNone) return;
  late_.insert(node);
  node->place = Node::Place::kLate;
}

void LruPolicy::Append(Node* node) {
  Links* ring = in_use_order_.get();
  node->older = ring->older;
  node->newer = ring;
  ring->older->newer = node;
  ring->older = node;
  node->place = Node::Place::kInUseOrder;
}

void LruPolicy::Unplace(Node* node) {
  if (node->place == Node::Place::kLate) late_.erase(node);
  if (node->place == Node::Place::kInUseOrder) {
    node->older->newer = node->newer;
    node->newer->older = node->older;
  }
  node->place = Node::Place::kNone;
}

}  // namespace reprise::storage
