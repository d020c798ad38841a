// Structured logging: one line an event, `key=value` fields, to standard error.
//
//   LogInfo("store listening", {{"address", address}, {"memory_bytes", bytes}});
//   2026-11-22T10:00:00.123Z info store listening address=127.0.0.1:7070 memory_bytes=1073741824
//
// Values with spaces, quotes or control bytes are quoted and escaped, so that hostile input cannot
// forge a line. Each line is one write(2). Thread-safe. Never called on the data path.
#pragma once

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace reprise {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError, kOff };

class LogField {
 public:
  LogField(std::string_view key, std::string_view value) : key_(key), value_(value) {}
  LogField(std::string_view key, const char* value) : key_(key), value_(value) {}
  LogField(std::string_view key, const std::string& value) : key_(key), value_(value) {}
  LogField(std::string_view key, bool value) : key_(key), value_(value ? "true" : "false") {}
  LogField(std::string_view key, double value);
  template <std::integral T>
  LogField(std::string_view key, T value) : key_(key), value_(std::to_string(value)) {}

  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }

 private:
  std::string_view key_;
  std::string value_;
};

using LogFields = std::initializer_list<LogField>;

// Lines below `level` are dropped. The default is kInfo.
void SetLogLevel(LogLevel level);

void LogDebug(std::string_view event, LogFields fields = {});
void LogInfo(std::string_view event, LogFields fields = {});
void LogWarning(std::string_view event, LogFields fields = {});
void LogError(std::string_view event, LogFields fields = {});

}  // namespace reprise
