#include "bench/codec/streams.h"

#include <algorithm>
#include <array>
#include <random>
#include <span>

#include "bench/codec/stages.h"
#include "codec/progressive/tables.h"

namespace reprise::bench {
namespace {

using progressive::CodedSymbols;
using progressive::Kernels;
using progressive::kLanes;
using progressive::kStreams;
using progressive::kTileChannels;
using progressive::kTileRows;
using progressive::kTileTokens;

constexpr int kRuns = 50;
constexpr uint32_t kMiddleTable = progressive::kTables / 2;
constexpr size_t kWords = size_t{kTileChannels} * kTileTokens + 2 * size_t{kTileTokens};

// A tile's symbols, and room to code them in.
struct Tile {
  Tile() : symbols(size_t{kTileChannels} * kTileTokens), decoded(symbols.size()) {
    std::mt19937 random(1);
    const progressive::SlotTable slots =
        progressive::MakeSlotTable(progressive::BaseFrequencies(kMiddleTable));
    for (uint8_t& symbol : symbols) symbol = slots.symbol[random() % progressive::kSlots];
    for (auto& stream_words : words) stream_words.resize(kWords);
  }

  std::vector<uint8_t> symbols;
  std::vector<uint8_t> decoded;
  std::array<std::vector<uint16_t>, kStreams> words;
  std::array<progressive::StreamWriter, kStreams> writers;
};

uint64_t Encode(const Kernels& kernels, uint32_t count, Tile& tile) {
  static const progressive::SymbolTable table =
      progressive::MakeSymbolTable(progressive::BaseFrequencies(kMiddleTable));
  std::vector<CodedSymbols> channels;
  for (uint32_t channel = 0; channel < kTileChannels; ++channel) {
    channels.push_back({&table, tile.symbols.data() + size_t{channel} * kTileTokens});
  }
  for (uint32_t s = 0; s < count; ++s) {
    tile.writers[s].states.fill(progressive::kStateFloor);
    tile.writers[s].begin = tile.writers[s].words = tile.words[s].data();
  }
  const std::span writers = std::span(tile.writers).first(count);
  const uint64_t begin = Ticks();
  kernels.encode_symbols(channels, writers, kTileRows);
  const uint64_t ticks = Ticks() - begin;
  for (const progressive::StreamWriter& writer : writers) {
    kernels.reverse_words(writer.begin, writer.words);
  }
  return ticks;
}

uint64_t Decode(const Kernels& kernels, uint32_t count, Tile& tile) {
  static const progressive::SlotTable table =
      progressive::MakeSlotTable(progressive::BaseFrequencies(kMiddleTable));
  std::array<progressive::StreamReader, kStreams> readers;
  for (uint32_t s = 0; s < count; ++s) {
    readers[s] = {tile.writers[s].states, tile.writers[s].begin, tile.writers[s].words};
  }
  const uint64_t begin = Ticks();
  for (uint32_t channel = 0; channel < kTileChannels; ++channel) {
    kernels.decode_symbols(table, std::span(readers).first(count), kTileRows,
                           tile.decoded.data() + size_t{channel} * kTileTokens);
  }
  return Ticks() - begin;
}

}  // namespace

std::vector<StreamCost> StreamCosts(const Kernels& kernels) {
  Tile tile;
  std::vector<StreamCost> costs;
  for (const uint32_t count : {1U, 2U, kStreams}) {
    uint64_t encode = UINT64_MAX;
    uint64_t decode = UINT64_MAX;
    for (int run = 0; run < kRuns; ++run) {
      encode = std::min(encode, Encode(kernels, count, tile));
      decode = std::min(decode, Decode(kernels, count, tile));
    }
    if (tile.decoded != tile.symbols) return {};
    size_t bytes = 0;
    for (const auto& writer : std::span(tile.writers).first(count)) {
      bytes += sizeof(uint32_t) + sizeof(writer.states) +
               static_cast<size_t>(writer.words - writer.begin) * sizeof(uint16_t);
    }
    const double rows = static_cast<double>(tile.symbols.size()) / kLanes;
    costs.push_back({count, static_cast<double>(decode) / rows, static_cast<double>(encode) / rows,
                     8 * static_cast<double>(bytes) / static_cast<double>(tile.symbols.size())});
  }
  return costs;
}

}  // namespace reprise::bench
