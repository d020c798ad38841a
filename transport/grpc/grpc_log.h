// gRPC's own log, as lines of ours. Internal to the carrier.
#pragma once

namespace reprise::transport {

// From now on gRPC logs through common/log.h, at debug level: it calls errors what this carrier
// reports as statuses. Thread-safe; only the first call does anything.
void RouteGrpcLog();

}  // namespace reprise::transport
