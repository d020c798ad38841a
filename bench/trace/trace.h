// A trace of requests to an LLM service, and what a prefill costs.
//
// Format: one JSON object a line with `timestamp` (ms), `input_length`, `output_length` (tokens)
// and `hash_ids`, the prompt's prefix blocks: two requests that share a leading run of ids share
// that prefix. Blocks are kBlockTokens long. Plain values, pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/status.h"

namespace reprise::bench {

inline constexpr uint64_t kBlockTokens = 512;

using BlockId = uint32_t;  // dense, in order of first appearance

struct Request {
  double seconds = 0;           // since the trace began
  std::vector<BlockId> blocks;  // each builds on the one before
};

struct Trace {
  static constexpr BlockId kNone = ~BlockId{0};
  struct Block {
    BlockId parent = kNone;
    uint32_t position = 0;
  };
  std::vector<Request> requests;
  std::vector<Block> blocks;
  uint64_t references = 0;
};

// Requests number first, first + 1, ... of the file, at most `count`. NOT_FOUND when it cannot be
// read; INVALID_ARGUMENT naming the line that is not of the format, or an id that appears at two
// positions or after two others.
absl::StatusOr<Trace> ReadTrace(const std::string& path, uint64_t first, uint64_t count);

// t(n, c) = a + b n + g n (c + n / 2) seconds for n tokens after c others.
struct CostModel {
  double per_request = 0;     // a
  double per_token = 0;       // b
  double per_token_pair = 0;  // g

  // Of an 8-billion-parameter model with 32 layers of width 4,096 (Llama 3 8B: 8.03e9 parameters)
  // at 4e14 sustained operations per second, four tenths of the peak of one H100: two operations
  // per parameter and token, and per layer four times the width for each pair of tokens.
  static constexpr CostModel EightBillion() {
    constexpr double kOperationsPerSecond = 4e14;
    return {.per_request = 0.005,
            .per_token = 2 * 8.03e9 / kOperationsPerSecond,
            .per_token_pair = 4.0 * 32 * 4096 / kOperationsPerSecond};
  }
  double BlockSeconds(uint64_t position) const {
    constexpr auto kTokens = static_cast<double>(kBlockTokens);
    const double before = static_cast<double>(position) * kTokens;
    return per_token * kTokens + per_token_pair * kTokens * (before + kTokens / 2);
  }
};

}  // namespace reprise::bench
