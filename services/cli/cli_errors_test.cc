// What users see when something is wrong: one line and the right exit code.

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "services/cli/commands.h"
#include "services/cli/reprise_process.h"

namespace reprise::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// One line on standard error that starts with "reprise: ", and nothing on standard output.
void ExpectLine(const Finished& finished, int exit_code, const std::string& says) {
  EXPECT_EQ(finished.exit_code, exit_code) << finished.err;
  EXPECT_THAT(finished.err, StartsWith("reprise: "));
  EXPECT_THAT(finished.err, HasSubstr(says));
  EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
  EXPECT_EQ(finished.out, "");
}

TEST(CliErrors, EveryCommandHasHelpWithAnExample) {
  const Finished top = RunReprise({"--help"});
  EXPECT_EQ(top.exit_code, kExitOk);
  EXPECT_THAT(top.out, HasSubstr("Example"));
  for (const char* command : {"store", "put", "get", "stat", "ls", "rm", "fsck", "du", "version"}) {
    const Finished help = RunReprise({command, "--help"});
    EXPECT_EQ(help.exit_code, kExitOk) << command;
    EXPECT_THAT(help.out, HasSubstr("Example"));
    EXPECT_THAT(help.out, HasSubstr("reprise " + std::string(command)));
    EXPECT_EQ(help.err, "");
    EXPECT_THAT(top.out, HasSubstr(command));
  }
}

TEST(CliErrors, WrongUsage) {
  struct Usage {
    std::vector<std::string> args;
    const char* says;
  };
  const Usage usages[] = {
      {{}, "(see reprise --help)"},
      {{"frob"}, "\"frob\" is no command"},
      {{"store", "--frobnicate"}, "--frobnicate (see reprise store --help)"},
      {{"put", "name", "file", "--frobnicate"}, "--frobnicate (see reprise put --help)"},
      {{"put", "name"}, "put takes NAME and FILE"},
      {{"put", "--piece", "name", "file"}, "put --piece takes one FILE"},
      {{"put"}, "NAME or --kv"},
      {{"put", "--kv", "dir", "name"}, "put --kv takes no NAME"},
      {{"put", "--kv", "dir", "--replace"}, "put --kv takes no NAME"},
      {{"put", "--kv", "dir", "--codec", "zip"}, "--codec"},
      {{"put", "name", "file", "--codec", "raw"}, "--codec requires --kv"},
      {{"get", "--kv", "dir"}, "get --kv needs -o DIRECTORY"},
      {{"get", "--kv", "dir", "--level", "much", "-o", "x"}, "--level"},
      {{"get", "name", "--level", "1"}, "--level requires --kv"},
      {{"get"}, "NAME or --key"},
      {{"get", "name", "--key", std::string(64, '0')}, "excludes"},
      {{"get", "name", "--json"}, "--json needs -o FILE"},
      {{"get", "name", "--carrier", "pigeon"}, "pigeon"},
      {{"get", "name", "--timeout", "-1"}, "--timeout"},
      {{"get", "name", "--timeout", "soon"}, "--timeout"},
      {{"get", "name", "-o", ""}, "-o needs a FILE"},
      {{"get", "--key", "abc"}, "\"abc\" is not 64 hexadecimal digits"},
      {{"get", "x", "--store", "nonsense"}, "\"nonsense\" is not an address"},
      {{"ls", "--limit", "-1"}, "--limit"},
      {{"ls", "--namespace", "0123456789abcdef"}, "is not 64 hexadecimal digits"},
      {{"store", "--listen", "nonsense"}, "the listen address \"nonsense\" is not an address"},
      {{"store", "--data", "7071"}, "the data address \"7071\" is not an address"},
      {{"store", "--memory", "plenty"}, "\"plenty\" is not a size"},
      {{"store", "--log-level", "loud"}, "--log-level"},
      {{"stat"}, "NAME or --key"},
      {{"rm"}, "NAME, --key or --namespace"},
      {{"rm", "a", "--namespace", std::string(64, '0'), "--yes"},
       "either single objects or a namespace"},
  };
  for (const Usage& usage : usages) ExpectLine(RunReprise(usage.args), kExitUsage, usage.says);
}

TEST(CliErrors, WrongAddresses) {
  ExpectLine(RunReprise({"get", "x", "--store", "127.0.0.1:1", "--timeout", "3"}), kExitError,
             "127.0.0.1:1");
  // An address kept for documentation (RFC 5737), so nobody's here.
  ExpectLine(
      RunReprise({"store", "--listen", "203.0.113.5:0", "--metrics", "off", "--memory", "512MiB"}),
      kExitError, "203.0.113.5:0");
}

TEST(CliErrors, PortsInUse) {
  const RunningStore store({"--memory", "512MiB"});
  ASSERT_NE(store.grpc(), "");
  ExpectLine(
      RunReprise({"store", "--memory", "512MiB", "--metrics", "off", "--listen", store.grpc()}),
      kExitError, store.grpc());
  ExpectLine(RunReprise({"store", "--memory", "512MiB", "--metrics", "off", "--listen",
                         "127.0.0.1:0", "--data", store.data()}),
             kExitError, store.data());
  ExpectLine(RunReprise({"store", "--memory", "512MiB", "--listen", "127.0.0.1:0", "--metrics",
                         store.metrics()}),
             kExitError, store.metrics());
}

TEST(CliErrors, RefusedMemorySizes) {
  ExpectLine(RunReprise({"store", "--memory", "1MiB"}), kExitError, "too small: a store needs");
  ExpectLine(RunReprise({"store", "--memory", "4096TiB"}), kExitError, "is more than the");
}

TEST(CliErrors, ConfigurationFiles) {
  const ScratchDir scratch;
  const std::string bad = scratch.Write("bad.yaml", "listen: 127.0.0.1:0\nmemroy: 1GiB\n");
  ExpectLine(RunReprise({"store", "--config", bad}), kExitError,
             bad + ":2: unknown key \"memroy\"");
  const std::string broken = scratch.Write("broken.yaml", "listen: 127.0.0.1:0\ntenants: [\n");
  ExpectLine(RunReprise({"store", "--config", broken}), kExitError, broken + ":3: ");
  ExpectLine(RunReprise({"store", "--config", scratch.Path("absent.yaml")}), kExitError,
             "cannot read " + scratch.Path("absent.yaml") + ": No such file or directory");
}

TEST(CliErrors, UnreadableFiles) {
  const ScratchDir scratch;
  ExpectLine(RunReprise({"put", "x", scratch.Path("absent")}), kExitError,
             "cannot read " + scratch.Path("absent") + ": No such file or directory");
  ExpectLine(RunReprise({"put", "x", scratch.Path("")}), kExitError, "Is a directory");
  ExpectLine(RunReprise({"put", "x", scratch.Write("empty", "")}), kExitError, "is empty");
  ExpectLine(RunReprise({"get", "x", "--credential-file", scratch.Path("absent")}), kExitError,
             "cannot read");
}

TEST(CliErrors, AgainstAStore) {
  const ScratchDir scratch;
  const RunningStore store({"--memory", "320MiB"});
  ASSERT_NE(store.grpc(), "");
  const std::string large = scratch.Write("large", Pattern(150 << 20, 1));
  ExpectLine(store.Run({"put", "large", large}), kExitError, large + ": publish of piece ");
  ASSERT_EQ(store.Run({"put", "x", scratch.Write("x", "x")}).exit_code, kExitOk);
  ExpectLine(store.Run({"get", "x", "-o", scratch.Path("no/such/dir")}), kExitError,
             "cannot write");
  ExpectLine(store.Run({"get", "x", "--tenant", "stranger"}), kExitError,
             "unknown tenant or wrong credential");
}

TEST(CliErrors, AStoreThatWasKilled) {
  RunningStore store({"--memory", "512MiB"});
  EXPECT_EQ(store.Run({"ls"}).exit_code, kExitOk);
  EXPECT_EQ(store.Stop(SIGKILL).exit_code, 128 + SIGKILL);
  ExpectLine(store.Run({"ls", "--timeout", "3"}), kExitError, store.grpc());
}

}  // namespace
}  // namespace reprise::cli
