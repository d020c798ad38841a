#include "transport/ucx/same_host.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <random>

#include "absl/strings/str_cat.h"
#include <limits.h>

#include "common/sha256.h"
#include "transport/ucx/wire.h"

namespace reprise::transport {
namespace {

constexpr size_t kSecretAt = offsetof(SameHostToken, secret);
constexpr size_t kSecretBytes = sizeof(SameHostToken::secret);

uint64_t RandomWord(std::random_device& random) { return uint64_t{random()} << 32 | random(); }

// The bytes of all of `remote`, in order, into `local`.
absl::Status ReadProcess(uint32_t pid, std::span<const iovec> local,
                         std::span<const iovec> remote) {
  size_t wanted = 0;
  for (const iovec& part : remote) wanted += part.iov_len;
  const ssize_t got = process_vm_readv(static_cast<pid_t>(pid), local.data(), local.size(),
                                       remote.data(), remote.size(), 0);
  if (got >= 0 && static_cast<size_t>(got) == wanted) return absl::OkStatus();
  return absl::UnavailableError(
      absl::StrCat("cannot read ", wanted, " bytes of process ", pid, ": ",
                   got < 0 ? std::strerror(errno) : absl::StrCat("only ", got, " are there")));
}

iovec Local(MutableByteSpan bytes) { return {bytes.data(), bytes.size()}; }
iovec Remote(uint64_t address, size_t size) {
  return {reinterpret_cast<void*>(address), size};  // NOLINT: never dereferenced here
}

}  // namespace

std::optional<uint64_t> SameHostIdentity() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::array<char, 64> pids{};
  const ssize_t size = readlink("/proc/self/ns/pid", pids.data(), pids.size());
  if (boot.empty() || size <= 0) return std::nullopt;
  const Digest digest = Sha256()
                            .Update("reprise same host\n")
                            .Update(boot)
                            .Update(std::string_view(pids.data(), static_cast<size_t>(size)))
                            .Update(absl::StrCat("\n", geteuid()))
                            .Finish();
  uint64_t identity = 0;
  std::memcpy(&identity, digest.bytes.data(), sizeof(identity));
  return identity | 1;
}

void AllowReaders() {
  // EINVAL where there is no Yama, and nothing to allow.
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
}

// ---- server ----

SameHostLender::SameHostLender() : token_(std::make_unique<SameHostToken>()) {
  std::random_device random;
  for (std::atomic<uint64_t>& word : token_->secret) word = RandomWord(random);
}

SameHostLender::~SameHostLender() { static_cast<void>(Revoke()); }

bool SameHostLender::IsProof(ByteSpan proof) const {
  std::array<uint64_t, 2> words{};
  if (proof.size() != sizeof(words)) return false;
  std::memcpy(words.data(), proof.data(), sizeof(words));
  // All of it, whatever the first word says: how long it takes tells nothing.
  return ((words[0] ^ token_->secret[0]) | (words[1] ^ token_->secret[1])) == 0;
}

bool SameHostLender::Lend(uint64_t call_id, uint32_t sequence, Loan loan) {
  return loans_.try_emplace(std::pair(call_id, sequence), std::move(loan)).second;
}

std::optional<SameHostLender::Loan> SameHostLender::TakeBack(uint64_t call_id, uint32_t sequence) {
  const auto found = loans_.find(std::pair(call_id, sequence));
  if (found == loans_.end()) return std::nullopt;
  Loan loan = std::move(found->second);
  loans_.erase(found);
  return loan;
}

std::vector<SameHostLender::Loan> SameHostLender::Revoke() {
  // Exchanged, so that nothing that follows moves before it.
  for (std::atomic<uint64_t>& word : token_->secret) word.exchange(0);
  std::vector<Loan> loans;
  loans.reserve(loans_.size());
  for (auto& [name, loan] : loans_) loans.push_back(std::move(loan));
  loans_.clear();
  return loans;
}

// ---- client ----

absl::StatusOr<SameHostReader> SameHostReader::Create(uint32_t pid, uint64_t token_address) {
  if (pid == 0 || pid > INT_MAX) {
    return absl::UnavailableError(absl::StrCat(pid, " is no process id"));
  }
  SameHostReader reader(pid, token_address);
  const iovec local = Local(reader.token_);
  const iovec remote = Remote(token_address, sizeof(SameHostToken));
  REPRISE_RETURN_IF_ERROR(ReadProcess(pid, {&local, 1}, {&remote, 1}));
  if (std::memcmp(reader.token_.data(), SameHostToken::kTag.data(), SameHostToken::kTag.size()) !=
      0) {
    return absl::UnavailableError(absl::StrCat("process ", pid, " has no token where it should"));
  }
  return reader;
}

std::string SameHostReader::proof() const {
  return std::string(AsText(ByteSpan(token_).subspan(kSecretAt, kSecretBytes)));
}

absl::Status SameHostReader::Read(uint64_t address, MutableByteSpan to) const {
  TokenBytes token;
  const std::array<iovec, 2> local = {Local(to), Local(token)};
  const std::array<iovec, 2> remote = {Remote(address, to.size()),
                                       Remote(token_address_, token.size())};
  REPRISE_RETURN_IF_ERROR(ReadProcess(pid_, local, remote));
  if (token != token_) {
    return absl::UnavailableError(
        absl::StrCat("process ", pid_, " has ended the session in which it lent its memory"));
  }
  return absl::OkStatus();
}

}  // namespace reprise::transport
