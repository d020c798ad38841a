// What an encoder may know of a model beforehand: how fine the steps of each layer and channel
// should be. `reprise calibrate` makes one from a dump. Pieces say which steps they have, so that
// decoding needs no profile; a namespace names the profile of its pieces by content.
//
// Plain values; functions are pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "chunk/namespace.h"
#include "common/sha256.h"
#include "common/status.h"

namespace reprise {

inline constexpr int32_t kCoarsestOctaves = -8;
inline constexpr int32_t kFinestOctaves = 7;
inline constexpr size_t kMaxProfileLayers = 1'000;
inline constexpr size_t kMaxProfileModelLength = 200;
inline constexpr size_t kMaxProfileChannels = size_t{1} << 23;       // of all layers
inline constexpr size_t kMaxProfileBytes = 2 * kMaxProfileChannels;  // of the text

struct Profile {
  // Octaves are how much finer a step is, within the limits above; they add up within a layer.
  struct Layer {
    int32_t key_octaves = 0;
    int32_t value_octaves = 0;
    std::vector<int8_t> key_channels;  // [KV heads, dims]; empty: all 0

    friend bool operator==(const Layer&, const Layer&) = default;
  };

  std::string model;          // for people; printable ASCII
  std::vector<Layer> layers;  // by the model's own number

  friend bool operator==(const Profile&, const Profile&) = default;
};

// The file's text; every profile has exactly one.
std::string Serialize(const Profile& profile);
// INVALID_ARGUMENT, naming the line, for anything that Serialize does not make; UNIMPLEMENTED for a
// later version.
absl::StatusOr<Profile> ParseProfile(absl::string_view text);

// What Namespace::profile says of it: the SHA-256 of its text, hexadecimal.
std::string ProfileName(const Profile& profile);

// That the profile is the one that the namespace names (null: none), and has its layers, heads and
// dims; INVALID_ARGUMENT otherwise.
absl::Status CheckProfile(const Namespace& name_space, const Profile* profile);

}  // namespace reprise
