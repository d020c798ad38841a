// RocksDB itself on our Envs: what it was told to sync survives any power loss.

#include "storage/env/rocks_file_system.h"

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"

#include "common/mutex.h"
#include "storage/env/machine_env.h"
#include "storage/env/testing/simulated_env.h"

namespace reprise::storage {
namespace {

using ::testing::HasSubstr;

constexpr PowerLossMode kModes[] = {PowerLossMode::kDrop, PowerLossMode::kSubset,
                                    PowerLossMode::kTorn};

// With a durable folder for the database.
void CreateFolder(Env& env) {
  ASSERT_TRUE(env.CreateDirectory("/db").ok());
  ASSERT_TRUE(env.SyncDirectory("/").ok());
}

// A database and what it runs on, closed in the right order.
class Database {
 public:
  explicit Database(Env& env, const std::string& path = "/db")
      : rocks_env_(rocksdb::NewCompositeEnv(CreateRocksFileSystem(env))) {
    rocksdb::Options options;
    options.env = rocks_env_.get();
    options.create_if_missing = true;
    options.paranoid_checks = true;
    rocksdb::DB* opened = nullptr;
    status_ = rocksdb::DB::Open(options, path, &opened);
    db_.reset(opened);
  }

  const rocksdb::Status& status() const { return status_; }
  rocksdb::Status Put(const std::string& key, const std::string& value, bool sync) {
    rocksdb::WriteOptions options;
    options.sync = sync;
    return db_->Put(options, key, value);
  }
  std::string Get(const std::string& key) {
    std::string value;
    const rocksdb::Status status = db_->Get({}, key, &value);
    return status.ok() ? value : status.ToString();
  }
  rocksdb::Status Flush() { return db_->Flush({}); }
  rocksdb::Status Compact() { return db_->CompactRange({}, nullptr, nullptr); }

 private:
  const std::unique_ptr<rocksdb::Env> rocks_env_;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::Status status_;
};

std::string Key(int number) { return absl::StrCat("key", number); }
std::string Value(int number) { return absl::StrCat(number, std::string(700, 'v')); }

TEST(RocksFileSystemTest, RunsOnTheMachine) {
  std::string folder = testing::TempDir() + "reprise-rocks-XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  MachineEnv env(MachineEnv::Backend::kPread);
  {
    Database database(env, folder + "/db");
    ASSERT_TRUE(database.status().ok()) << database.status().ToString();
    for (int i = 0; i < 100; ++i) ASSERT_TRUE(database.Put(Key(i), Value(i), i == 99).ok());
    ASSERT_TRUE(database.Flush().ok());
    ASSERT_TRUE(database.Compact().ok());
    EXPECT_TRUE(Database(env, folder + "/db").status().IsBusy());
  }
  Database database(env, folder + "/db");
  ASSERT_TRUE(database.status().ok()) << database.status().ToString();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(database.Get(Key(i)), Value(i));
  std::filesystem::remove_all(folder);
}

TEST(RocksFileSystemTest, WhatWasSyncedSurvivesPowerLossAfterTheRun) {
  for (const PowerLossMode mode : kModes) {
    SimulatedEnv env({.seed = 1});
    CreateFolder(env);
    {
      Database database(env);
      ASSERT_TRUE(database.status().ok()) << database.status().ToString();
      for (int i = 0; i < 50; ++i) ASSERT_TRUE(database.Put(Key(i), Value(i), true).ok());
      for (int i = 50; i < 60; ++i) ASSERT_TRUE(database.Put(Key(i), Value(i), false).ok());
      env.PowerLoss(mode);
    }
    Database database(env);
    ASSERT_TRUE(database.status().ok()) << database.status().ToString();
    for (int i = 0; i < 50; ++i) EXPECT_EQ(database.Get(Key(i)), Value(i));
  }
}

// Power is lost before each call of a run with flushes and a compaction.
TEST(RocksFileSystemTest, WhatWasSyncedSurvivesPowerLossAtAnyCall) {
  struct Moment {
    int synced = 0;  // keys below are
    DiskImage image;
  };
  Mutex mutex;
  std::vector<Moment> moments;
  std::atomic<int> synced = 0;
  {
    SimulatedEnv env({.seed = 2});
    CreateFolder(env);
    env.BeforeEachCall([&](DiskCall) {
      const int before = synced;
      MutexLock lock(mutex);
      moments.push_back({before, env.image()});
    });
    Database database(env);
    ASSERT_TRUE(database.status().ok()) << database.status().ToString();
    for (int i = 0; i < 60; ++i) {
      const bool sync = i % 3 == 2;
      ASSERT_TRUE(database.Put(Key(i), Value(i), sync).ok());
      if (sync) synced = i + 1;
      if (i % 20 == 10) {
        ASSERT_TRUE(database.Flush().ok());
      }
    }
    ASSERT_TRUE(database.Compact().ok());
  }
  ASSERT_GT(moments.size(), 100u);
  // Early on there is no database yet, and a crash may leave a part of one; nothing was promised.
  uint64_t seed = 0;
  for (const Moment& moment : moments) {
    if (moment.synced == 0) continue;
    for (const PowerLossMode mode : kModes) {
      ++seed;
      SimulatedEnv env({.seed = seed}, moment.image.AfterPowerLoss(mode, seed));
      Database database(env);
      ASSERT_TRUE(database.status().ok()) << database.status().ToString() << " seed " << seed;
      for (int i = 0; i < moment.synced; ++i) ASSERT_EQ(database.Get(Key(i)), Value(i)) << seed;
      for (int i = moment.synced; i < 60; ++i) {
        ASSERT_THAT(database.Get(Key(i)), ::testing::AnyOf(Value(i), HasSubstr("NotFound")));
      }
    }
  }
}

TEST(RocksFileSystemTest, AFullDiskRefusesWritesAndKeepsReads) {
  SimulatedEnv env({.seed = 3});
  CreateFolder(env);
  Database database(env);
  ASSERT_TRUE(database.Put(Key(0), Value(0), true).ok());
  env.faults().Always(DiskCall::kWrite, DiskFault::kNoSpace);
  const rocksdb::Status status = database.Put(Key(1), Value(1), true);
  EXPECT_TRUE(status.IsNoSpace()) << status.ToString();
  EXPECT_EQ(FromRocksStatus(status, "index").code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(database.Get(Key(0)), Value(0));
}

TEST(RocksFileSystemTest, StatusesMeanTheSameOnBothSides) {
  EXPECT_TRUE(ToRocksStatus(absl::OkStatus()).ok());
  const rocksdb::IOStatus full = ToRocksStatus(absl::ResourceExhaustedError("write /a: full"));
  EXPECT_TRUE(full.IsNoSpace());
  EXPECT_TRUE(full.GetRetryable());
  EXPECT_FALSE(ToRocksStatus(absl::InternalError("EIO")).GetRetryable());
  for (const absl::StatusCode code :
       {absl::StatusCode::kNotFound, absl::StatusCode::kResourceExhausted,
        absl::StatusCode::kUnavailable, absl::StatusCode::kInvalidArgument,
        absl::StatusCode::kInternal}) {
    const absl::Status back =
        FromRocksStatus(ToRocksStatus(absl::Status(code, "write /a: why")), "index");
    EXPECT_EQ(back.code(), code);
    EXPECT_THAT(std::string(back.message()), HasSubstr("write /a: why"));
    EXPECT_THAT(std::string(back.message()), HasSubstr("index: "));
  }
  EXPECT_EQ(FromRocksStatus(rocksdb::Status::Corruption("bad block"), "index").code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(FromRocksStatus(rocksdb::Status::OK(), "index"), absl::OkStatus());
}

}  // namespace
}  // namespace reprise::storage
