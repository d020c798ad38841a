#include "proto/methods.h"

#include <algorithm>

#include "proto/reprise.pb.h"

namespace reprise {
namespace {

// OpenSession -> OPEN_SESSION.
std::string EnumName(const std::string& method) {
  std::string name;
  for (const char c : method) {
    const bool upper = c >= 'A' && c <= 'Z';
    if (upper && !name.empty()) name.push_back('_');
    name.push_back(upper ? c : static_cast<char>(c - 'a' + 'A'));
  }
  return name;
}

}  // namespace

std::vector<std::string> GrpcPaths() {
  const auto* file = v1::FetchRequest::descriptor()->file();
  const auto* service = file->FindServiceByName("Store");
  std::vector<std::string> paths(v1::Method_ARRAYSIZE);
  for (int i = 0; i < service->method_count(); ++i) {
    v1::Method number;
    if (!v1::Method_Parse(EnumName(service->method(i)->name()), &number)) continue;
    paths[static_cast<size_t>(number)] =
        "/" + service->full_name() + "/" + service->method(i)->name();
  }
  return paths;
}

std::optional<uint32_t> HighestCommonVersion(VersionRange ours, VersionRange theirs) {
  const uint32_t highest = std::min(ours.highest, theirs.highest);
  if (highest < std::max(ours.lowest, theirs.lowest)) return std::nullopt;
  return highest;
}

}  // namespace reprise
