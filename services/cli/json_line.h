// One JSON object on one line, for `--json`.
//
//   JsonLine().Text("key", hex).Number("bytes", 17).Print();
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace reprise::cli {

class JsonLine {
 public:
  JsonLine& Text(std::string_view name, std::string_view value);
  JsonLine& Bool(std::string_view name, bool value);
  template <std::integral T>
  JsonLine& Number(std::string_view name, T value) {
    return Raw(name, std::to_string(value));
  }
  JsonLine& Number(std::string_view name, double value);
  // `json` is JSON already.
  JsonLine& Raw(std::string_view name, std::string_view json);

  std::string Line() const { return "{" + fields_ + "}"; }
  // To standard output, with the line's end.
  void Print() const;

 private:
  std::string fields_;
};

// `text` as a JSON string with its quotes; bytes that are not ASCII are passed on as they are.
std::string JsonString(std::string_view text);

}  // namespace reprise::cli
