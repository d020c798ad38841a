// `reprise put --kv`: the K and V of a dump, published chunk by chunk, and what each level of them
// costs.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include <stdio.h>

#include "services/cli/commands.h"
#include "services/cli/connection.h"
#include "services/cli/json_line.h"
#include "services/cli/kv_chunk.h"
#include "services/cli/kv_dump.h"
#include "services/cli/kv_prefix.h"

namespace reprise::cli {
namespace {

// What loading everything at one level takes.
struct LevelCost {
  uint64_t bytes = 0;
  double bits_per_value = 0;
  double ratio_to_16_bit = 0;
  Distortion distortion{};  // of the worst layer of any piece
};

uint64_t ValuesPerChunk(const Namespace& name_space) {
  uint64_t values = 0;
  for (const LayerGroup& group : name_space.groups) {
    values += group.layers.size() * group.kv_heads * (group.key_dim + group.value_dim);
  }
  return values * name_space.chunk_tokens;
}

// A piece with fewer levels than another counts with its last one.
std::vector<LevelCost> CostsOf(const LookupResult& held, uint64_t values) {
  std::vector<LevelCost> costs;
  for (const PieceState& piece : held.pieces) {
    costs.resize(std::max(costs.size(), piece.level_bytes.size()));
  }
  for (size_t level = 0; level < costs.size(); ++level) {
    LevelCost& cost = costs[level];
    for (const PieceState& piece : held.pieces) {
      if (piece.level_bytes.empty()) continue;
      const size_t own = std::min(level, piece.level_bytes.size() - 1);
      cost.bytes += piece.level_bytes[own];
      cost.distortion.key = std::max(cost.distortion.key, piece.distortions[own].key);
      cost.distortion.value = std::max(cost.distortion.value, piece.distortions[own].value);
    }
    cost.bits_per_value = 8.0 * static_cast<double>(cost.bytes) / static_cast<double>(values);
    cost.ratio_to_16_bit = 16 / cost.bits_per_value;
  }
  return costs;
}

void PrintJson(const KvDump::Text& text, const PrefixKeys& keys, const PublishResult& published,
               const std::vector<LevelCost>& costs, const Client& client) {
  std::vector<std::string> levels;
  for (size_t level = 0; level < costs.size(); ++level) {
    levels.push_back(JsonLine()
                         .Number("level", level)
                         .Number("bytes", costs[level].bytes)
                         .Number("bits_per_value", costs[level].bits_per_value)
                         .Number("ratio_to_16_bit", costs[level].ratio_to_16_bit)
                         .Number("key_distortion", double{costs[level].distortion.key})
                         .Number("value_distortion", double{costs[level].distortion.value})
                         .Line());
  }
  JsonLine()
      .Text("text", text.name)
      .Text("namespace", keys.fingerprint().Hex())
      .Number("tokens", keys.chunk_count() * keys.name_space().chunk_tokens)
      .Number("chunks", keys.chunk_count())
      .Number("pieces_stored", published.pieces_stored)
      .Number("pieces_already_held", published.pieces_already_held)
      .Number("bytes_sent", published.bytes_sent)
      .Number("replicas", published.replicas)
      .Text("carrier", client.carrier())
      .Raw("levels", absl::StrCat("[", absl::StrJoin(levels, ", "), "]"))
      .Print();
}

void PrintTable(const KvDump::Text& text, const PrefixKeys& keys, const PublishResult& published,
                const std::vector<LevelCost>& costs) {
  const uint64_t tokens = keys.chunk_count() * keys.name_space().chunk_tokens;
  printf("%s: %llu tokens in %zu chunks, %u pieces stored, %u already held, %.1f MB sent\n",
         text.name.c_str(), static_cast<unsigned long long>(tokens), keys.chunk_count(),
         published.pieces_stored, published.pieces_already_held,
         static_cast<double>(published.bytes_sent) / 1e6);
  if (tokens < text.tokens) {
    printf("  its last %llu tokens fill no chunk and were left out\n",
           static_cast<unsigned long long>(text.tokens - tokens));
  }
  printf("  %5s %14s %12s %12s %12s %12s\n", "level", "bytes", "bits/value", "x smaller",
         "lost of K", "lost of V");
  for (size_t level = 0; level < costs.size(); ++level) {
    const LevelCost& cost = costs[level];
    printf("  %5zu %14llu %12.2f %12.2f %12.4f %12.4f\n", level,
           static_cast<unsigned long long>(cost.bytes), cost.bits_per_value, cost.ratio_to_16_bit,
           double{cost.distortion.key}, double{cost.distortion.value});
  }
}

absl::StatusOr<PublishResult> PublishText(const KvDump& dump, const KvDump::Text& text,
                                          const PrefixKeys& keys, PublishOptions options,
                                          Connection& connection) {
  PublishResult sum;
  KvChunk chunk(dump, keys.name_space());
  for (uint32_t i = 0; i < keys.chunk_count(); ++i) {
    REPRISE_RETURN_IF_ERROR(chunk.Read(dump, text, i));
    options.first_chunk = i;
    REPRISE_ASSIGN_OR_RETURN(
        const PublishResult result,
        connection.client->Publish(keys, 1, chunk.views(), options, connection.deadline).Wait());
    sum.pieces_stored += result.pieces_stored;
    sum.pieces_already_held += result.pieces_already_held;
    sum.bytes_sent += result.bytes_sent;
    sum.replicas = i == 0 ? result.replicas : std::min(sum.replicas, result.replicas);
  }
  return sum;
}

}  // namespace

absl::StatusOr<int> PutKv(const PutFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const KvPrefixes prefixes, ReadKvPrefixes(flags.kv, flags.store.tenant));
  for (const KvPrefix& prefix : prefixes.texts) {
    REPRISE_RETURN_IF_ERROR(CheckKvFiles(prefixes.dump, prefix.text, prefixes.name_space.kv_dtype));
  }
  REPRISE_ASSIGN_OR_RETURN(Connection connection, Connect(flags.store));
  const PublishOptions options{
      .codec = flags.codec == "raw" ? CodecId::kRaw : CodecId::kProgressive,
      .profile = prefixes.profile,
      .durable = flags.durable,
      .ttl = std::chrono::seconds(flags.ttl_s)};
  if (!flags.store.json) {
    printf("namespace %s: %s, %s\n", prefixes.texts[0].keys.fingerprint().Hex().c_str(),
           prefixes.dump.model.c_str(), KvDtypeName(prefixes.name_space.kv_dtype));
  }
  for (const auto& [text, keys] : prefixes.texts) {
    REPRISE_ASSIGN_OR_RETURN(const PublishResult published,
                             PublishText(prefixes.dump, text, keys, options, connection));
    REPRISE_ASSIGN_OR_RETURN(const LookupResult held,
                             connection.client->Lookup(keys, {}, connection.deadline).Wait());
    if (held.chunks < keys.chunk_count()) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "of the ", keys.chunk_count(), " chunks of ", text.name, " the store has kept ",
          held.chunks, ": it has no room for all; raise its --memory, or put one --text"));
    }
    const std::vector<LevelCost> costs =
        CostsOf(held, keys.chunk_count() * ValuesPerChunk(keys.name_space()));
    if (flags.store.json) {
      PrintJson(text, keys, published, costs, *connection.client);
    } else {
      PrintTable(text, keys, published, costs);
    }
  }
  return kExitOk;
}

}  // namespace reprise::cli
