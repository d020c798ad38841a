#include "services/store/store_config.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace reprise::store {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string WriteTemporary(const std::string& name, const std::string& text) {
  std::string path = ::testing::TempDir() + name;
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

TEST(StoreConfig, AppliesEveryKey) {
  const std::string key = WriteTemporary("search.key", "s3cret\n");
  StoreConfig config;
  ASSERT_TRUE(ApplyYaml("# a store\nlisten: 0.0.0.0:7071\ndata: off\nmemory: 2GiB\n"
                        "metrics: 127.0.0.1:0\nlog_level: warning\ndisk: /data\ndisk_size: 20GiB\n"
                        "floor: 0.08,0.15\nsame_host: true\ntenants:\n"
                        "  - name: search\n    credential_file: " +
                            key +
                            "\n"
                            "  - name: chat\n    credential: open sesame\n"
                            "    memory_quota: 1GiB\n    disk_quota: 30GiB\n",
                        "store.yaml", config)
                  .ok());
  EXPECT_EQ(config.listen, "0.0.0.0:7071");
  EXPECT_EQ(config.data, "off");
  EXPECT_EQ(config.memory_bytes, 2'147'483'648u);
  EXPECT_EQ(config.metrics, "127.0.0.1:0");
  EXPECT_EQ(config.log_level, LogLevel::kWarning);
  EXPECT_EQ(config.disk, "/data");
  EXPECT_EQ(config.disk_bytes, 21'474'836'480u);
  EXPECT_EQ(config.floor, (Distortion{.key = 0.08F, .value = 0.15F}));
  EXPECT_TRUE(config.same_host);
  ASSERT_EQ(config.tenants.size(), 2u);
  EXPECT_EQ(config.tenants[0].name, "search");
  EXPECT_EQ(config.tenants[0].credential, "s3cret");
  EXPECT_EQ(config.tenants[0].memory_quota_bytes, 0u);
  EXPECT_EQ(config.tenants[0].disk_quota_bytes, 0u);
  EXPECT_EQ(config.tenants[1].credential, "open sesame");
  EXPECT_EQ(config.tenants[1].memory_quota_bytes, 1'073'741'824u);
  EXPECT_EQ(config.tenants[1].disk_quota_bytes, 32'212'254'720u);
}

TEST(StoreConfig, LeavesOutWhatTheFileDoesNotName) {
  StoreConfig config;
  config.metrics = "off";
  ASSERT_TRUE(ApplyYaml("memory: 512MiB\n", "s", config).ok());
  ASSERT_TRUE(ApplyYaml("", "s", config).ok());
  ASSERT_TRUE(ApplyYaml("# nothing\n", "s", config).ok());
  EXPECT_EQ(config.listen, "127.0.0.1:7070");
  EXPECT_FALSE(config.same_host);
  EXPECT_EQ(config.metrics, "off");
  EXPECT_EQ(config.memory_bytes, 512u << 20);
}

struct BadFile {
  const char* yaml;
  const char* starts_with;
  const char* says;
};

TEST(StoreConfig, NamesTheLineOfWhatIsWrong) {
  const BadFile files[] = {
      {"listen: a:1\nmemroy: 1GiB\n", "store.yaml:2: ", "unknown key \"memroy\""},
      {"listen: a:1\n\nmemory: lots\n", "store.yaml:3: ", "\"lots\" is not a size"},
      {"floor: 1\n", "store.yaml:1: ", "\"1\" are no errors of K and V"},
      {"floor: -0.1\n", "store.yaml:1: ", "from 0 (exact) to below 1"},
      {"floor: 0.1,\n", "store.yaml:1: ", "\"0.1,\" are no errors of K and V"},
      {"floor: 0.1,0.2,0.3\n", "store.yaml:1: ", "two with a comma between"},
      {"same_host: yes\n", "store.yaml:1: ", "true or false, not \"yes\""},
      {"floor: nan\n", "store.yaml:1: ", "from 0 (exact) to below 1"},
      {"listen: a:1\nlisten: b:1\n", "store.yaml:2: ", "given twice"},
      {"listen: [a, b]\n", "store.yaml:1: ", "listen needs one value"},
      {"listen:\n", "store.yaml:1: ", "listen needs one value"},
      {"metrics: off\nlog_level: loud\n", "store.yaml:2: ", "\"loud\" is not a log level"},
      {"listen: \"a:1\nmemory: 1GiB\n", "store.yaml:1: ", "is not an address"},
      {"listen: [a:1\n", "store.yaml:2: ", "not valid YAML: end of sequence"},
      {"listen: a:1\n\tmemory: 1GiB\n", "store.yaml:2: ", ""},
      {"- listen\n", "store.yaml:1: ", "key: value"},
      {"just text\n", "store.yaml:1: ", "key: value"},
      {"listen: a:1\n---\nlisten: b:1\n", "store.yaml:3: ", "second YAML document"},
      {"listen: a:1\ntenants: search\n", "store.yaml:2: ", "needs a list"},
      {"tenants:\n  - name: a\n", "store.yaml:2: ", "either credential or credential_file"},
      {"tenants:\n  - name: a\n    credential: x\n    credential_file: y\n",
       "store.yaml:4: ", "not both"},
      {"tenants:\n  - credential: x\n", "store.yaml:2: ", "without a name"},
      {"tenants:\n  - name: a\n    credential: x\n  - name: a\n    credential: y\n",
       "store.yaml:4: ", "\"a\" is given twice"},
      {"tenants:\n  - name: a\n    credential: x\n    quota: 3\n",
       "store.yaml:4: ", "unknown key \"quota\""},
      {"tenants:\n  - name: a\n    credential: x\n    memory_quota: much\n",
       "store.yaml:4: ", "much"},
      {"tenants:\n  - name: a\n    credential: x\n    disk_quota: 0B\n",
       "store.yaml:4: ", "leave it out"},
      {"tenants:\n  - name: a\n    credential_file: /nonexistent/key\n",
       "store.yaml:3: ", "cannot read /nonexistent/key: No such file"},
  };
  for (const BadFile& file : files) {
    StoreConfig config;
    const absl::Status status = ApplyYaml(file.yaml, "store.yaml", config);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << file.yaml;
    const std::string message(status.message());
    EXPECT_THAT(message, StartsWith(file.starts_with)) << file.yaml;
    EXPECT_THAT(message, HasSubstr(file.says)) << file.yaml;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

TEST(StoreConfig, SaysWhichFileCannotBeRead) {
  StoreConfig config;
  const absl::Status status = ApplyYamlFile("/nonexistent/store.yaml", config);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "cannot read /nonexistent/store.yaml: No such file or directory");
  EXPECT_EQ(ApplyYamlFile(::testing::TempDir(), config).code(), absl::StatusCode::kNotFound);
}

TEST(StoreConfig, CredentialFilesAreBoundedAndNotEmpty) {
  EXPECT_EQ(ReadCredentialFile(WriteTemporary("crlf.key", "word\r\n")).value(), "word");
  EXPECT_EQ(ReadCredentialFile(WriteTemporary("spaces.key", " word ")).value(), " word ");
  EXPECT_EQ(ReadCredentialFile(WriteTemporary("empty.key", "\n")).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadCredentialFile(WriteTemporary("long.key", std::string(4097, 'x'))).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace reprise::store
