#include "client/views.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace reprise::client {
namespace {

absl::Status CheckTensor(const char* name, size_t group, const TensorView& view, Dtype dtype,
                         const std::array<uint64_t, 4>& shape) {
  if (!view.present()) {
    return absl::InvalidArgumentError(absl::StrCat("group ", group, " has no ", name, " tensor"));
  }
  if (view.dtype != dtype) {
    return absl::InvalidArgumentError(
        absl::StrCat("group ", group, "'s ", name, " tensor has dtype ",
                     static_cast<int>(view.dtype), ", the group needs ", static_cast<int>(dtype)));
  }
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (view.shape[axis] == shape[axis]) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "group ", group, "'s ", name, " tensor has shape [", absl::StrJoin(view.shape, ", "),
        "] (layers, tokens or chunks, KV heads, dims), needed is [", absl::StrJoin(shape, ", "),
        "]"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckViews(const Namespace& name_space, uint32_t chunk_count,
                        std::span<const GroupViews> views) {
  if (views.size() != name_space.groups.size()) {
    return absl::InvalidArgumentError(absl::StrCat("tensors of ", views.size(),
                                                   " layer groups given, the namespace has ",
                                                   name_space.groups.size()));
  }
  for (size_t g = 0; g < views.size(); ++g) {
    const LayerGroup& group = name_space.groups[g];
    const GroupShape shape = ShapeOf(name_space, group, chunk_count);
    REPRISE_RETURN_IF_ERROR(CheckTensor("key", g, views[g].key, shape.dtype, shape.key));
    if (group.value_dim == 0) {
      if (!views[g].value.present()) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("group ", g, " has no values, but a value tensor is given"));
    }
    REPRISE_RETURN_IF_ERROR(CheckTensor("value", g, views[g].value, shape.dtype, shape.value));
  }
  return absl::OkStatus();
}

absl::Status CheckChunks(const PrefixKeys& keys, uint32_t first, uint32_t count) {
  const uint64_t end = uint64_t{first} + count;
  if (count > 0 && end <= keys.chunk_count()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("chunks [", first, ", ", end,
                                                 ") asked, the keys have [0, ", keys.chunk_count(),
                                                 "); at least one must be asked"));
}

GroupViews PieceViews(const Namespace& name_space, std::span<const GroupViews> views,
                      const PieceSlot& slot, uint32_t chunk) {
  const GroupViews& group = views[slot.group];
  const uint32_t rows = ShapeOf(name_space, name_space.groups[slot.group], 1).chunk_rows;
  const uint32_t begin = chunk * rows;
  const uint32_t end = begin + rows;
  GroupViews piece;
  piece.key =
      group.key.Sub(slot.layer_begin, slot.layer_end, begin, end, slot.head_begin, slot.head_end);
  if (group.value.present()) {
    piece.value = group.value.Sub(slot.layer_begin, slot.layer_end, begin, end, slot.head_begin,
                                  slot.head_end);
  }
  return piece;
}

}  // namespace reprise::client
