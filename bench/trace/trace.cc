#include "bench/trace/trace.h"

#include <fstream>
#include <string>
#include <unordered_map>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include <yaml-cpp/yaml.h>

namespace reprise::bench {
namespace {

absl::Status Malformed(const std::string& path, uint64_t line, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(path, ", line ", line, ": ", what));
}

// Gives each id of the file its number, and checks that it always means the same prefix.
class Blocks {
 public:
  explicit Blocks(Trace* trace) : trace_(*trace) {}

  absl::StatusOr<Request> Read(const YAML::Node& object) {
    Request request{.seconds = object["timestamp"].as<double>() / 1000, .blocks = {}};
    if (!object["hash_ids"].IsSequence()) {
      return absl::InvalidArgumentError("hash_ids is missing, or no list");
    }
    for (const YAML::Node& node : object["hash_ids"]) {
      const auto id = node.as<uint64_t>();
      const Trace::Block block{
          .parent = request.blocks.empty() ? Trace::kNone : request.blocks.back(),
          .position = static_cast<uint32_t>(request.blocks.size())};
      const auto [known, is_new] =
          numbers_.try_emplace(id, static_cast<BlockId>(trace_.blocks.size()));
      if (is_new) {
        trace_.blocks.push_back(block);
      } else if (trace_.blocks[known->second].parent != block.parent) {
        return absl::InvalidArgumentError(
            absl::StrCat("block ", id, " has followed another block before"));
      }
      request.blocks.push_back(known->second);
    }
    return request;
  }

 private:
  Trace& trace_;
  std::unordered_map<uint64_t, BlockId> numbers_;
};

}  // namespace

absl::StatusOr<Trace> ReadTrace(const std::string& path, uint64_t first, uint64_t count) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot be read; is it a trace?"));
  Trace trace;
  Blocks blocks(&trace);
  std::string text;
  for (uint64_t line = 0; std::getline(file, text); ++line) {
    if (line < first) continue;
    if (line - first >= count) break;
    absl::StatusOr<Request> request;
    try {
      request = blocks.Read(YAML::Load(text));  // JSON is YAML
    } catch (const YAML::Exception& error) {
      return Malformed(path, line + 1, error.what());
    }
    if (!request.ok()) return Malformed(path, line + 1, request.status().message());
    trace.references += request->blocks.size();
    trace.requests.push_back(*std::move(request));
  }
  if (trace.requests.empty()) return Malformed(path, first + 1, "no request from here on");
  return trace;
}

}  // namespace reprise::bench
