#include "transport/grpc/grpc_log.h"

#include <grpc/support/log.h>

#include "common/log.h"

namespace reprise::transport {

void RouteGrpcLog() {
  static const bool routed = [] {
    gpr_set_log_function([](gpr_log_func_args* line) {
      LogDebug("grpc", {{"message", line->message}, {"file", line->file}, {"line", line->line}});
    });
    return true;
  }();
  static_cast<void>(routed);
}

}  // namespace reprise::transport
