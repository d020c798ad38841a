// What the programs here share: ending on an error, numbers from the command line, processor time,
// and data that does not compress. Not thread-safe.
#pragma once

#include <sys/resource.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "common/bytes.h"
#include "common/status.h"

namespace reprise::storage {

[[noreturn]] inline void Fail(const std::string& message) {
  std::fprintf(stderr, "bench nvme: %s\n", message.c_str());
  std::exit(1);
}

inline void Check(const absl::Status& status) {
  if (!status.ok()) Fail(std::string(status.message()));
}

template <typename T>
T Value(absl::StatusOr<T> result) {
  Check(result.status());
  return *std::move(result);
}

// Ends the program unless `text` is a number in [1, most].
inline uint64_t Number(const char* text, uint64_t most) {
  uint64_t number = 0;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, number);
  if (error != std::errc() || stop != end || number == 0 || number > most) {
    Fail(std::string(text) + " is not a number in [1, " + std::to_string(most) + "]");
  }
  return number;
}

// Of all threads since the process began, user and system.
inline double ProcessorSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// A 64-bit mix (Steele, Lea and Flood, 2014), so that blocks come in no order and data does not
// compress.
inline uint64_t Mix(uint64_t value) {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

inline void Fill(MutableByteSpan memory, uint64_t seed) {
  for (size_t at = 0; at + sizeof(seed) <= memory.size(); at += sizeof(seed)) {
    const uint64_t word = Mix(seed++);
    std::memcpy(memory.data() + at, &word, sizeof(word));
  }
}

// One JSON line, as bench/nvme/run.py reads it.
inline void PrintSample(uint64_t bytes, double seconds, double processor_seconds,
                        std::string_view backend, bool direct) {
  std::printf(
      "{\"bytes\": %llu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"backend\": \"%s\", "
      "\"direct\": %s}\n",
      static_cast<unsigned long long>(bytes), seconds, processor_seconds,
      std::string(backend).c_str(), direct ? "true" : "false");
}

}  // namespace reprise::storage
