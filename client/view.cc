#include "client/view.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/host_port.h"

namespace reprise::client {

absl::StatusOr<View> ParseView(std::string_view addresses) {
  View view;
  for (size_t begin = 0; begin <= addresses.size();) {
    const size_t end = std::min(addresses.find(',', begin), addresses.size());
    const std::string address(addresses.substr(begin, end - begin));
    REPRISE_RETURN_IF_ERROR(ParseHostPort(address, "the store's address").status());
    for (const Node& node : view.nodes) {
      if (node.id == address) {
        return absl::InvalidArgumentError(
            absl::StrCat("the store ", address, " is named twice in the list"));
      }
    }
    view.nodes.push_back({.id = address, .address = address});
    begin = end + 1;
  }
  if (view.nodes.size() > kMaxNodes) {
    return absl::InvalidArgumentError(
        absl::StrCat(view.nodes.size(), " stores are named; at most ", kMaxNodes, " are allowed"));
  }
  return view;
}

}  // namespace reprise::client
