// `reprise calibrate`: a profile from the Q of a dump.

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "absl/strings/str_cat.h"
#include <stdio.h>

#include "codec/calibration.h"
#include "codec/profile.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "common/limits.h"
#include "services/cli/commands.h"
#include "services/cli/file_io.h"
#include "services/cli/kv_dump.h"

namespace reprise::cli {
namespace {

namespace fs = std::filesystem;

// What is read at once; a single row may be larger.
constexpr uint64_t kBlockBytes = 4 * kMiB;
constexpr std::chrono::seconds kBetweenLines{2};

// A latent layer may have no Q; any other must.
bool MayLackQueries(const KvDump& dump, const KvDump::Text& text, uint32_t layer) {
  return dump.layers[layer].kind == GroupKind::kLatent &&
         !fs::exists(dump.File(text, layer, 'q', Dtype::kBf16)) &&
         !fs::exists(dump.File(text, layer, 'q', Dtype::kFp16));
}

// Before anything is read, so that what is missing shows at once.
absl::Status CheckQueryFiles(const KvDump& dump, const std::vector<KvDump::Text>& texts,
                             Dtype dtype) {
  size_t files = 0;
  for (const KvDump::Text& text : texts) {
    for (uint32_t layer = 0; layer < dump.layers.size(); ++layer) {
      if (MayLackQueries(dump, text, layer)) continue;
      REPRISE_RETURN_IF_ERROR(
          Annotate(CheckKvFile(dump, text, layer, 'q', dtype), "a profile is learnt from Q"));
      ++files;
    }
  }
  if (files > 0) return absl::OkStatus();
  return absl::NotFoundError(absl::StrCat(
      "a profile is learnt from Q, and ", dump.directory.string(), " has none: all of its ",
      dump.layers.size(), " layers are latent and without q files (docs/kv-dump.md)"));
}

absl::Status TakeText(const KvDump& dump, const KvDump::Text& text, uint32_t layer, Dtype dtype,
                      Calibration& calibration) {
  const uint64_t row_bytes = dump.RowBytes('q');
  const auto most = static_cast<uint32_t>(std::max<uint64_t>(1, kBlockBytes / row_bytes));
  std::vector<std::byte> block(std::min(most, text.tokens) * row_bytes);
  const auto head = static_cast<int64_t>(sizeof(uint16_t) * dump.head_dim);
  const auto row = static_cast<int64_t>(row_bytes);
  const fs::path path = dump.File(text, layer, 'q', dtype);
  std::ifstream file(path, std::ios::binary);
  for (uint32_t begin = 0; begin < text.tokens; begin += most) {
    const uint32_t rows = std::min(most, text.tokens - begin);
    if (!file.read(reinterpret_cast<char*>(block.data()),
                   static_cast<std::streamsize>(rows * row_bytes))) {
      return absl::NotFoundError(
          absl::StrCat("cannot read ", path.string(), ": ", strerror(errno)));
    }
    const TensorView queries{.data = block.data(),
                             .dtype = dtype,
                             .shape = {1, rows, dump.q_heads, dump.head_dim},
                             .stride_bytes = {row * rows, row, head}};
    REPRISE_RETURN_IF_ERROR(Annotate(
        calibration.Take(layer, dump.Group(layer), queries, uint64_t{text.first_position} + begin),
        dump.directory.string()));
  }
  return absl::OkStatus();
}

void PrintReport(const Profile& profile, const std::vector<KvDump::Text>& texts,
                 const CalibrateFlags& flags) {
  const uint64_t tokens =
      std::accumulate(texts.begin(), texts.end(), uint64_t{0},
                      [](uint64_t sum, const KvDump::Text& text) { return sum + text.tokens; });
  printf("%s: %zu layers, from the queries of %llu tokens in %zu texts\n", profile.model.c_str(),
         profile.layers.size(), static_cast<unsigned long long>(tokens), texts.size());
  printf("  %5s %10s %10s %10s\n", "layer", "coarsest", "finest", "mean");
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const std::vector<int8_t>& octaves = profile.layers[i].key_channels;
    if (octaves.empty()) {
      printf("  %5zu %10s\n", i, "no Q");
      continue;
    }
    const auto [low, high] = std::minmax_element(octaves.begin(), octaves.end());
    printf(
        "  %5zu %10d %10d %10.2f\n", i, int{*low}, int{*high},
        std::accumulate(octaves.begin(), octaves.end(), 0.0) / static_cast<double>(octaves.size()));
  }
  printf("wrote %s, profile %s\n", flags.output.c_str(), ProfileName(profile).c_str());
}

}  // namespace

absl::StatusOr<int> Calibrate(const CalibrateFlags& flags) {
  REPRISE_ASSIGN_OR_RETURN(const KvDump dump, ReadKvDump(flags.directory));
  REPRISE_ASSIGN_OR_RETURN(const std::vector<KvDump::Text> texts, ChooseTexts(dump, flags.texts));
  const Dtype dtype = flags.dtype == "fp16" ? Dtype::kFp16 : Dtype::kBf16;
  REPRISE_RETURN_IF_ERROR(CheckQueryFiles(dump, texts, dtype));
  const auto layers = static_cast<uint32_t>(dump.layers.size());
  REPRISE_ASSIGN_OR_RETURN(Calibration calibration, Calibration::Create(dump.model, layers));
  TimePoint next_line = Clock::Steady().Now() + kBetweenLines;
  for (uint32_t layer = 0; layer < layers; ++layer) {
    for (const KvDump::Text& text : texts) {
      if (MayLackQueries(dump, text, layer)) continue;
      REPRISE_RETURN_IF_ERROR(TakeText(dump, text, layer, dtype, calibration));
    }
    if (Clock::Steady().Now() < next_line) continue;
    fprintf(stderr, "%u of %u layers read\n", layer + 1, layers);
    next_line = Clock::Steady().Now() + kBetweenLines;
  }
  const Profile profile = calibration.Finish();
  if (std::ranges::all_of(profile.layers,
                          [](const auto& layer) { return layer.key_channels.empty(); })) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the queries in ", flags.directory,
        " say nothing: beyond the first 4 positions, all of them are zero or not finite"));
  }
  REPRISE_RETURN_IF_ERROR(WriteFile(flags.output, AsBytes(Serialize(profile))));
  PrintReport(profile, texts, flags);
  return kExitOk;
}

}  // namespace reprise::cli
