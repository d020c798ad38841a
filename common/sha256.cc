#include "common/sha256.h"

#include <stdexcept>

#include <openssl/evp.h>

namespace reprise {
namespace {

// Fetched once: EVP_sha256() looks its implementation up on every use (OpenSSL 3).
const EVP_MD* Algorithm() {
  static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  return algorithm;
}

}  // namespace

struct Sha256::Context {
  EVP_MD_CTX* evp = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(evp); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  // Fails only when OpenSSL itself is broken or memory is gone; nothing could be named without it.
  if (Algorithm() == nullptr || context_->evp == nullptr ||
      EVP_DigestInit_ex2(context_->evp, Algorithm(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL offers no SHA-256");
  }
}

Sha256::~Sha256() = default;

Sha256& Sha256::Update(ByteSpan bytes) {
  EVP_DigestUpdate(context_->evp, bytes.data(), bytes.size());
  return *this;
}

Digest Sha256::Finish() {
  Digest digest;
  EVP_DigestFinal_ex(context_->evp, reinterpret_cast<unsigned char*>(digest.bytes.data()), nullptr);
  return digest;
}

std::optional<Digest> Digest::FromHex(std::string_view hex) {
  Digest digest;
  if (!reprise::FromHex(hex, digest.bytes)) return std::nullopt;
  return digest;
}

std::optional<Digest> Digest::FromBytes(std::string_view bytes) {
  Digest digest;
  if (bytes.size() != digest.bytes.size()) return std::nullopt;
  std::memcpy(digest.bytes.data(), bytes.data(), bytes.size());
  return digest;
}

}  // namespace reprise
