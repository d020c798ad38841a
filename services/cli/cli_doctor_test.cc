// `reprise doctor`, on whatever machine runs the tests.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

TEST(CliDoctor, TellsOfThisMachine) {
  const Finished finished = RunReprise({"doctor"});
  EXPECT_EQ(finished.exit_code, kExitOk) << finished.out << finished.err;
  for (const char* subject : {"cpu", "memory", "io_uring", "data path"}) {
    EXPECT_THAT(finished.out, HasSubstr(subject));
  }
  EXPECT_THAT(finished.out, Not(HasSubstr("store, grpc")));
}

TEST(CliDoctor, TriesAStore) {
  const RunningStore store({});
  const Finished finished = store.Run({"doctor", "--json"});
  EXPECT_EQ(finished.exit_code, kExitOk) << finished.out << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("\"subject\": \"store, grpc\", \"verdict\": \"ok\""));
  EXPECT_THAT(finished.out, HasSubstr("\"subject\": \"store, ucx\", \"verdict\": \"ok\""));
}

TEST(CliDoctor, AStoreThatIsNotThereFails) {
  const Finished finished = RunReprise({"doctor", "--store", "127.0.0.1:1", "--timeout", "5"});
  EXPECT_EQ(finished.exit_code, kExitError);
  EXPECT_THAT(finished.out, ContainsRegex("FAIL  store, grpc .*nobody listens there"));
}

TEST(CliDoctor, ADiskThatCannotBeUsedFailsAndIsNamed) {
  const Finished finished = RunReprise({"doctor", "--disk", "/proc"});
  EXPECT_EQ(finished.exit_code, kExitError);
  EXPECT_THAT(finished.out, ContainsRegex("FAIL  disk .*/proc"));
}

}  // namespace
}  // namespace reprise::cli
