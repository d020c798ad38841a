// What the end of a call to the store means for the pieces that it was about. Pure, thread-safe.
#pragma once

#include "client/reprise.h"
#include "common/status.h"

namespace reprise::client {

// `status` is not OK and says nothing about any piece's bytes: the store was late, refused, or went
// away. DATA_LOSS is what a carrier calls a broken message.
MissReason ReasonOfCall(const absl::Status& status);

}  // namespace reprise::client
