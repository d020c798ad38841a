// Which stores there are: plain data, and the seam behind which it comes from a list given at the
// start or, later, from somewhere that changes it. Values; Membership is thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace reprise::client {

inline constexpr size_t kMaxNodes = 1024;

struct Node {
  std::string id;  // what placement hashes: keeps its pieces where they are for as long as it stays
  std::string address;  // gRPC, "host:port"
  uint32_t weight = 1;  // share of the runs beside the other nodes'; at least 1
};

struct View {
  uint64_t epoch = 0;  // another number for every other list
  std::vector<Node> nodes;
};

class Membership {
 public:
  virtual ~Membership() = default;
  // Never null, never without nodes. Called at the start of every operation: must not block.
  virtual std::shared_ptr<const View> Current() const = 0;
};

// The list that was given, for ever.
class StaticMembership final : public Membership {
 public:
  explicit StaticMembership(View view) : view_(std::make_shared<const View>(std::move(view))) {}
  std::shared_ptr<const View> Current() const override { return view_; }

 private:
  const std::shared_ptr<const View> view_;
};

// "host:port", or several with commas between; each is its own id. INVALID_ARGUMENT, quoting what
// is wrong, also for one that is named twice.
absl::StatusOr<View> ParseView(std::string_view addresses);

}  // namespace reprise::client
