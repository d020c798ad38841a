#include "transport/ucx/same_host.h"

#include <unistd.h>

#include <cstring>

#include "gtest/gtest.h"

namespace reprise::transport {
namespace {

uint32_t Self() { return static_cast<uint32_t>(getpid()); }
uint64_t AddressOf(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

TEST(SameHostTest, TheIdentityIsOneForAllProcessesOfThisUser) {
  const std::optional<uint64_t> identity = SameHostIdentity();
  ASSERT_TRUE(identity.has_value());
  EXPECT_NE(*identity, 0u);
  EXPECT_EQ(SameHostIdentity(), identity);
}

TEST(SameHostTest, WhatWasReadProvesItAndNothingElseDoes) {
  const SameHostLender lender;
  const SameHostLender another;
  const auto reader = SameHostReader::Create(Self(), lender.token_address());
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::string proof = reader->proof();
  EXPECT_TRUE(lender.IsProof(AsBytes(proof)));
  EXPECT_FALSE(another.IsProof(AsBytes(proof)));
  EXPECT_FALSE(lender.IsProof({}));
  EXPECT_FALSE(lender.IsProof(AsBytes(proof).first(8)));
  for (size_t i = 0; i < proof.size(); ++i) {
    std::string wrong = proof;
    wrong[i] = static_cast<char>(wrong[i] ^ 1);
    EXPECT_FALSE(lender.IsProof(AsBytes(wrong))) << i;
  }
}

TEST(SameHostTest, MemoryWithoutATokenIsNotTaken) {
  const std::string secret(64, 's');
  EXPECT_EQ(SameHostReader::Create(Self(), AddressOf(secret.data())).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(SameHostReader::Create(Self(), 0x1000).status().code(), absl::StatusCode::kUnavailable);
  const SameHostLender lender;
  for (const uint32_t pid : {0u, 0x7FFF'FFFFu, 0xFFFF'FFFFu}) {
    EXPECT_EQ(SameHostReader::Create(pid, lender.token_address()).status().code(),
              absl::StatusCode::kUnavailable);
  }
}

TEST(SameHostTest, BulkIsReadOnlyAsLongAsItIsLent) {
  SameHostLender lender;
  const auto reader = SameHostReader::Create(Self(), lender.token_address());
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::string bulk(kMiB, 'b');
  std::string copy(kMiB, ' ');
  const MutableByteSpan to = std::as_writable_bytes(std::span(copy));
  EXPECT_TRUE(reader->Read(AddressOf(bulk.data()), to).ok());
  EXPECT_EQ(copy, bulk);
  EXPECT_EQ(reader->Read(0x1000, to).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(reader->Read(UINT64_MAX - kMiB, to).code(), absl::StatusCode::kUnavailable);
  static_cast<void>(lender.Revoke());
  EXPECT_EQ(reader->Read(AddressOf(bulk.data()), to).code(), absl::StatusCode::kUnavailable);
}

TEST(SameHostTest, LoansAreKeptUntilTheyAreTakenBackOrRevoked) {
  const auto bytes = std::make_shared<std::string>("bulk");
  const auto loan = [&] {
    return SameHostLender::Loan{SharedBytes(AsBytes(*bytes), bytes), nullptr, 7};
  };
  SameHostLender lender;
  EXPECT_TRUE(lender.Lend(1, 0, loan()));
  EXPECT_TRUE(lender.Lend(1, 1, loan()));
  EXPECT_TRUE(lender.Lend(2, 0, loan()));
  EXPECT_FALSE(lender.Lend(1, 0, loan()));
  EXPECT_EQ(bytes.use_count(), 4);
  EXPECT_EQ(lender.TakeBack(1, 0)->cost, 7u);
  EXPECT_FALSE(lender.TakeBack(1, 0).has_value());
  EXPECT_FALSE(lender.TakeBack(3, 0).has_value());
  EXPECT_EQ(bytes.use_count(), 3);
  EXPECT_EQ(lender.Revoke().size(), 2u);
  EXPECT_EQ(bytes.use_count(), 1);
}

}  // namespace
}  // namespace reprise::transport
