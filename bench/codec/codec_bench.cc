// What the progressive codec makes of real KV: bytes per level beside zstd, and goodput beside
// memcpy and zstd. Run by bench/codec/run.py; prints JSON lines.
//
//   codec_bench sizes DUMP bf16|fp16
//       one line: bits per value of each level, and zstd -19's
//   codec_bench embedding DUMP bf16|fp16
//       one line: bits of K and of V up to each lossy plane, as stored and coded at once
//   codec_bench speed DUMP bf16|fp16 SET N
//       N lines: goodput of one thread over the whole dump, GB/s of 16-bit values; SET is scalar,
//       avx2 or avx512
//   codec_bench stages DUMP bf16|fp16 SET
//       a line for each job: ticks of the time stamp counter per 32 values, kernel by kernel
//   codec_bench streams SET
//       a line for each count of streams in a tile: ticks per 32 values, bits per value

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <zstd.h>

#include "bench/codec/dump.h"
#include "bench/codec/embedding.h"
#include "bench/codec/stages.h"
#include "bench/codec/streams.h"
#include "codec/progressive/block.h"
#include "codec/progressive/kernels.h"

namespace reprise::bench {
namespace {

using progressive::BlockDecoder;
using progressive::BlockEncoder;
using progressive::EncodedBlock;
using progressive::Kernels;
using progressive::kPlanes;

constexpr uint32_t kChunkTokens = 256;

// One chunk of one layer's K or V, and what it was coded to.
struct Coded {
  const DumpTensor* tensor = nullptr;
  uint32_t first_token = 0;
  uint32_t tokens = 0;
  EncodedBlock block;

  uint64_t position() const { return tensor->first_position + first_token; }
  TensorView view() const { return tensor->Chunk(first_token, tokens); }
  size_t bytes() const { return size_t{2} * tokens * tensor->shape.heads * tensor->shape.dims; }
};

// In the order of pieces: all layers of a chunk, then the next chunk.
std::vector<Coded> ChunksOf(const std::vector<DumpTensor>& tensors) {
  std::vector<Coded> chunks;
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (uint32_t token = 0; token < tensors[i].tokens; token += kChunkTokens) {
      Coded& chunk = chunks.emplace_back();
      chunk.tensor = &tensors[i];
      chunk.first_token = token;
      chunk.tokens = std::min(kChunkTokens, tensors[i].tokens - token);
    }
  }
  std::ranges::stable_sort(chunks, [](const Coded& a, const Coded& b) {
    return std::pair(a.tensor->text, a.first_token) < std::pair(b.tensor->text, b.first_token);
  });
  return chunks;
}

// One coder for each shape of tensor, as a process has that codes piece after piece.
template <typename Coder>
class Coders {
 public:
  explicit Coders(const Kernels& kernels) : kernels_(kernels) {}
  Coder& For(const progressive::BlockShape& shape) {
    for (const auto& [known, coder] : coders_) {
      if (known == shape) return *coder;
    }
    return *coders_.emplace_back(shape, std::make_unique<Coder>(shape, kernels_)).second;
  }

 private:
  const Kernels& kernels_;
  std::vector<std::pair<progressive::BlockShape, std::unique_ptr<Coder>>> coders_;
};

void EncodeAll(std::span<Coded> chunks, Coders<BlockEncoder>& coders) {
  for (Coded& chunk : chunks) {
    coders.For(chunk.tensor->shape).Encode(chunk.view(), chunk.position(), &chunk.block);
  }
}

// Into `out`, one chunk behind the other; false when a block does not decode.
bool DecodeAll(std::span<const Coded> chunks, size_t planes, Coders<BlockDecoder>& coders,
               std::byte* out) {
  std::array<ByteSpan, kPlanes> spans;
  for (const Coded& chunk : chunks) {
    for (size_t p = 0; p < planes; ++p) {
      spans[p] = std::as_bytes(std::span(chunk.block.planes[p]));
    }
    TensorView to = chunk.view();
    to.data = out;
    BlockDecoder& decoder = coders.For(chunk.tensor->shape);
    if (!decoder.Decode(std::span(spans).first(planes), chunk.position(), to).ok()) return false;
    out += chunk.bytes();
  }
  return true;
}

double SecondsOf(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int Sizes(const std::vector<DumpTensor>& tensors) {
  std::vector<Coded> chunks = ChunksOf(tensors);
  Coders<BlockEncoder> encoders(progressive::BestKernels());
  Coders<BlockDecoder> decoders(progressive::BestKernels());
  EncodeAll(chunks, encoders);
  size_t values = 0;
  size_t zstd_bytes = 0;
  std::array<size_t, kPlanes> level_bytes{};
  bool exact = true;
  std::vector<std::byte> decoded;
  std::vector<std::byte> compressed;
  for (const Coded& chunk : chunks) {
    values += chunk.bytes() / 2;
    size_t bytes = 0;
    for (size_t plane = 0; plane < kPlanes; ++plane) {
      bytes += chunk.block.planes[plane].size();
      level_bytes[plane] += bytes;
    }
    compressed.resize(ZSTD_compressBound(chunk.bytes()));
    zstd_bytes +=
        ZSTD_compress(compressed.data(), compressed.size(), chunk.view().data, chunk.bytes(), 19);
    decoded.resize(chunk.bytes());
    exact = exact && DecodeAll({&chunk, 1}, kPlanes, decoders, decoded.data()) &&
            std::memcmp(decoded.data(), chunk.view().data, chunk.bytes()) == 0;
  }
  std::printf("{\"values\": %zu, \"exact\": %s, \"zstd19_bits\": %.4f, \"level_bits\": [", values,
              exact ? "true" : "false",
              8 * static_cast<double>(zstd_bytes) / static_cast<double>(values));
  for (size_t plane = 0; plane < kPlanes; ++plane) {
    std::printf("%s%.4f", plane == 0 ? "" : ", ",
                8 * static_cast<double>(level_bytes[plane]) / static_cast<double>(values));
  }
  std::printf("]}\n");
  return exact ? 0 : 1;
}

int Embedding(const std::vector<DumpTensor>& tensors) {
  std::vector<Coded> chunks = ChunksOf(tensors);
  Coders<BlockEncoder> encoders(progressive::BestKernels());
  EncodeAll(chunks, encoders);
  std::array<EmbeddingCost, 2> costs;  // of K, of V
  for (const Coded& chunk : chunks) {
    const progressive::BlockShape& shape = chunk.tensor->shape;
    costs[shape.token_scales ? 1 : 0].Add(shape, chunk.view(), chunk.position(), chunk.block);
  }
  const auto print = [](const EmbeddingCost& cost, const char* name, auto bits) {
    std::printf(", \"%s\": [", name);
    for (uint32_t plane = 0; plane < progressive::kLossyPlanes; ++plane) {
      std::printf("%s%.0f", plane == 0 ? "" : ", ", (cost.*bits)(plane));
    }
    std::printf("]");
  };
  std::printf("{\"k_values\": %zu, \"v_values\": %zu", size_t{costs[0].values()},
              size_t{costs[1].values()});
  print(costs[0], "k_embedded", &EmbeddingCost::EmbeddedBits);
  print(costs[0], "k_single_rate", &EmbeddingCost::SingleRateBits);
  print(costs[1], "v_embedded", &EmbeddingCost::EmbeddedBits);
  print(costs[1], "v_single_rate", &EmbeddingCost::SingleRateBits);
  std::printf("}\n");
  return 0;
}

// zstd -1 of each chunk, and decompressing it.
struct ZstdChunks {
  explicit ZstdChunks(std::span<const Coded> chunks) {
    for (const Coded& chunk : chunks) {
      std::vector<std::byte>& to = compressed.emplace_back(ZSTD_compressBound(chunk.bytes()));
      to.resize(ZSTD_compress(to.data(), to.size(), chunk.view().data, chunk.bytes(), 1));
      sizes.push_back(chunk.bytes());
    }
  }
  void Decompress(std::byte* out) const {
    for (size_t i = 0; i < compressed.size(); ++i) {
      ZSTD_decompress(out, sizes[i], compressed[i].data(), compressed[i].size());
      out += sizes[i];
    }
  }
  std::vector<std::vector<std::byte>> compressed;
  std::vector<size_t> sizes;
};

int Speed(const std::vector<DumpTensor>& tensors, const Kernels& kernels, int rounds) {
  std::vector<Coded> chunks = ChunksOf(tensors);
  size_t total = 0;
  for (const Coded& chunk : chunks) total += chunk.bytes();
  std::vector<std::byte> source(total);
  std::vector<std::byte> out(total);
  Coders<BlockEncoder> encoders(kernels);
  Coders<BlockDecoder> decoders(kernels);
  Coders<BlockDecoder> other_decoders(kernels);
  EncodeAll(chunks, encoders);
  if (!DecodeAll(chunks, kPlanes, decoders, source.data())) return 1;
  const ZstdChunks zstd(chunks);
  const double gigabytes = static_cast<double>(total) / 1e9;
  const std::span all(chunks);
  size_t middle = 0;
  for (size_t bytes = 0; bytes < total / 2; ++middle) bytes += chunks[middle].bytes();
  size_t middle_bytes = 0;
  for (size_t i = 0; i < middle; ++i) middle_bytes += chunks[i].bytes();
  constexpr size_t kThreeBits = 2;  // planes of the level of about 3 bits per value
  for (int round = 0; round < rounds; ++round) {
    const double copy = SecondsOf([&] { std::memcpy(out.data(), source.data(), total); });
    const double three = SecondsOf([&] { DecodeAll(all, kThreeBits, decoders, out.data()); });
    const double copy_again = SecondsOf([&] { std::memcpy(out.data(), source.data(), total); });
    const double lossless = SecondsOf([&] { DecodeAll(all, kPlanes, decoders, out.data()); });
    const double encode = SecondsOf([&] { EncodeAll(all, encoders); });
    const double inflate = SecondsOf([&] { zstd.Decompress(out.data()); });
    const double both = SecondsOf([&] {
      std::thread other([&] {
        DecodeAll(all.subspan(middle), kThreeBits, other_decoders, out.data() + middle_bytes);
      });
      DecodeAll(all.first(middle), kThreeBits, decoders, out.data());
      other.join();
    });
    std::printf(
        "{\"memcpy\": %.4f, \"decode_3bit\": %.4f, \"memcpy_again\": %.4f, \"decode_lossless\": "
        "%.4f, \"encode\": %.4f, \"zstd1\": %.4f, \"decode_3bit_two_threads\": %.4f}\n",
        gigabytes / copy, gigabytes / three, gigabytes / copy_again, gigabytes / lossless,
        gigabytes / encode, gigabytes / inflate, gigabytes / both);
    std::fflush(stdout);
  }
  return 0;
}

// One job, twice: whole, and with every kernel timed.
void PrintStages(const char* job, const Kernels& kernels, size_t rows,
                 const std::function<void(const Kernels&)>& work) {
  work(kernels);
  const uint64_t begin = Ticks();
  work(kernels);
  const uint64_t whole = Ticks() - begin;
  const Kernels timed = TimedKernels(kernels);
  work(timed);
  const auto per_row = [&](uint64_t ticks) {
    return static_cast<double>(ticks) / static_cast<double>(rows);
  };
  std::printf("{\"job\": \"%s\", \"whole\": %.2f", job, per_row(whole));
  for (const Stage& stage : MeasuredStages()) {
    std::printf(", \"%s\": %.2f", stage.name, per_row(stage.ticks));
  }
  std::printf("}\n");
}

int Stages(const std::vector<DumpTensor>& tensors, const Kernels& kernels) {
  std::vector<Coded> chunks = ChunksOf(tensors);
  size_t total = 0;
  for (const Coded& chunk : chunks) total += chunk.bytes();
  std::vector<std::byte> out(total);
  const size_t rows = total / sizeof(uint16_t) / progressive::kLanes;
  PrintStages("encode", kernels, rows, [&](const Kernels& set) {
    Coders<BlockEncoder> encoders(set);
    EncodeAll(chunks, encoders);
  });
  const std::array<std::pair<const char*, size_t>, 3> jobs{
      {{"decode 1 plane", 1}, {"decode 2 planes", 2}, {"decode lossless", kPlanes}}};
  for (const auto& job : jobs) {
    PrintStages(job.first, kernels, rows, [&](const Kernels& set) {
      Coders<BlockDecoder> decoders(set);
      DecodeAll(chunks, job.second, decoders, out.data());
    });
  }
  return 0;
}

const Kernels* KernelsNamed(const std::string& name) {
  using progressive::InstructionSet;
  if (name == "scalar") return progressive::KernelsOf(InstructionSet::kScalar);
  if (name == "avx2") return progressive::KernelsOf(InstructionSet::kAvx2);
  if (name == "avx512") return progressive::KernelsOf(InstructionSet::kAvx512);
  return nullptr;
}

int Streams(const Kernels& kernels) {
  const std::vector<StreamCost> costs = StreamCosts(kernels);
  for (const StreamCost& cost : costs) {
    std::printf("{\"streams\": %u, \"decode\": %.2f, \"encode\": %.2f, \"bits\": %.4f}\n",
                cost.streams, cost.decode_ticks, cost.encode_ticks, cost.bits_per_value);
  }
  return costs.empty() ? 1 : 0;
}

int Run(const std::vector<std::string>& args) {
  const bool sizes = args.size() == 3 && args[0] == "sizes";
  const bool embedding = args.size() == 3 && args[0] == "embedding";
  const bool speed = args.size() == 5 && args[0] == "speed";
  const bool stages = args.size() == 4 && args[0] == "stages";
  const bool streams = args.size() == 2 && args[0] == "streams";
  if (!sizes && !embedding && !speed && !stages && !streams) {
    std::fprintf(stderr,
                 "usage: codec_bench sizes DUMP DTYPE | embedding DUMP DTYPE | speed DUMP DTYPE "
                 "SET ROUNDS | "
                 "stages DUMP DTYPE SET | streams SET\n");
    return 2;
  }
  const std::string set = streams ? args[1] : (args.size() > 3 ? args[3] : "");
  const Kernels* kernels = KernelsNamed(set);
  if (!sizes && !embedding && kernels == nullptr) {
    std::fprintf(stderr, "codec_bench: no kernels for '%s' here\n", set.c_str());
    return 3;
  }
  if (streams) return Streams(*kernels);
  const auto tensors = ReadDump(args[1], args[2]);
  if (!tensors.ok()) {
    std::fprintf(stderr, "codec_bench: %s\n", std::string(tensors.status().message()).c_str());
    return 1;
  }
  if (sizes) return Sizes(*tensors);
  if (embedding) return Embedding(*tensors);
  if (stages) return Stages(*tensors, *kernels);
  return Speed(*tensors, *kernels, std::stoi(args[4]));
}

}  // namespace
}  // namespace reprise::bench

int main(int argc, char** argv) {
  return reprise::bench::Run(std::vector<std::string>(argv + 1, argv + argc));
}
