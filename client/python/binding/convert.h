// Between Python's objects and the client's types.
//
// Everything here runs with the GIL held. Errors are C++ exceptions that nanobind turns into
// Python's: ValueError for what the caller got wrong, TypeError for a wrong kind of object.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "chunk/keys.h"
#include "chunk/namespace.h"
#include "client/reprise.h"
#include "common/clock.h"
#include "common/status.h"

namespace reprise::python {

// Raises what reprise.errors makes of `status`, which is not OK.
[[noreturn]] void Raise(const absl::Status& status);

template <typename T>
T ValueOrRaise(absl::StatusOr<T> value) {
  if (!value.ok()) Raise(value.status());
  return *std::move(value);
}

// The tensors of a call, and what keeps their memory alive.
struct Tensors {
  std::vector<GroupViews> views;
  std::vector<nanobind::ndarray<nanobind::ro, nanobind::device::cpu>> owners;
};

// `groups` is one entry per layer group, each a (key, value) pair or a single array (a latent); for
// a namespace of one group the entry itself may be given. Arrays are numpy's, or any CPU array that
// speaks DLPack, of shape [layers, tokens, KV heads, dims] with a contiguous last axis and any
// strides else; 16-bit floats may come as uint16. Nothing is copied. `writable`: the call will
// write to them, so read-only arrays are refused.
Tensors ReadTensors(const Namespace& name_space, nanobind::handle groups, bool writable);

// The tensors of one piece of a group, as `views[0]`. `value` is None when the group has no values.
Tensors ReadPiece(const Namespace& name_space, uint32_t group, nanobind::handle key,
                  nanobind::handle value);

// Exactly 32 bytes. `what` names the argument.
Digest ReadDigest(nanobind::bytes bytes, const char* what);
nanobind::bytes WriteDigest(const Digest& digest);

// Seconds from now; ValueError unless positive.
Deadline ReadTimeout(double timeout_s);
std::chrono::milliseconds ReadMilliseconds(double seconds, const char* what);

Dtype ReadDtype(const std::string& name);
std::string DtypeName(Dtype dtype);
GroupKind ReadGroupKind(const std::string& name);
std::string GroupKindName(GroupKind kind);
RopePairing ReadRopePairing(const std::string& name);
std::string RopePairingName(RopePairing pairing);
RopeScaling ReadRopeScaling(const std::string& name);
std::string RopeScalingName(RopeScaling scaling);
Carrier ReadCarrier(const std::string& name);
CodecId ReadCodec(const std::string& name);
std::string CodecName(CodecId codec);

}  // namespace reprise::python
