#include "transport/ucx/ucx_resources.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include <ucs/debug/log_def.h>

#include "common/log.h"
#include "common/mutex.h"
#include "transport/ucx/ucx_settings.h"

namespace reprise::transport {
namespace {

thread_local int silences = 0;

// UCX prints to standard output unless told otherwise, where commands write their data.
ucs_log_func_rc_t LogFromUcx(const char*, unsigned, const char*, ucs_log_level_t level,
                             const ucs_log_component_config_t*, const char* format,
                             va_list arguments) {
  if (level > UCS_LOG_LEVEL_WARN) return UCS_LOG_FUNC_RC_CONTINUE;
  if (silences > 0) return UCS_LOG_FUNC_RC_STOP;
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  if (level == UCS_LOG_LEVEL_WARN) {
    LogWarning("ucx", {{"message", text.data()}});
  } else {
    LogError("ucx", {{"message", text.data()}});
  }
  return UCS_LOG_FUNC_RC_STOP;
}

struct ConfigDeleter {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};
using Config = std::unique_ptr<ucp_config_t, ConfigDeleter>;

absl::StatusOr<Config> ReadConfig() {
  ucp_config_t* raw = nullptr;
  if (const ucs_status_t status = ucp_config_read(nullptr, nullptr, &raw); status != UCS_OK) {
    return StatusFromUcs(status, "read the UCX settings from the environment");
  }
  Config config(raw);
  for (const UcxSetting& setting : UcxSettings()) {
    if (std::getenv(setting.variable.c_str()) != nullptr) continue;
    if (setting.key.empty()) {
      setenv(setting.variable.c_str(), setting.value.c_str(), /*overwrite=*/0);
      continue;
    }
    const ucs_status_t status =
        ucp_config_modify(config.get(), setting.key.c_str(), setting.value.c_str());
    if (status != UCS_OK) {
      return StatusFromUcs(status, absl::StrCat("set ", setting.variable, "=", setting.value));
    }
  }
  return config;
}

}  // namespace

absl::Status StatusFromUcs(ucs_status_t status, std::string_view action) {
  const std::string text =
      absl::StrCat("cannot ", std::string(action), ": ", ucs_status_string(status));
  switch (status) {
    case UCS_OK:
      return absl::OkStatus();
    case UCS_ERR_NO_MEMORY:
      return absl::ResourceExhaustedError(text);
    case UCS_ERR_INVALID_ADDR:
      return absl::InvalidArgumentError(text);
    case UCS_ERR_CANCELED:
      return absl::CancelledError(text);
    case UCS_ERR_BUSY:
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_REJECTED:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_TIMED_OUT:
    case UCS_ERR_ENDPOINT_TIMEOUT:
    case UCS_ERR_IO_ERROR:
    case UCS_ERR_NO_DEVICE:
    case UCS_ERR_SOME_CONNECTS_FAILED:
      return absl::UnavailableError(text);
    default:
      return absl::InternalError(text);
  }
}

UcxLogSilence::UcxLogSilence() { ++silences; }
UcxLogSilence::~UcxLogSilence() { --silences; }

absl::StatusOr<std::shared_ptr<UcxContext>> UcxContext::Shared() {
  static Mutex mutex;
  static std::weak_ptr<UcxContext> living;
  MutexLock lock(mutex);
  if (std::shared_ptr<UcxContext> context = living.lock()) return context;
  REPRISE_ASSIGN_OR_RETURN(std::shared_ptr<UcxContext> context, Create());
  living = context;
  return context;
}

absl::StatusOr<std::shared_ptr<UcxContext>> UcxContext::Create() {
  static const bool logging = [] {
    ucs_log_push_handler(LogFromUcx);
    return true;
  }();
  static_cast<void>(logging);

  REPRISE_ASSIGN_OR_RETURN(const Config config, ReadConfig());
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  // Without the RMA features UCX answers no read or write request of a peer's.
  params.features = UCP_FEATURE_AM | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 1;
  ucp_context_h context = nullptr;
  if (const ucs_status_t status = ucp_init(&params, config.get(), &context); status != UCS_OK) {
    return StatusFromUcs(status,
                         "initialize UCX, which needs /sys/class/net to find network devices");
  }
  return std::shared_ptr<UcxContext>(new UcxContext(context));
}

UcxContext::~UcxContext() { ucp_cleanup(context_); }

absl::StatusOr<std::shared_ptr<const UcxMemory>> UcxMemory::Map(std::shared_ptr<UcxContext> context,
                                                                ByteSpan bytes, Access access) {
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
                      UCP_MEM_MAP_PARAM_FIELD_PROT | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
  // UCX takes all buffers as non-const; a kSend mapping is never written through.
  params.address = const_cast<std::byte*>(bytes.data());
  params.length = bytes.size();
  params.prot = UCP_MEM_MAP_PROT_LOCAL_READ;
  if (access == Access::kReceive) {
    params.prot |= UCP_MEM_MAP_PROT_LOCAL_WRITE | UCP_MEM_MAP_PROT_REMOTE_WRITE;
  }
  params.memory_type = UCS_MEMORY_TYPE_HOST;
  ucp_mem_h memory = nullptr;
  const ucs_status_t status = ucp_mem_map(context->get(), &params, &memory);
  if (status != UCS_OK) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "cannot register ", bytes.size(), " bytes of memory with UCX: ", ucs_status_string(status),
        "; on RDMA hardware raise `ulimit -l`"));
  }
  return std::shared_ptr<const UcxMemory>(new UcxMemory(std::move(context), memory, bytes));
}

UcxMemory::~UcxMemory() { ucp_mem_unmap(context_->get(), memory_); }

bool UcxMemory::Contains(ByteSpan part) const {
  const auto begin = reinterpret_cast<uintptr_t>(bytes_.data());
  const auto part_begin = reinterpret_cast<uintptr_t>(part.data());
  return part_begin >= begin && part_begin - begin <= bytes_.size() &&
         part.size() <= bytes_.size() - (part_begin - begin);
}

absl::StatusOr<std::unique_ptr<UcxWorker>> UcxWorker::Create(std::shared_ptr<UcxContext> context) {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  ucp_worker_h worker = nullptr;
  // It warns about settings of transports that are not in use.
  const UcxLogSilence silence;
  if (const ucs_status_t status = ucp_worker_create(context->get(), &params, &worker);
      status != UCS_OK) {
    return StatusFromUcs(status, "create a UCX worker");
  }
  int event_fd = -1;
  if (const ucs_status_t status = ucp_worker_get_efd(worker, &event_fd); status != UCS_OK) {
    ucp_worker_destroy(worker);
    return StatusFromUcs(status, "get the event descriptor of a UCX worker");
  }
  return std::unique_ptr<UcxWorker>(new UcxWorker(std::move(context), worker, event_fd));
}

UcxWorker::~UcxWorker() { ucp_worker_destroy(worker_); }

void UcxWorker::Wait(Duration at_most) {
  if (ucp_worker_arm(worker_) != UCS_OK) return;
  const auto timeout_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                              at_most + std::chrono::microseconds(999))
                              .count();
  pollfd waited{.fd = event_fd_, .events = POLLIN, .revents = 0};
  // Whatever the outcome, the caller makes progress and looks again.
  static_cast<void>(poll(&waited, 1, static_cast<int>(std::clamp<int64_t>(timeout_ms, 0, 60'000))));
}

}  // namespace reprise::transport
