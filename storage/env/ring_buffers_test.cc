// Buffers are found once their pages are there, and transfers land in them by their index.

#include "storage/env/ring_buffers.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include <gtest/gtest.h>

#include "common/limits.h"
#include "common/mutex.h"
#include "storage/env/testing/disk_calls.h"

namespace reprise::storage {
namespace {

class RingBuffersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (io_uring_queue_init(4, &ring_, 0) != 0) GTEST_SKIP() << "io_uring is denied";
    has_ring_ = true;
  }
  ~RingBuffersTest() override {
    buffers_.reset();
    if (has_ring_) io_uring_queue_exit(&ring_);
  }

  void Make(std::vector<MutableByteSpan> areas) {
    buffers_ = std::make_unique<RingBuffers>(
        ring_, DiskQueueOptions{.name = "test", .depth = 4, .buffers = std::move(areas)}, [this] {
          MutexLock lock(mutex_);
          ++woken_;
          was_woken_.notify_all();
        });
  }
  void WaitUntilWoken(int times) {
    MutexLock lock(mutex_);
    while (woken_ < times) was_woken_.wait(mutex_);
  }
  // How many bytes a fixed read of that area brought, or a negative error.
  int ReadFixed(int descriptor, MutableByteSpan to, int index) {
    io_uring_sqe* const entry = io_uring_get_sqe(&ring_);
    io_uring_prep_read_fixed(entry, descriptor, to.data(), static_cast<unsigned>(to.size()), 0,
                             index);
    io_uring_submit(&ring_);
    io_uring_cqe* done = nullptr;
    if (io_uring_wait_cqe(&ring_, &done) != 0) return -1;
    const int result = done->res;
    io_uring_cqe_seen(&ring_, done);
    return result;
  }

  io_uring ring_{};
  bool has_ring_ = false;
  Mutex mutex_;
  CondVar was_woken_;
  int woken_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<RingBuffers> buffers_;
};

TEST_F(RingBuffersTest, EachAreaIsFoundOnceItIsRegistered) {
  const AlignedBytes first(64 * kKiB);
  const AlignedBytes second(64 * kKiB);
  const AlignedBytes other(64 * kKiB);
  Make({first.bytes(), second.bytes()});
  buffers_->RegisterPopulated();
  WaitUntilWoken(2);
  buffers_->RegisterPopulated();
  if (buffers_->IndexOf(first.bytes()) < 0) GTEST_SKIP() << "the kernel registers no buffers here";
  EXPECT_EQ(buffers_->IndexOf(first.bytes()), 0);
  EXPECT_EQ(buffers_->IndexOf(second.bytes()), 1);
  EXPECT_EQ(buffers_->IndexOf(second.bytes().last(1)), 1);
  EXPECT_EQ(buffers_->IndexOf(other.bytes()), -1);
}

TEST_F(RingBuffersTest, WhatReachesBeyondAnAreaIsNotInIt) {
  const AlignedBytes memory(64 * kKiB);
  Make({memory.bytes().first(32 * kKiB)});
  buffers_->RegisterPopulated();
  WaitUntilWoken(1);
  buffers_->RegisterPopulated();
  if (buffers_->IndexOf(memory.bytes().first(1)) < 0) GTEST_SKIP() << "no registered buffers here";
  EXPECT_EQ(buffers_->IndexOf(memory.bytes().first(32 * kKiB)), 0);
  EXPECT_EQ(buffers_->IndexOf(memory.bytes().first(32 * kKiB + 1)), -1);
  EXPECT_EQ(buffers_->IndexOf(memory.bytes().subspan(32 * kKiB - 1, 2)), -1);
  EXPECT_EQ(buffers_->IndexOf(memory.bytes().subspan(32 * kKiB, 1)), -1);
}

TEST_F(RingBuffersTest, ATransferLandsInTheAreaOfItsIndex) {
  const AlignedBytes memory(64 * kKiB);
  Make({memory.bytes()});
  EXPECT_EQ(buffers_->IndexOf(memory.bytes()), -1);
  buffers_->RegisterPopulated();
  WaitUntilWoken(1);
  buffers_->RegisterPopulated();
  const int index = buffers_->IndexOf(memory.bytes());
  if (index < 0) GTEST_SKIP() << "the kernel registers no buffers here";
  std::memset(memory.bytes().data(), 1, memory.bytes().size());
  const int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
  ASSERT_GE(zero, 0);
  EXPECT_EQ(ReadFixed(zero, memory.bytes().subspan(8 * kKiB, 4 * kKiB), index), 4 * kKiB);
  close(zero);
  EXPECT_EQ(memory.bytes()[8 * kKiB - 1], std::byte{1});
  EXPECT_EQ(memory.bytes()[8 * kKiB], std::byte{0});
  EXPECT_EQ(memory.bytes()[12 * kKiB - 1], std::byte{0});
  EXPECT_EQ(memory.bytes()[12 * kKiB], std::byte{1});
}

TEST_F(RingBuffersTest, WithoutAreasNothingIsFoundAndNothingStarts) {
  const AlignedBytes memory(4 * kKiB);
  Make({});
  buffers_->RegisterPopulated();
  EXPECT_EQ(buffers_->IndexOf(memory.bytes()), -1);
}

}  // namespace
}  // namespace reprise::storage
