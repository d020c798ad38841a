// Bulk that a client on the same host reads from the server's memory (process_vm_readv) instead of
// having it sent: what either side keeps for one endpoint.
//
// The server makes a token, 32 bytes of its memory, and tells the client where it is. A client that
// sends the token's secret back has shown that it may read the server; from then on the server
// names the address of large bulk and keeps the bulk until the client says that it was read
// (SameHostLender). The client reads bulk and token in one call (SameHostReader).
//
// That an intact token came behind the bulk is all that the client trusts, with nothing else kept
// of the process: the kernel copies in the order asked, and the secret is 128 random bits that only
// this endpoint's server has at that address. So the pid still names that process, with the memory
// of that time, whoever else may have got the number since; and the server, which wipes the secret
// before it lets go of anything lent, had let go of nothing while the bulk was copied.
//
// Neither class is thread-safe; they belong to the loop's thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"

namespace reprise::transport {

class BulkSentObserver;

// Bulk from this size on is lent to a client that can read it.
inline constexpr size_t kSameHostBytes = 64 * kKiB;

// Two processes with the same number run on one boot of one kernel, in one PID namespace, under one
// user id. A hash, never 0, that others cannot guess; nullopt where /proc does not tell.
std::optional<uint64_t> SameHostIdentity();

// Lets every process of this user id read this one also where Yama's ptrace_scope is 1.
void AllowReaders();

struct SameHostToken {
  // A client sends nothing back that does not follow this: a hostile server could name any memory
  // that the client may read.
  static constexpr std::array<char, 16> kTag = {"reprise/1 token"};

  std::array<char, 16> tag = kTag;
  std::array<std::atomic<uint64_t>, 2> secret;
};
static_assert(sizeof(SameHostToken) == 32 && std::atomic<uint64_t>::is_always_lock_free);

// The server's side.
class SameHostLender {
 public:
  struct Loan {
    SharedBytes bulk;
    std::shared_ptr<BulkSentObserver> observer;  // may be null
    size_t cost = 0;                             // Endpoint::SendCost
  };

  SameHostLender();
  ~SameHostLender();
  SameHostLender(const SameHostLender&) = delete;
  SameHostLender& operator=(const SameHostLender&) = delete;

  uint64_t token_address() const { return reinterpret_cast<uintptr_t>(token_.get()); }
  // Whether `proof` is the secret.
  bool IsProof(ByteSpan proof) const;

  // Keeps a part's bulk until TakeBack or Revoke. False, keeping nothing, when a part of that name
  // is lent already.
  bool Lend(uint64_t call_id, uint32_t sequence, Loan loan);
  // nullopt when no such part is lent.
  std::optional<Loan> TakeBack(uint64_t call_id, uint32_t sequence);
  // Wipes the secret: what is read from now on is not accepted by a client any more. Then gives
  // back what is lent.
  std::vector<Loan> Revoke();

 private:
  const std::unique_ptr<SameHostToken> token_;
  absl::flat_hash_map<std::pair<uint64_t, uint32_t>, Loan> loans_;
};

// The client's side.
class SameHostReader {
 public:
  // Reads the token. UNAVAILABLE, with the reason, when this process may not read that one or there
  // is no token.
  static absl::StatusOr<SameHostReader> Create(uint32_t pid, uint64_t token_address);

  // What shows the server that it was read.
  std::string proof() const;
  // Fills `to` with the bytes lent at `address`; blocks for as long as copying takes. UNAVAILABLE,
  // with `to` unspecified, when they cannot be read or may be lent no more.
  absl::Status Read(uint64_t address, MutableByteSpan to) const;

 private:
  using TokenBytes = std::array<std::byte, sizeof(SameHostToken)>;

  SameHostReader(uint32_t pid, uint64_t token_address) : pid_(pid), token_address_(token_address) {}

  uint32_t pid_;
  uint64_t token_address_;
  TokenBytes token_{};
};

}  // namespace reprise::transport
