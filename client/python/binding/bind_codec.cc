// encode and EncodedPiece: the codec without a store, for whoever wants to know what levels cost.

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "module.h"
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "codec/codec.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: what nanobind's own examples call for

namespace reprise::python {
namespace {

// Immutable, so that threads may decode it at the same time.
struct EncodedPiece {
  std::vector<std::byte> container;
  PieceMeta meta;
};

absl::StatusOr<EncodedPiece> EncodeChecked(const Namespace& name_space, const PieceSlot& slot,
                                           uint64_t position, const GroupViews& views,
                                           CodecId codec, const Profile* profile) {
  PieceIdentity identity{.key = {}, .namespace_fingerprint = {}, .slot = slot};
  REPRISE_ASSIGN_OR_RETURN(identity.namespace_fingerprint, Fingerprint(name_space));
  identity.token_begin = position;
  REPRISE_ASSIGN_OR_RETURN(
      std::vector<std::byte> container,
      EncodePiece(name_space, identity, views.key, views.value, codec, profile));
  REPRISE_ASSIGN_OR_RETURN(PieceMeta meta, PieceMeta::Parse(container));
  return EncodedPiece{std::move(container), std::move(meta)};
}

EncodedPiece Encode(const Namespace& name_space, nb::handle key, nb::handle value, uint32_t slot,
                    uint64_t position, const std::string& codec,
                    const std::optional<std::string>& profile) {
  const std::vector<PieceSlot> slots = PiecesPerChunk(name_space);
  if (slot >= slots.size()) {
    throw nb::value_error(("slot is " + std::to_string(slot) + "; a chunk of the namespace has " +
                           std::to_string(slots.size()) + " pieces")
                              .c_str());
  }
  const Tensors tensors = ReadPiece(name_space, slots[slot].group, key, value);
  const CodecId id = ReadCodec(codec);
  std::optional<Profile> steps;
  if (profile) steps = ValueOrRaise(ParseProfile(*profile));
  absl::StatusOr<EncodedPiece> piece = absl::CancelledError();
  {
    nb::gil_scoped_release release;
    piece = EncodeChecked(name_space, slots[slot], position, tensors.views[0], id,
                          steps ? &*steps : nullptr);
  }
  return ValueOrRaise(std::move(piece));
}

// A tensor of the piece in memory of its own, [layers, tokens, KV heads, dims].
class OwnTensor {
 public:
  OwnTensor(const PieceHeader& header, uint32_t dims)
      : shape_{header.slot.layer_end - header.slot.layer_begin, header.token_count,
               header.slot.head_end - header.slot.head_begin, dims},
        dtype_(header.dtype),
        bytes_(shape_[0] * shape_[1] * shape_[2] * shape_[3] * DtypeBytes(dtype_)) {}

  TensorView view() {
    if (bytes_.empty()) return {};
    TensorView view{.data = bytes_.data(), .dtype = dtype_, .shape = {}, .stride_bytes = {}};
    auto stride = static_cast<int64_t>(DtypeBytes(dtype_));
    for (size_t axis = 4; axis-- > 0;) {
      view.shape[axis] = static_cast<uint32_t>(shape_[axis]);
      if (axis < 3) view.stride_bytes[axis] = stride;
      stride *= static_cast<int64_t>(shape_[axis]);
    }
    return view;
  }

  // As a numpy array, which takes the memory; None when the piece has no such tensor. numpy has no
  // bf16: its bits come as uint16.
  nb::object ToNumpy() && {
    if (bytes_.empty()) return nb::none();
    using nb::dlpack::dtype_code;
    const bool is_float = dtype_ == Dtype::kFp16 || dtype_ == Dtype::kFp32;
    const nb::dlpack::dtype dtype{
        static_cast<uint8_t>(is_float ? dtype_code::Float : dtype_code::UInt),
        static_cast<uint8_t>(8 * DtypeBytes(dtype_)), 1};
    auto memory = std::make_unique<std::vector<std::byte>>(std::move(bytes_));
    void* const data = memory->data();
    const nb::capsule owner(memory.release(), [](void* vector) noexcept {
      delete static_cast<std::vector<std::byte>*>(vector);
    });
    return nb::cast(nb::ndarray<nb::numpy>(data, 4, shape_.data(), owner, nullptr, dtype));
  }

 private:
  std::array<size_t, 4> shape_;
  Dtype dtype_;
  std::vector<std::byte> bytes_;
};

// Decodes what is left of a container that was cut to `level`, and nothing behind it.
absl::Status DecodeCut(const EncodedPiece& piece, uint32_t level, const TensorView& key,
                       const TensorView& value) {
  const ByteSpan container = ByteSpan(piece.container).first(piece.meta.bytes_to(level));
  const ByteSpan body = container.subspan(piece.meta.meta_bytes());
  REPRISE_RETURN_IF_ERROR(piece.meta.VerifyBody(body, level));
  REPRISE_ASSIGN_OR_RETURN(const std::unique_ptr<PieceDecoder> decoder,
                           PieceDecoder::Create(piece.meta, key, value));
  for (uint32_t i = 0; i < piece.meta.segments().size(); ++i) {
    const Segment& segment = piece.meta.segments()[i];
    if (segment.plane > level) break;
    REPRISE_RETURN_IF_ERROR(decoder->Take(i, body.subspan(segment.offset, segment.length)));
  }
  return decoder->Finish();
}

nb::tuple Decode(const EncodedPiece& self, std::optional<uint32_t> level) {
  const PieceHeader& header = self.meta.header();
  const uint32_t highest = self.meta.level_count() - 1;
  if (level.value_or(0) > highest) {
    throw nb::value_error(("level is " + std::to_string(*level) + "; the piece has levels 0 to " +
                           std::to_string(highest))
                              .c_str());
  }
  OwnTensor key(header, header.key_dim);
  OwnTensor value(header, header.value_dim);
  absl::Status decoded;
  {
    nb::gil_scoped_release release;
    decoded = DecodeCut(self, level.value_or(highest), key.view(), value.view());
  }
  if (!decoded.ok()) Raise(decoded);
  return nb::make_tuple(std::move(key).ToNumpy(), std::move(value).ToNumpy());
}

}  // namespace

void BindCodec(nb::module_& module) {
  nb::class_<EncodedPiece>(module, "EncodedPiece", "One piece as a store would hold it.")
      .def_prop_ro(
          "codec", [](const EncodedPiece& self) { return CodecName(self.meta.header().codec); },
          "\"raw\" or \"progressive\": what coded it, which may be raw where progressive was "
          "asked.")
      .def_prop_ro(
          "level_bytes",
          [](const EncodedPiece& self) {
            std::vector<uint64_t> bytes;
            for (uint32_t level = 0; level < self.meta.level_count(); ++level)
              bytes.push_back(self.meta.bytes_to(level));
            return bytes;
          },
          "Bytes of header, directory and planes 0..k, for each level k.")
      .def_prop_ro(
          "part_bytes",
          [](const EncodedPiece& self) {
            std::vector<std::array<uint64_t, 2>> bytes(self.meta.level_count());
            for (const Segment& segment : self.meta.segments())
              bytes[segment.plane][segment.part == TensorPart::kValue ? 1 : 0] += segment.length;
            return bytes;
          },
          nb::sig("def part_bytes(self) -> list[list[int]]"),
          "What K and V take of each plane, in bytes; header, directory and padding come on top.")
      .def_prop_ro(
          "meta_bytes", [](const EncodedPiece& self) { return self.meta.meta_bytes(); },
          "Bytes of header and directory.")
      .def_prop_ro(
          "distortions",
          [](const EncodedPiece& self) {
            nb::list levels;
            for (const Level& level : self.meta.header().levels) {
              const Distortion worst = level.Worst();
              levels.append(nb::make_tuple(worst.key, worst.value));
            }
            return levels;
          },
          nb::sig("def distortions(self) -> list[tuple[float, float]]"),
          "The worst layer's (K, V) relative L2 error at each level.")
      .def("decode", &Decode, "level"_a = nb::none(),
           nb::sig("def decode(self, level: int | None = None) -> "
                   "tuple[numpy.typing.NDArray[typing.Any], "
                   "numpy.typing.NDArray[typing.Any] | None]"),
           "K and V as a load at `level` gives them, from the bytes up to that level alone; None "
           "is the highest, which is exact. New arrays [layers, tokens, KV heads, dims], bf16 as "
           "uint16; V is None in groups without values.");
  module.def(
      "encode", &Encode, "namespace"_a, "key"_a, "value"_a = nb::none(), nb::kw_only(),
      "slot"_a = 0, "position"_a = 0, "codec"_a = "progressive", "profile"_a = nb::none(),
      nb::sig("def encode(namespace: Namespace, key: typing.Any, value: typing.Any = None, *, "
              "slot: int = 0, position: int = 0, codec: str = 'progressive', "
              "profile: str | None = None) -> EncodedPiece"),
      "Encodes one piece, at most a chunk, without a store. key and value are arrays as for "
      "Client.publish, of the layers and heads of PrefixKeys.slots[slot]; position is that of "
      "their first token in its sequence, which undoing rope depends on. profile is the "
      "text of the file that the namespace names.");
  module.def(
      "profile_name",
      [](const std::string& profile) { return ProfileName(ValueOrRaise(ParseProfile(profile))); },
      "profile"_a, "What Namespace.profile says of the profile with this text.");
}

}  // namespace reprise::python
