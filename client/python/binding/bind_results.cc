// What calls of a client bring, and calls under way.

#include <chrono>
#include <optional>
#include <string>

#include "convert.h"
#include "module.h"
#include "pending.h"
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "client/reprise.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: what nanobind's own examples call for

namespace reprise::python {
namespace {

void BindPieces(nb::module_& module) {
  nb::class_<Miss>(module, "Miss", "Why a piece could not be had.")
      .def_ro("chunk", &Miss::chunk)
      .def_ro("slot", &Miss::slot)
      .def_prop_ro(
          "reason", [](const Miss& self) { return std::string(MissReasonName(self.reason)); },
          "\"absent\", \"other_content\", \"corrupt\", \"other_namespace\", \"truncated\", "
          "\"unknown_format\", "
          "\"peer_lost\", \"deadline\" or \"refused\".")
      .def_ro("detail", &Miss::detail)
      .def("__repr__", [](const Miss& self) {
        return "Miss(chunk=" + std::to_string(self.chunk) + ", slot=" + std::to_string(self.slot) +
               ", reason='" + std::string(MissReasonName(self.reason)) + "', detail='" +
               self.detail + "')";
      });
  nb::class_<Selection>(module, "Selection",
                        "A step of a plan: one chunk, or the layers of it whose indices in the "
                        "model are in [layer_begin, layer_end), at `level` at most.")
      .def(
          "__init__",
          [](Selection* self, uint32_t chunk, std::optional<uint32_t> level, uint32_t layer_begin,
             std::optional<uint32_t> layer_end) {
            new (self) Selection{.chunk = chunk,
                                 .level = level.value_or(kMaxPlanes - 1),
                                 .layer_begin = layer_begin,
                                 .layer_end = layer_end.value_or(Selection{}.layer_end)};
          },
          "chunk"_a, nb::kw_only(), "level"_a = nb::none(), "layer_begin"_a = 0,
          "layer_end"_a = nb::none())
      .def_ro("chunk", &Selection::chunk)
      .def_ro("level", &Selection::level)
      .def_ro("layer_begin", &Selection::layer_begin)
      .def_ro("layer_end", &Selection::layer_end);
  nb::class_<SelectionResult>(module, "SelectionResult", "What became of a selection.")
      .def_ro("complete", &SelectionResult::complete, "All of it is in the arrays.")
      .def_ro("level", &SelectionResult::level,
              "Once complete: the lowest that one of its pieces reached. Pieces of a single level, "
              "as raw ones are, count only where there are no others.")
      .def_prop_ro(
          "distortion",
          [](const SelectionResult& self) {
            return nb::make_tuple(self.distortion.key, self.distortion.value);
          },
          nb::sig("def distortion(self) -> tuple[float, float]"),
          "Once complete: the worst layer's (K, V) relative L2 error, as loaded.")
      .def_prop_ro("lossless", &SelectionResult::lossless)
      .def_ro("miss", &SelectionResult::miss,
              "Why it is not complete; None also when a miss before it ended the load.");
  nb::class_<PieceState>(module, "PieceState", "One piece as the store holds it.")
      .def_prop_ro("content_id",
                   [](const PieceState& self) { return WriteDigest(self.content_id.digest); })
      .def_ro("level_bytes", &PieceState::level_bytes,
              "Bytes of header, directory and planes 0..k, for each level k.")
      .def_prop_ro(
          "distortions",
          [](const PieceState& self) {
            nb::list levels;
            for (const Distortion& level : self.distortions)
              levels.append(nb::make_tuple(level.key, level.value));
            return levels;
          },
          nb::sig("def distortions(self) -> list[tuple[float, float]]"),
          "The worst layer's (K, V) relative L2 error at each level.")
      .def_ro("planes_held", &PieceState::planes_held)
      .def_prop_ro(
          "tier", [](const PieceState& self) { return std::string(TierName(self.tier)); },
          "\"gpu\", \"host\", \"nvme\" or \"unknown\": where a fetch would find it now.");
  nb::class_<ObjectInfo>(module, "ObjectInfo")
      .def_prop_ro("key", [](const ObjectInfo& self) { return WriteDigest(self.key.digest); })
      .def_prop_ro("namespace_fingerprint",
                   [](const ObjectInfo& self) { return WriteDigest(self.namespace_fingerprint); })
      .def_ro("position", &ObjectInfo::position)
      .def_ro("state", &ObjectInfo::state);
  nb::class_<ObjectStat>(module, "ObjectStat")
      .def_ro("info", &ObjectStat::info, "None when absent.")
      .def_ro("dropped_as_corrupt", &ObjectStat::dropped_as_corrupt);
  nb::class_<ObjectPage>(module, "ObjectPage")
      .def_ro("objects", &ObjectPage::objects)
      .def_ro("more", &ObjectPage::more);
}

double Seconds(std::chrono::duration<double> duration) { return duration.count(); }

}  // namespace

void BindResults(nb::module_& module) {
  BindPieces(module);
  nb::class_<LookupResult>(module, "LookupResult")
      .def_ro("chunks", &LookupResult::chunks,
              "Leading chunks of which every needed piece is held.")
      .def_ro("pieces", &LookupResult::pieces,
              "Of those chunks, chunk by chunk, in the order of PrefixKeys.slots.")
      .def_prop_ro(
          "held", [](const LookupResult& self) { return Seconds(self.held); },
          "Seconds of hold granted.")
      .def_prop_ro("store_queue_delay",
                   [](const LookupResult& self) { return Seconds(self.store_queue_delay); })
      .def_ro("miss", &LookupResult::miss, "Why not one chunk more.");
  nb::class_<PublishResult>(module, "PublishResult")
      .def_ro("pieces_stored", &PublishResult::pieces_stored)
      .def_ro("pieces_already_held", &PublishResult::pieces_already_held)
      .def_ro("bytes_sent", &PublishResult::bytes_sent)
      .def_ro("replicas", &PublishResult::replicas, "How many stores have each piece, at least.");
  nb::class_<LoadResult>(module, "LoadResult")
      .def_ro("chunks", &LoadResult::chunks, "Leading chunks that are complete in the arrays.")
      .def_ro("bytes_received", &LoadResult::bytes_received)
      .def_ro("lossless", &LoadResult::lossless)
      .def_ro("selections", &LoadResult::selections,
              "What became of each selection of the plan; without one, of each chunk.")
      .def_ro("misses", &LoadResult::misses, "Why the rest is missing.");
  nb::class_<ObjectBytes>(module, "PieceResult")
      .def_ro("miss", &ObjectBytes::miss)
      .def_prop_ro(
          "container",
          [](const ObjectBytes& self) -> std::optional<nb::bytes> {
            if (self.miss) return std::nullopt;
            return nb::bytes(self.container.data(), self.container.size());
          },
          "The verified container; None after a miss.")
      .def_ro("level", &ObjectBytes::level);
  BindPending<LookupResult>(
      module, "PendingLookup",
      "def __await__(self) -> collections.abc.Generator[typing.Any, None, LookupResult]");
  BindPending<PublishResult>(
      module, "PendingPublish",
      "def __await__(self) -> collections.abc.Generator[typing.Any, None, PublishResult]");
  BindPending<LoadResult>(
      module, "PendingLoad",
      "def __await__(self) -> collections.abc.Generator[typing.Any, None, LoadResult]");
  BindPending<ObjectBytes>(
      module, "PendingPiece",
      "def __await__(self) -> collections.abc.Generator[typing.Any, None, PieceResult]");
}

}  // namespace reprise::python
