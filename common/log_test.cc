#include "common/log.h"

#include <gtest/gtest.h>

namespace reprise {
namespace {

TEST(LogTest, WritesOneLineWithItsFields) {
  testing::internal::CaptureStderr();
  LogInfo("store listening",
          {{"address", "127.0.0.1:7070"}, {"bytes", 4096}, {"share", 0.25}, {"tls", false}});
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_NE(
      line.find("Z info store listening address=127.0.0.1:7070 bytes=4096 share=0.25 tls=false\n"),
      std::string::npos)
      << line;
}

TEST(LogTest, HostileValuesCannotForgeALine) {
  testing::internal::CaptureStderr();
  LogError("bad name", {{"name", "x\nerror forged a=\"b\""}, {"empty", ""}});
  const std::string line = testing::internal::GetCapturedStderr();
  EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
  EXPECT_NE(line.find(R"(name="x\x0aerror forged a=\"b\"" empty="")"), std::string::npos) << line;
}

TEST(LogTest, DropsWhatIsBelowTheLevel) {
  SetLogLevel(LogLevel::kWarning);
  testing::internal::CaptureStderr();
  LogInfo("quiet");
  LogWarning("loud");
  const std::string text = testing::internal::GetCapturedStderr();
  SetLogLevel(LogLevel::kInfo);
  EXPECT_EQ(text.find("quiet"), std::string::npos);
  EXPECT_NE(text.find("loud"), std::string::npos);
}

}  // namespace
}  // namespace reprise
