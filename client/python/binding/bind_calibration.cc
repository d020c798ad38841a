// Calibration: profiles from queries.

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "convert.h"
#include "module.h"
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "codec/calibration.h"
#include "codec/profile.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: what nanobind's own examples call for

namespace reprise::python {
namespace {

// Methods hold the GIL, which is what keeps two threads apart.
struct PyCalibration {
  Namespace name_space;
  Calibration calibration;
};

uint32_t LayerCount(const Namespace& name_space) {
  uint32_t count = 0;
  for (const LayerGroup& group : name_space.groups) {
    for (const uint32_t layer : group.layers) count = std::max(count, layer + 1);
  }
  return count;
}

void Take(PyCalibration& self, uint32_t layer, nb::handle queries, uint64_t position) {
  const std::vector<LayerGroup>& groups = self.name_space.groups;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (std::ranges::find(groups[g].layers, layer) == groups[g].layers.end()) continue;
    const Tensors tensors =
        ReadPiece(self.name_space, static_cast<uint32_t>(g), queries, nb::none());
    const absl::Status taken =
        self.calibration.Take(layer, groups[g], tensors.views[0].key, position);
    if (!taken.ok()) Raise(taken);
    return;
  }
  throw nb::value_error(("the namespace has no layer " + std::to_string(layer)).c_str());
}

}  // namespace

void BindCalibration(nb::module_& module) {
  nb::class_<PyCalibration>(module, "Calibration",
                            "Learns from a model's queries how fine the steps of each channel of "
                            "K should be; of the namespace, model, groups and kv_dtype count.")
      .def(
          "__init__",
          [](PyCalibration* self, const Namespace& name_space) {
            Calibration made =
                ValueOrRaise(Calibration::Create(name_space.model, LayerCount(name_space)));
            new (self) PyCalibration{name_space, std::move(made)};
          },
          "namespace"_a)
      .def("take", &Take, "layer"_a, "queries"_a, nb::kw_only(), "position"_a = 0,
           "Adds queries of one layer, an array [1, tokens, query heads, dims] of kv_dtype, after "
           "rope and norms; position is that of the first in its sequence, whose first 4 do not "
           "count.")
      .def_prop_ro(
          "profile", [](const PyCalibration& self) { return Serialize(self.calibration.Finish()); },
          "The text of the profile, from what was taken so far; profile_name says what the "
          "namespace calls it.");
}

}  // namespace reprise::python
