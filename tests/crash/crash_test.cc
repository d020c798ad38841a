#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/reprise_process.h"
#include "tests/crash/crash_run.h"

namespace reprise::crash {
namespace {

TEST(Crash, AKilledStoreComesBackWithWhatWasDurableAndNothingWrong) {
  const cli::ScratchDir scratch;
  CrashOptions options;
  options.directory = scratch.Path("disk");
  const CrashReport report = RunCrashes(options);
  EXPECT_THAT(report.problems, ::testing::IsEmpty());
  EXPECT_EQ(report.cycles, options.cycles);
  EXPECT_EQ(report.wrong, 0u);
  EXPECT_EQ(report.lost, 0u);
  EXPECT_GT(report.durable_read, 0u);
}

}  // namespace
}  // namespace reprise::crash
