#include "bench/codec/dump.h"

#include <cmath>
#include <fstream>

#include "absl/strings/str_cat.h"

#include "codec/progressive/rope_angles.h"
#include "services/cli/kv_dump.h"

namespace reprise::bench {
namespace {

progressive::BlockShape ShapeOf(const cli::KvDump& dump, const cli::KvDump::Layer& layer,
                                Dtype dtype, char tensor) {
  progressive::BlockShape shape;
  shape.dtype = dtype;
  shape.heads = dump.kv_heads;
  shape.dims = dump.head_dim;
  if (tensor == 'v') {
    shape.token_scales = true;
    return shape;
  }
  const uint32_t dims = layer.rotated_dims;
  if (dims == 0) return shape;
  shape.rope = {.pairing = layer.pairing,
                .first_dim = layer.has_value() ? 0 : dump.head_dim - dims,
                .dims = dims};
  for (uint32_t pair = 0; pair < dims / 2; ++pair) {
    const double rate = std::pow(layer.theta, -2.0 * pair / dims);
    shape.rope_rates.push_back(progressive::TurnsOf(rate * layer.scale));
  }
  return shape;
}

absl::StatusOr<std::vector<uint16_t>> ReadValues(const std::filesystem::path& path, size_t count) {
  std::vector<uint16_t> values(count);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * 2));
  if (!file || file.peek() != std::ifstream::traits_type::eof()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), " does not have exactly ", count * 2, " bytes"));
  }
  return values;
}

}  // namespace

TensorView DumpTensor::Chunk(uint32_t first_token, uint32_t count) const {
  const size_t row = size_t{shape.heads} * shape.dims;
  TensorView view;
  // The codec only reads it.
  view.data =
      const_cast<std::byte*>(reinterpret_cast<const std::byte*>(values.data() + first_token * row));
  view.dtype = shape.dtype;
  view.shape = {1, count, shape.heads, shape.dims};
  view.stride_bytes = {0, static_cast<int64_t>(2 * row), int64_t{2} * shape.dims};
  return view;
}

absl::StatusOr<std::vector<DumpTensor>> ReadDump(const std::filesystem::path& directory,
                                                 const std::string& dtype) {
  if (dtype != "bf16" && dtype != "fp16") {
    return absl::InvalidArgumentError(absl::StrCat("no dtype '", dtype, "'; bf16 or fp16"));
  }
  REPRISE_ASSIGN_OR_RETURN(const cli::KvDump dump, cli::ReadKvDump(directory));
  const Dtype stored = dtype == "bf16" ? Dtype::kBf16 : Dtype::kFp16;
  std::vector<DumpTensor> tensors;
  for (uint32_t text = 0; text < dump.texts.size(); ++text) {
    for (uint32_t layer = 0; layer < dump.layers.size(); ++layer) {
      for (const char tensor : {'k', 'v'}) {
        if (tensor == 'v' && !dump.layers[layer].has_value()) continue;
        DumpTensor& read = tensors.emplace_back();
        read.shape = ShapeOf(dump, dump.layers[layer], stored, tensor);
        read.text = text;
        read.tokens = dump.texts[text].tokens;
        read.first_position = dump.texts[text].first_position;
        REPRISE_ASSIGN_OR_RETURN(
            read.values, ReadValues(dump.File(dump.texts[text], layer, tensor, stored),
                                    size_t{read.tokens} * read.shape.heads * read.shape.dims));
      }
    }
  }
  return tensors;
}

}  // namespace reprise::bench
