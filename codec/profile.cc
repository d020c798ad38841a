#include "codec/profile.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace reprise {
namespace {

constexpr absl::string_view kFirstLine = "reprise profile 1";
constexpr absl::string_view kDigits = "0123456789abcdef";

bool IsPrintable(absl::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}

absl::Status WrongLine(size_t line, absl::string_view expected) {
  return absl::InvalidArgumentError(
      absl::StrCat("line ", line + 1, " of the profile should be \"", expected, "\""));
}

bool ReadOctaves(absl::string_view word, int32_t* octaves) {
  return absl::SimpleAtoi(word, octaves) && *octaves >= kCoarsestOctaves &&
         *octaves <= kFinestOctaves;
}

bool ReadLayer(absl::string_view line, size_t number, Profile::Layer* layer) {
  const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
  if ((words.size() != 6 && words.size() != 8) || words[0] != "layer" ||
      words[1] != absl::StrCat(number) || words[2] != "key" || words[4] != "value" ||
      !ReadOctaves(words[3], &layer->key_octaves) ||
      !ReadOctaves(words[5], &layer->value_octaves)) {
    return false;
  }
  if (words.size() == 6) return true;
  if (words[6] != "channels" || words[7].empty()) return false;
  for (const char digit : words[7]) {
    const size_t value = kDigits.find(digit);
    if (value == absl::string_view::npos) return false;
    layer->key_channels.push_back(
        static_cast<int8_t>(static_cast<int32_t>(value) + kCoarsestOctaves));
  }
  return true;
}

}  // namespace

std::string Serialize(const Profile& profile) {
  std::string text = absl::StrCat(kFirstLine, "\nmodel ", profile.model, "\n");
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const Profile::Layer& layer = profile.layers[i];
    absl::StrAppend(&text, "layer ", i, " key ", layer.key_octaves, " value ", layer.value_octaves);
    if (!layer.key_channels.empty()) text += " channels ";
    for (const int8_t octaves : layer.key_channels) {
      text += kDigits[static_cast<size_t>(
          std::clamp<int32_t>(octaves, kCoarsestOctaves, kFinestOctaves) - kCoarsestOctaves)];
    }
    text += '\n';
  }
  return text;
}

absl::StatusOr<Profile> ParseProfile(absl::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  if (lines[0] != kFirstLine) {
    if (absl::StartsWith(lines[0], "reprise profile ")) {
      return absl::UnimplementedError(absl::StrCat("the profile says \"", lines[0].substr(0, 40),
                                                   "\"; this build knows \"", kFirstLine, "\""));
    }
    return WrongLine(0, kFirstLine);
  }
  Profile profile;
  if (lines.size() < 2 || !absl::StartsWith(lines[1], "model ") || !IsPrintable(lines[1]) ||
      lines[1].size() > kMaxProfileModelLength + 6) {
    return WrongLine(1, "model NAME");
  }
  profile.model = std::string(lines[1].substr(6));
  for (size_t i = 2; i + 1 < lines.size(); ++i) {
    Profile::Layer layer;
    if (profile.layers.size() == kMaxProfileLayers || !ReadLayer(lines[i], i - 2, &layer)) {
      return WrongLine(i, absl::StrCat("layer ", i - 2, " key N value N [channels DIGITS]"));
    }
    profile.layers.push_back(std::move(layer));
  }
  if (Serialize(profile) != text) {
    return absl::InvalidArgumentError(
        "the profile is not written as reprise writes it (a number with leading zeros, or no "
        "newline at the end?)");
  }
  return profile;
}

std::string ProfileName(const Profile& profile) {
  return Sha256().Update(Serialize(profile)).Finish().Hex();
}

absl::Status CheckProfile(const Namespace& name_space, const Profile* profile) {
  const std::string name = profile == nullptr ? std::string() : ProfileName(*profile);
  if (name != name_space.profile) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the namespace names ",
        name_space.profile.empty() ? "no profile" : absl::StrCat("profile ", name_space.profile),
        ", given is ", name.empty() ? "none" : name));
  }
  if (profile == nullptr) return absl::OkStatus();
  for (const LayerGroup& group : name_space.groups) {
    for (const uint32_t number : group.layers) {
      if (number >= profile->layers.size()) {
        return absl::InvalidArgumentError(absl::StrCat("the profile of ", profile->model, " has ",
                                                       profile->layers.size(),
                                                       " layers, the namespace layer ", number));
      }
      const size_t channels = profile->layers[number].key_channels.size();
      const size_t expected = size_t{group.kv_heads} * group.key_dim;
      if (channels != 0 && channels != expected) {
        return absl::InvalidArgumentError(
            absl::StrCat("layer ", number, " of the profile of ", profile->model, " has ", channels,
                         " channels of K, the namespace ", group.kv_heads, " x ", group.key_dim));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace reprise
