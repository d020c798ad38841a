#include "transport/grpc/grpc_library.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>

#include "common/log.h"

namespace reprise::transport {

void StartGrpcLibrary() {
  static const bool started = [] {
    gpr_set_log_function([](gpr_log_func_args* line) {
      LogDebug("grpc", {{"message", line->message}, {"file", line->file}, {"line", line->line}});
    });
    grpc_init();
    return true;
  }();
  static_cast<void>(started);
}

}  // namespace reprise::transport
