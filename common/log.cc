#include "common/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace reprise {
namespace {

std::atomic<LogLevel> minimum_level{LogLevel::kInfo};

bool NeedsQuotes(std::string_view text) {
  if (text.empty()) return true;
  for (const char c : text) {
    if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7F) return true;
  }
  return false;
}

void AppendQuoted(std::string& line, std::string_view text) {
  line.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      line.push_back('\\');
      line.push_back(c);
    } else if (static_cast<unsigned char>(c) < ' ' || c == 0x7F) {
      char escaped[5];
      std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned char>(c));
      line += escaped;
    } else {
      line.push_back(c);
    }
  }
  line.push_back('"');
}

void AppendTime(std::string& line) {
  using std::chrono::duration_cast;
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = duration_cast<std::chrono::milliseconds>(since_epoch).count();
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[40];
  const size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof(text) - length, ".%03dZ", static_cast<int>(ms % 1000));
  line += text;
}

void Write(LogLevel level, std::string_view name, std::string_view event, LogFields fields) {
  if (level < minimum_level.load(std::memory_order_relaxed)) return;
  std::string line;
  line.reserve(160);
  AppendTime(line);
  line.push_back(' ');
  line += name;
  line.push_back(' ');
  line += event;
  for (const LogField& field : fields) {
    line.push_back(' ');
    line += field.key();
    line.push_back('=');
    if (NeedsQuotes(field.value())) {
      AppendQuoted(line, field.value());
    } else {
      line += field.value();
    }
  }
  line.push_back('\n');
  // A log line that cannot be written has nowhere to be reported.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

LogField::LogField(std::string_view key, double value) : key_(key) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  value_ = text;
}

void SetLogLevel(LogLevel level) { minimum_level.store(level, std::memory_order_relaxed); }

void LogDebug(std::string_view event, LogFields fields) {
  Write(LogLevel::kDebug, "debug", event, fields);
}
void LogInfo(std::string_view event, LogFields fields) {
  Write(LogLevel::kInfo, "info", event, fields);
}
void LogWarning(std::string_view event, LogFields fields) {
  Write(LogLevel::kWarning, "warning", event, fields);
}
void LogError(std::string_view event, LogFields fields) {
  Write(LogLevel::kError, "error", event, fields);
}

}  // namespace reprise
