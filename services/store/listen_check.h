// Whether the addresses that a store is to listen on can be listened on, asked before anything is
// started: the libraries that will listen give reasons that are vague, or another's.
//
// Thread-safe; opens a socket for each address, binds it and closes it again.
#pragma once

#include "common/status.h"
#include "services/store/store_config.h"

namespace reprise::store {

// INVALID_ARGUMENT for an address that is none, and for two that are the same; UNAVAILABLE for one
// that cannot be listened on, with the system's reason and what to change. Blocks for as long as
// the system looks up host names.
absl::Status CheckAddresses(const StoreConfig& config);

}  // namespace reprise::store
