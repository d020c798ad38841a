// How results look at a Python prompt: "LoadResult(chunks=2, ...)".

#include <string>
#include <utility>

#include "module.h"
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "client/reprise.h"

namespace nb = nanobind;

namespace reprise::python {
namespace {

// "Name(field=value, ...)" from the attributes that Python sees.
void Show(nb::module_& module, const char* name, std::initializer_list<const char*> fields) {
  const nb::object type = module.attr(name);
  nb::cpp_function(
      [name, fields = std::vector<const char*>(fields)](nb::handle self) {
        std::string text = std::string(name) + "(";
        for (const char* field : fields) {
          if (text.back() != '(') text += ", ";
          text += std::string(field) + "=" + nb::repr(self.attr(field)).c_str();
        }
        return text + ")";
      },
      nb::scope(type), nb::name("__repr__"), nb::is_method(), nb::sig("def __repr__(self) -> str"));
}

}  // namespace

void ShowResults(nb::module_& module) {
  Show(module, "LookupResult", {"chunks", "held", "miss"});
  Show(module, "PublishResult", {"pieces_stored", "pieces_already_held", "bytes_sent", "replicas"});
  Show(module, "LoadResult", {"chunks", "bytes_received", "lossless", "misses"});
  Show(module, "SelectionResult", {"complete", "level", "distortion", "miss"});
  Show(module, "PieceState", {"planes_held", "level_bytes", "tier"});
  Show(module, "PieceResult", {"miss", "level"});
  Show(module, "ObjectStat", {"info", "dropped_as_corrupt"});
  Show(module, "ObjectInfo", {"key", "position", "state"});
  Show(module, "ObjectPage", {"objects", "more"});
  Show(module, "Namespace", {"model", "tenant", "kv_dtype", "chunk_tokens"});
  Show(module, "PrefixKeys", {"chunk_count", "pieces_per_chunk"});
}

}  // namespace reprise::python
