#include "bench/codec/dump.h"

#include <cmath>
#include <cstdio>
#include <exception>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "yaml-cpp/yaml.h"

#include "codec/progressive/rope_angles.h"

namespace reprise::bench {
namespace {

progressive::BlockShape ShapeOf(const YAML::Node& dump, const YAML::Node& layer, Dtype dtype,
                                char tensor) {
  progressive::BlockShape shape;
  shape.dtype = dtype;
  shape.heads = dump["kv_heads"].as<uint32_t>();
  shape.dims = dump["head_dim"].as<uint32_t>();
  if (tensor == 'v') {
    shape.token_scales = true;
    return shape;
  }
  const YAML::Node rope = layer["rope"];
  const auto dims = rope["dims"].as<uint32_t>();
  if (dims == 0) return shape;
  shape.rope = {.pairing = rope["pairing"].as<std::string>() == "halves"
                               ? RopePairing::kHalves
                               : RopePairing::kInterleaved,
                .first_dim = 0,
                .dims = dims};
  for (uint32_t pair = 0; pair < dims / 2; ++pair) {
    const double rate = std::pow(rope["theta"].as<double>(), -2.0 * pair / dims);
    shape.rope_rates.push_back(progressive::TurnsOf(rate * rope["scale"].as<double>()));
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

absl::StatusOr<std::vector<DumpTensor>> Read(const std::filesystem::path& directory,
                                             const std::string& dtype) {
  const YAML::Node dump = YAML::LoadFile((directory / "dump.json").string());
  std::vector<DumpTensor> tensors;
  uint32_t index = 0;
  for (const YAML::Node& text : dump["texts"]) {
    const std::filesystem::path folder = directory / text["dir"].as<std::string>();
    for (uint32_t layer = 0; layer < dump["layers"].as<uint32_t>(); ++layer) {
      for (const char tensor : {'k', 'v'}) {
        DumpTensor& read = tensors.emplace_back();
        read.shape = ShapeOf(dump, dump["per_layer"][layer],
                             dtype == "bf16" ? Dtype::kBf16 : Dtype::kFp16, tensor);
        read.text = index;
        read.tokens = text["tokens"].as<uint32_t>();
        read.first_position = text["first_position"].as<uint64_t>();
        char name[32];
        std::snprintf(name, sizeof(name), "L%03u.%c.%s", layer, tensor, dtype.c_str());
        REPRISE_ASSIGN_OR_RETURN(
            read.values,
            ReadValues(folder / name, size_t{read.tokens} * read.shape.heads * read.shape.dims));
      }
    }
    ++index;
  }
  return tensors;
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
  try {
    return Read(directory, dtype);
  } catch (const std::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrCat((directory / "dump.json").string(), ": ", error.what()));
  }
}

}  // namespace reprise::bench
