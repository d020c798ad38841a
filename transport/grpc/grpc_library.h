// gRPC's process-wide state. Internal to the carrier.
#pragma once

namespace reprise::transport {

// To be called before anything of gRPC's is made. Starts the library for as long as the process
// lives: it would else stop with its last channel or server, and stopping waits up to 10 s for a
// poller of its own. From then on its log goes to common/log.h at debug level, because it calls
// errors what this carrier reports as statuses. Thread-safe.
void StartGrpcLibrary();

}  // namespace reprise::transport
