#include "client/attention_sample.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>

namespace reprise::client {
namespace {

constexpr uint32_t kLayers = 3;
constexpr uint32_t kHeads = 2;
constexpr uint32_t kDims = 64;
constexpr uint32_t kChunkTokens = 256;
constexpr size_t kRowValues = size_t{kHeads} * kDims;

float ValueOf(Dtype dtype, uint16_t bits) {
  if (dtype == Dtype::kBf16) return std::bit_cast<float>(uint32_t{bits} << 16);
  const int exponent = bits >> 10 & 31;
  const int mantissa = (bits & 1023) + (exponent > 0 ? 1024 : 0);
  const float magnitude = std::ldexp(static_cast<float>(mantissa), std::max(exponent, 1) - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// Towards zero; what fp16 holds as a denormal only becomes 0.
uint16_t BitsOf(Dtype dtype, float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (dtype == Dtype::kBf16) return static_cast<uint16_t>(bits >> 16);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const uint32_t half = magnitude < 0x38800000 ? 0 : (magnitude >> 13) - (112U << 10);
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | half);
}

Namespace SampleNamespace(Dtype dtype) {
  LayerGroup group;
  group.layers = {0, 1, 2};
  group.kv_heads = kHeads;
  group.key_dim = kDims;
  group.value_dim = kDims;
  group.layers_per_piece = 2;
  group.heads_per_piece = kHeads;
  group.rope = {.pairing = RopePairing::kHalves, .rotated_dims = kDims, .theta = 10'000};
  Namespace name_space;
  name_space.model = "attention";
  name_space.kv_dtype = dtype;
  name_space.chunk_tokens = kChunkTokens;
  name_space.groups = {group};
  return name_space;
}

}  // namespace

AttentionSample::AttentionSample(Dtype dtype, uint32_t chunks)
    : name_space_(SampleNamespace(dtype)),
      key_{dtype, chunks * kChunkTokens,
           std::vector<uint16_t>(size_t{kLayers} * chunks * kChunkTokens * kRowValues)},
      value_(key_) {}

void AttentionSample::Fill(uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> gauss;
  for (Tensor* tensor : {&key_, &value_}) {
    std::vector<float> means(kRowValues);
    std::vector<float> deviations(kRowValues);
    for (float& mean : means) mean = 2 * gauss(random);
    for (float& deviation : deviations) deviation = std::exp2(gauss(random));
    for (size_t i = 0; i < tensor->bits.size(); ++i) {
      const size_t channel = i % kRowValues;
      const float value = means[channel] + deviations[channel] * gauss(random);
      tensor->bits[i] = BitsOf(tensor->dtype, value);
    }
  }
}

Distortion AttentionSample::LostOf(const AttentionSample& exact, uint32_t chunk) const {
  const uint32_t begin = chunk * kChunkTokens;
  return {.key = key_.Lost(exact.key_, begin, begin + kChunkTokens),
          .value = value_.Lost(exact.value_, begin, begin + kChunkTokens)};
}

TensorView AttentionSample::Tensor::view() {
  constexpr int64_t kRowBytes = kRowValues * sizeof(uint16_t);
  return {.data = reinterpret_cast<std::byte*>(bits.data()),
          .dtype = dtype,
          .shape = {kLayers, tokens, kHeads, kDims},
          .stride_bytes = {tokens * kRowBytes, kRowBytes, kDims * sizeof(uint16_t)}};
}

float AttentionSample::Tensor::Lost(const Tensor& exact, uint32_t begin, uint32_t end) const {
  double worst = 0;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    double error = 0;
    double norm = 0;
    for (size_t i = (size_t{layer} * tokens + begin) * kRowValues;
         i < (size_t{layer} * tokens + end) * kRowValues; ++i) {
      const double was = ValueOf(dtype, exact.bits[i]);
      const double lost = ValueOf(dtype, bits[i]) - was;
      error += lost * lost;
      norm += was * was;
    }
    worst = std::max(worst, std::sqrt(error / norm));
  }
  return static_cast<float>(worst);
}

}  // namespace reprise::client
