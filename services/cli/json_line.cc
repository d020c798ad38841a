#include "services/cli/json_line.h"

#include <cmath>

#include "absl/strings/str_format.h"
#include <stdio.h>

namespace reprise::cli {

JsonLine& JsonLine::Text(std::string_view name, std::string_view value) {
  return Raw(name, JsonString(value));
}

JsonLine& JsonLine::Bool(std::string_view name, bool value) {
  return Raw(name, value ? "true" : "false");
}

JsonLine& JsonLine::Number(std::string_view name, double value) {
  return Raw(name, std::isfinite(value) ? absl::StrFormat("%.9g", value) : "null");
}

JsonLine& JsonLine::Raw(std::string_view name, std::string_view json) {
  if (!fields_.empty()) fields_ += ", ";
  fields_ += JsonString(name);
  fields_ += ": ";
  fields_ += json;
  return *this;
}

void JsonLine::Print() const { printf("%s\n", Line().c_str()); }

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += absl::StrFormat("\\u%04x", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace reprise::cli
