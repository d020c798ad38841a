// absl::Status as every fallible call of Reprise returns it, and the two macros that pass it on.
//
// Codes are used the same way everywhere:
//   INVALID_ARGUMENT    the caller's input is wrong; trying again cannot help
//   NOT_FOUND           a named object of the user's (a file, a tenant) does not exist; a cache
//   miss is a value instead RESOURCE_EXHAUSTED  a budget or limit is reached; later may work
//   DEADLINE_EXCEEDED   the deadline passed
//   CANCELLED           the caller cancelled
//   UNAVAILABLE         the peer is gone or unreachable; another node or later may work
//   UNAUTHENTICATED     the session is unknown or bound elsewhere; open a new one
//   PERMISSION_DENIED   the credential is wrong
//   DATA_LOSS           bytes do not match their checksum, content id or key
//   UNIMPLEMENTED       a version, codec or method that this build does not know
//   INTERNAL            a defect of ours
#pragma once

#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace reprise {

// The same code with `context` and ": " put before the message; OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

}  // namespace reprise

#define REPRISE_RETURN_IF_ERROR(expr)                                   \
  do {                                                                  \
    if (absl::Status reprise_status_ = (expr); !reprise_status_.ok()) { \
      return reprise_status_;                                           \
    }                                                                   \
  } while (false)

#define REPRISE_CONCAT_INNER_(a, b) a##b
#define REPRISE_CONCAT_(a, b) REPRISE_CONCAT_INNER_(a, b)
#define REPRISE_ASSIGN_OR_RETURN(lhs, expr) \
  REPRISE_ASSIGN_OR_RETURN_INNER_(REPRISE_CONCAT_(reprise_statusor_, __LINE__), lhs, expr)
#define REPRISE_ASSIGN_OR_RETURN_INNER_(statusor, lhs, expr) \
  auto statusor = (expr);                                    \
  if (!statusor.ok()) return std::move(statusor).status();   \
  lhs = *std::move(statusor)
