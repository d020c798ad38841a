// Namespace, LayerGroup, Rope and PrefixKeys.

#include <limits>
#include <tuple>

#include "convert.h"
#include "module.h"
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "chunk/keys.h"
#include "chunk/namespace.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: what nanobind's own examples call for

namespace reprise::python {
namespace {

using TokenArray = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::string_view AsText(nb::bytes bytes) { return {bytes.c_str(), bytes.size()}; }

// Token ids of whatever kind; uint32 arrays are read as they are.
std::vector<uint32_t> ReadTokens(nb::handle tokens) {
  if (TokenArray array; nb::try_cast(tokens, array, false)) {
    return {array.data(), array.data() + array.size()};
  }
  std::vector<uint32_t> ids;
  for (nb::handle token : nb::iter(tokens)) {
    int64_t id = 0;
    if (PyIndex_Check(token.ptr()) == 0) throw nb::type_error("token ids must be integers");
    if (!nb::try_cast(token, id) || id < 0 || id > std::numeric_limits<uint32_t>::max()) {
      const std::string text = nb::cast<std::string>(nb::str(token));
      throw nb::value_error(("token id " + text + " does not fit in 32 bits").c_str());
    }
    ids.push_back(static_cast<uint32_t>(id));
  }
  return ids;
}

PrefixKeys MakeKeys(const Namespace& name_space, nb::handle tokens, nb::bytes tenant_secret,
                    const std::vector<nb::bytes>& extras) {
  const std::vector<uint32_t> ids = ReadTokens(tokens);
  std::vector<std::string> extra_texts;
  for (const nb::bytes& extra : extras) extra_texts.emplace_back(AsText(extra));
  return ValueOrRaise(PrefixKeys::Create(name_space, AsText(tenant_secret), ids, extra_texts));
}

void BindNamespace(nb::module_& module) {
  nb::class_<Rope>(module, "Rope", "How K was rotated, in enough detail to undo it.")
      .def(
          "__init__",
          [](Rope* self, const std::string& pairing, uint32_t rotated_dims, double theta,
             const std::string& scaling, const std::vector<double>& scaling_parameters) {
            new (self) Rope{ReadRopePairing(pairing), rotated_dims, theta, ReadRopeScaling(scaling),
                            scaling_parameters};
          },
          "pairing"_a = "none", nb::kw_only(), "rotated_dims"_a = 0, "theta"_a = 0.0,
          "scaling"_a = "none", "scaling_parameters"_a = std::vector<double>(),
          "pairing is \"none\", \"interleaved\" or \"halves\". scaling is \"none\", \"linear\" "
          "(factor), \"llama3\" (factor, low and high frequency factor, original context), "
          "\"yarn\" "
          "(factor, original context, beta fast, beta slow, attention factor or 0 for the paper's, "
          "1 where the ramp's ends are rounded) or \"per_pair\" (attention factor, a divisor for "
          "each pair); docs/keys.md has the formulas.")
      .def_prop_ro("pairing", [](const Rope& self) { return RopePairingName(self.pairing); })
      .def_ro("rotated_dims", &Rope::rotated_dims)
      .def_ro("theta", &Rope::theta)
      .def_prop_ro("scaling", [](const Rope& self) { return RopeScalingName(self.scaling); })
      .def_ro("scaling_parameters", &Rope::scaling_parameters)
      .def(
          "__eq__", [](const Rope& self, const Rope& other) { return self == other; },
          nb::is_operator(), nb::sig("def __eq__(self, other: object, /) -> bool"));

  nb::class_<LayerGroup>(module, "LayerGroup",
                         "Layers of one kind, and how a chunk of them is cut into pieces.")
      .def(
          "__init__",
          [](LayerGroup* self, const std::vector<uint32_t>& layers, uint32_t kv_heads,
             uint32_t key_dim, uint32_t value_dim, const std::string& kind, uint32_t window_tokens,
             uint32_t layers_per_piece, uint32_t heads_per_piece, const Rope& rope) {
            const auto layer_count = static_cast<uint32_t>(layers.size());
            new (self) LayerGroup{ReadGroupKind(kind),
                                  layers,
                                  kv_heads,
                                  key_dim,
                                  value_dim,
                                  window_tokens,
                                  layers_per_piece == 0 ? layer_count : layers_per_piece,
                                  heads_per_piece == 0 ? kv_heads : heads_per_piece,
                                  rope};
          },
          "layers"_a, nb::kw_only(), "kv_heads"_a, "key_dim"_a, "value_dim"_a, "kind"_a = "full",
          "window_tokens"_a = 0, "layers_per_piece"_a = 0, "heads_per_piece"_a = 0,
          "rope"_a = Rope{},
          "kind is \"full\", \"window\", \"latent\", \"state\" or \"opaque\"; a piece holds all "
          "layers and heads of the "
          "group unless layers_per_piece and heads_per_piece say otherwise.")
      .def_prop_ro("kind", [](const LayerGroup& self) { return GroupKindName(self.kind); })
      .def_ro("layers", &LayerGroup::layers)
      .def_ro("kv_heads", &LayerGroup::kv_heads)
      .def_ro("key_dim", &LayerGroup::key_dim)
      .def_ro("value_dim", &LayerGroup::value_dim)
      .def_ro("window_tokens", &LayerGroup::window_tokens)
      .def_ro("layers_per_piece", &LayerGroup::layers_per_piece)
      .def_ro("heads_per_piece", &LayerGroup::heads_per_piece)
      .def_ro("rope", &LayerGroup::rope)
      .def(
          "__eq__", [](const LayerGroup& self, const LayerGroup& other) { return self == other; },
          nb::is_operator(), nb::sig("def __eq__(self, other: object, /) -> bool"));

  nb::class_<Namespace>(module, "Namespace",
                        "Everything that makes two KV tensors interchangeable. tenant is a part of "
                        "the keys, whoever publishes under them; who may see what is published is "
                        "for the session to say, connect(tenant=...). Leave them the same.")
      .def(
          "__init__",
          [](Namespace* self, const std::string& model, const std::vector<LayerGroup>& groups,
             const std::string& kv_dtype, uint32_t chunk_tokens, const std::string& tenant,
             const std::string& revision, const std::string& adapter,
             const std::string& weight_quantization, const std::string& profile) {
            Namespace name_space{
                tenant,       model,  revision, adapter, weight_quantization, ReadDtype(kv_dtype),
                chunk_tokens, groups, profile};
            if (absl::Status valid = Validate(name_space); !valid.ok()) Raise(valid);
            new (self) Namespace(std::move(name_space));
          },
          "model"_a, nb::kw_only(), "groups"_a, "kv_dtype"_a, "chunk_tokens"_a = 256,
          "tenant"_a = "default", "revision"_a = "", "adapter"_a = "", "weight_quantization"_a = "",
          "profile"_a = "",
          "kv_dtype is \"bf16\", \"fp16\", \"fp32\" or \"opaque\". ValueError when something makes "
          "no sense.")
      .def_ro("tenant", &Namespace::tenant)
      .def_ro("model", &Namespace::model)
      .def_ro("revision", &Namespace::revision)
      .def_ro("adapter", &Namespace::adapter)
      .def_ro("weight_quantization", &Namespace::weight_quantization)
      .def_prop_ro("kv_dtype", [](const Namespace& self) { return DtypeName(self.kv_dtype); })
      .def_ro("chunk_tokens", &Namespace::chunk_tokens)
      .def_ro("groups", &Namespace::groups)
      .def_ro("profile", &Namespace::profile)
      .def_prop_ro(
          "fingerprint",
          [](const Namespace& self) { return WriteDigest(ValueOrRaise(Fingerprint(self))); },
          "SHA-256 of the canonical encoding.")
      .def(
          "__eq__", [](const Namespace& self, const Namespace& other) { return self == other; },
          nb::is_operator(), nb::sig("def __eq__(self, other: object, /) -> bool"));
}

}  // namespace

void BindKeys(nb::module_& module) {
  BindNamespace(module);
  nb::class_<PrefixKeys>(module, "PrefixKeys",
                         "The keys of one token sequence under one namespace.")
      .def(
          "__init__",
          [](PrefixKeys* self, const Namespace& name_space, nb::handle tokens,
             nb::bytes tenant_secret, const std::vector<nb::bytes>& extras) {
            new (self) PrefixKeys(MakeKeys(name_space, tokens, tenant_secret, extras));
          },
          "namespace"_a, "tokens"_a, nb::kw_only(), "tenant_secret"_a = nb::bytes("", 0),
          "extras"_a = std::vector<nb::bytes>(),
          nb::sig("def __init__(self, namespace: Namespace, tokens: typing.Any, *, tenant_secret: "
                  "bytes = b'', "
                  "extras: collections.abc.Sequence[bytes] = ()) -> None"),
          "tokens is an array of uint32, or any sequence of token ids; a last, partial chunk has "
          "no keys. extras[i] "
          "names what the token ids of chunk i do not show.")
      .def_prop_ro("namespace", &PrefixKeys::name_space)
      .def_prop_ro("fingerprint",
                   [](const PrefixKeys& self) { return WriteDigest(self.fingerprint()); })
      .def_prop_ro("chunk_count", &PrefixKeys::chunk_count, "Whole chunks of the tokens.")
      .def_prop_ro("pieces_per_chunk", &PrefixKeys::pieces_per_chunk)
      .def_prop_ro(
          "slots",
          [](const PrefixKeys& self) {
            std::vector<std::tuple<uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>> slots;
            for (const PieceSlot& slot : self.slots()) {
              slots.emplace_back(slot.group, slot.layer_begin, slot.layer_end, slot.head_begin,
                                 slot.head_end);
            }
            return slots;
          },
          "Each piece of a chunk: (group, layer begin, layer end, head begin, head end).")
      .def(
          "key",
          [](const PrefixKeys& self, size_t chunk, size_t slot) {
            if (chunk >= self.chunk_count() || slot >= self.pieces_per_chunk()) {
              throw nb::index_error("no such chunk or slot");
            }
            return WriteDigest(self.key(chunk, slot).digest);
          },
          "chunk"_a, "slot"_a, "The 32 bytes of a piece's key.")
      .def_prop_ro(
          "keys",
          [](const PrefixKeys& self) {
            std::vector<nb::bytes> keys;
            for (const Key& key : self.AllKeys(self.chunk_count())) {
              keys.push_back(WriteDigest(key.digest));
            }
            return keys;
          },
          "The key of every piece, chunk by chunk.");
}

}  // namespace reprise::python
