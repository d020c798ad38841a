#include "convert.h"

#include <array>
#include <cmath>
#include <limits>
#include <string_view>
#include <utility>

#include <nanobind/stl/string.h>

namespace nb = nanobind;

namespace reprise::python {
namespace {

// Names of an enumeration's values, as Python writes them.
template <typename E, size_t N>
struct Names {
  const char* what;
  std::array<std::pair<const char*, E>, N> names;

  E Read(const std::string& name) const {
    std::string known;
    for (const auto& [text, value] : names) {
      if (name == text) return value;
      known += (known.empty() ? "\"" : ", \"") + std::string(text) + "\"";
    }
    throw nb::value_error(
        (std::string(what) + " is \"" + name + "\"; it must be one of " + known).c_str());
  }
  std::string Name(E wanted) const {
    for (const auto& [text, value] : names) {
      if (value == wanted) return text;
    }
    return "unknown";
  }
};

constexpr Names<Dtype, 4> kDtypes{"dtype",
                                  {{{"bf16", Dtype::kBf16},
                                    {"fp16", Dtype::kFp16},
                                    {"fp32", Dtype::kFp32},
                                    {"opaque", Dtype::kOpaque}}}};
constexpr Names<GroupKind, 5> kGroupKinds{"kind",
                                          {{{"full", GroupKind::kFullAttention},
                                            {"window", GroupKind::kSlidingWindow},
                                            {"latent", GroupKind::kLatent},
                                            {"state", GroupKind::kState},
                                            {"opaque", GroupKind::kOpaque}}}};
constexpr Names<RopePairing, 3> kRopePairings{"pairing",
                                              {{{"none", RopePairing::kNone},
                                                {"interleaved", RopePairing::kInterleaved},
                                                {"halves", RopePairing::kHalves}}}};
constexpr Names<RopeScaling, 5> kRopeScalings{"scaling",
                                              {{{"none", RopeScaling::kNone},
                                                {"linear", RopeScaling::kLinear},
                                                {"llama3", RopeScaling::kLlama3},
                                                {"yarn", RopeScaling::kYarn},
                                                {"per_pair", RopeScaling::kPerPair}}}};
constexpr Names<Carrier, 3> kCarriers{
    "carrier", {{{"auto", Carrier::kAuto}, {"ucx", Carrier::kUcx}, {"grpc", Carrier::kGrpc}}}};

constexpr Names<CodecId, 2> kCodecs{
    "codec", {{{"raw", CodecId::kRaw}, {"progressive", CodecId::kProgressive}}}};

// numpy cannot hand out ml_dtypes' bfloat16, its own extension, through DLPack or the buffer
// protocol; its bits it can.
nb::object WithPortableDtype(nb::handle array) {
  if (!nb::hasattr(array, "dtype") || !nb::hasattr(array, "__array_interface__"))
    return nb::borrow(array);
  const nb::object dtype = array.attr("dtype");
  if (!nb::hasattr(dtype, "name") || nb::cast<std::string>(dtype.attr("name")) != "bfloat16") {
    return nb::borrow(array);
  }
  return array.attr("view")("uint16");
}

bool IsFloat(const nb::dlpack::dtype& dtype, nb::dlpack::dtype_code code, uint8_t bits) {
  return dtype.code == static_cast<uint8_t>(code) && dtype.bits == bits && dtype.lanes == 1;
}

bool Matches(const nb::dlpack::dtype& dtype, Dtype wanted) {
  using nb::dlpack::dtype_code;
  switch (wanted) {
    case Dtype::kBf16:
      return IsFloat(dtype, dtype_code::Bfloat, 16) || IsFloat(dtype, dtype_code::UInt, 16);
    case Dtype::kFp16:
      return IsFloat(dtype, dtype_code::Float, 16) || IsFloat(dtype, dtype_code::UInt, 16);
    case Dtype::kFp32:
      return IsFloat(dtype, dtype_code::Float, 32);
    case Dtype::kOpaque:
      return IsFloat(dtype, dtype_code::UInt, 8);
  }
  return false;
}

// `Array` is nb::ndarray for CPU memory, read-only or not.
template <typename Array>
TensorView ViewOf(const Array& array, Dtype dtype, const std::string& name) {
  if (!Matches(array.dtype(), dtype)) {
    throw nb::value_error(
        (name + " has another dtype than the namespace gives its group, which is " +
         DtypeName(dtype) + (DtypeBytes(dtype) == 2 ? " (its bits may be given as uint16)" : ""))
            .c_str());
  }
  if (array.ndim() != 4) {
    throw nb::value_error((name + " has " + std::to_string(array.ndim()) +
                           " axes; it must have 4: layers, tokens, KV heads, dims")
                              .c_str());
  }
  TensorView view;
  view.dtype = dtype;
  for (size_t axis = 0; axis < 4; ++axis) {
    if (array.shape(axis) > std::numeric_limits<uint32_t>::max()) {
      throw nb::value_error((name + "'s axis " + std::to_string(axis) + " is too long").c_str());
    }
    view.shape[axis] = static_cast<uint32_t>(array.shape(axis));
  }
  if (array.shape(3) > 1 && array.stride(3) != 1) {
    throw nb::value_error((name + "'s last axis is not contiguous (stride " +
                           std::to_string(array.stride(3)) + " elements)")
                              .c_str());
  }
  const int64_t element_bytes = static_cast<int64_t>(DtypeBytes(dtype));
  for (size_t axis = 0; axis < 3; ++axis)
    view.stride_bytes[axis] = array.stride(axis) * element_bytes;
  // A view has one type of pointer for both directions; publishing only reads through it.
  view.data = static_cast<std::byte*>(const_cast<void*>(static_cast<const void*>(array.data())));
  return view;
}

TensorView ReadTensor(nb::handle object, Dtype dtype, bool writable, const std::string& name,
                      Tensors& out) {
  const nb::object array = WithPortableDtype(object);
  if (writable) {
    nb::ndarray<nb::device::cpu> destination;
    if (nb::try_cast(array, destination, false)) {
      out.owners.emplace_back(destination);
      return ViewOf(destination, dtype, name);
    }
  }
  nb::ndarray<nb::ro, nb::device::cpu> source;
  if (!nb::try_cast(array, source, false)) {
    throw nb::type_error(
        (name + " is neither a numpy array nor a CPU array that speaks DLPack").c_str());
  }
  if (writable) throw nb::value_error((name + " is read-only, and would be written to").c_str());
  out.owners.push_back(source);
  return ViewOf(source, dtype, name);
}

bool IsSequence(nb::handle object) {
  return nb::isinstance<nb::list>(object) || nb::isinstance<nb::tuple>(object);
}

void ReadGroup(const Namespace& name_space, nb::handle entry, size_t group, bool writable,
               Tensors& out) {
  const std::string name = "group " + std::to_string(group) + "'s ";
  // One group too many has no dtype; the client says so when it sees the views.
  const Dtype dtype = group < name_space.groups.size()
                          ? ShapeOf(name_space, name_space.groups[group], 1).dtype
                          : name_space.kv_dtype;
  GroupViews views;
  if (IsSequence(entry)) {
    if (nb::len(entry) != 2) {
      throw nb::value_error(("group " + std::to_string(group) + " has " +
                             std::to_string(nb::len(entry)) +
                             " arrays; it must have a key and a value")
                                .c_str());
    }
    views.key = ReadTensor(entry[0], dtype, writable, name + "key", out);
    views.value = ReadTensor(entry[1], dtype, writable, name + "value", out);
  } else {
    views.key = ReadTensor(entry, dtype, writable, name + "array", out);
  }
  out.views.push_back(views);
}

}  // namespace

void Raise(const absl::Status& status) {
  const nb::object error = nb::module_::import_("reprise.errors")
                               .attr("from_status")(absl::StatusCodeToString(status.code()),
                                                    std::string(status.message()));
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw nb::python_error();
}

Tensors ReadTensors(const Namespace& name_space, nb::handle groups, bool writable) {
  Tensors tensors;
  // A tuple, or a bare array, is one group's entry.
  if (!nb::isinstance<nb::list>(groups)) {
    ReadGroup(name_space, groups, 0, writable, tensors);
    return tensors;
  }
  size_t group = 0;
  for (nb::handle entry : groups) ReadGroup(name_space, entry, group++, writable, tensors);
  return tensors;
}

Tensors ReadPiece(const Namespace& name_space, uint32_t group, nb::handle key, nb::handle value) {
  const Dtype dtype = ShapeOf(name_space, name_space.groups[group], 1).dtype;
  Tensors tensors;
  GroupViews views;
  views.key = ReadTensor(key, dtype, false, "key", tensors);
  if (!value.is_none()) views.value = ReadTensor(value, dtype, false, "value", tensors);
  tensors.views.push_back(views);
  return tensors;
}

Digest ReadDigest(nb::bytes bytes, const char* what) {
  const auto digest = Digest::FromBytes(std::string_view(bytes.c_str(), bytes.size()));
  if (digest) return *digest;
  throw nb::value_error(
      (std::string(what) + " has " + std::to_string(bytes.size()) + " bytes; it must have 32")
          .c_str());
}

nb::bytes WriteDigest(const Digest& digest) {
  return nb::bytes(digest.bytes.data(), digest.bytes.size());
}

Deadline ReadTimeout(double timeout_s) {
  if (!(timeout_s > 0)) {
    throw nb::value_error(
        ("timeout is " + std::to_string(timeout_s) + " s; it must be positive").c_str());
  }
  const double longest_s = std::chrono::duration<double>(kMaxDeadline).count();
  return Deadline::After(std::chrono::duration_cast<Duration>(
      std::chrono::duration<double>(std::fmin(timeout_s, longest_s))));
}

std::chrono::milliseconds ReadMilliseconds(double seconds, const char* what) {
  const double longest_s = std::chrono::duration<double>(kMaxDeadline).count();
  if (seconds >= 0 && seconds <= longest_s) {
    return std::chrono::ceil<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
  }
  throw nb::value_error((std::string(what) + " is " + std::to_string(seconds) +
                         " s; it must be 0 to " + std::to_string(longest_s))
                            .c_str());
}

Dtype ReadDtype(const std::string& name) { return kDtypes.Read(name); }
std::string DtypeName(Dtype dtype) { return kDtypes.Name(dtype); }
GroupKind ReadGroupKind(const std::string& name) { return kGroupKinds.Read(name); }
std::string GroupKindName(GroupKind kind) { return kGroupKinds.Name(kind); }
RopePairing ReadRopePairing(const std::string& name) { return kRopePairings.Read(name); }
std::string RopePairingName(RopePairing pairing) { return kRopePairings.Name(pairing); }
RopeScaling ReadRopeScaling(const std::string& name) { return kRopeScalings.Read(name); }
std::string RopeScalingName(RopeScaling scaling) { return kRopeScalings.Name(scaling); }
Carrier ReadCarrier(const std::string& name) { return kCarriers.Read(name); }
CodecId ReadCodec(const std::string& name) { return kCodecs.Read(name); }
std::string CodecName(CodecId codec) { return kCodecs.Name(codec); }

}  // namespace reprise::python
