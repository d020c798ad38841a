// One client process of a crowd, or many sessions in one; bench/crowd/run.py starts and judges
// them.
//
//   crowd_client ADDRESS CARRIER fetch KEY...    fetches these pieces in turn, a JSON line for each
//   crowd_client ADDRESS CARRIER hold SESSIONS   opens them, says "ready", and does nothing
//   crowd_client ADDRESS CARRIER churn CYCLES    connects, asks, disconnects; says how often
//   crowd_client ADDRESS CARRIER publish BYTES AT_ONCE PER_SECOND
//                                                as bench/crowd/publish_load.h; 0: as soon as it
//                                                can
//
// All end when their standard input does. `at` is the monotonic clock's, which all processes share.

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "bench/crowd/publish_load.h"
#include "client/network_connector.h"
#include "client/reprise.h"
#include "common/bytes.h"
#include "proto/methods.h"
#include "proto/reprise.pb.h"

namespace reprise {
namespace {

constexpr std::chrono::seconds kTimeout{60};
constexpr uint64_t kChurnReport = 10;

[[noreturn]] void Fail(const absl::Status& status) {
  std::fprintf(stderr, "crowd_client: %s\n", status.ToString().c_str());
  std::_Exit(1);
}

Deadline Soon() { return Deadline::After(kTimeout); }

double Now() {
  return std::chrono::duration<double>(Clock::Steady().Now().time_since_epoch()).count();
}

void WaitForEndOfInput() {
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
}

// Calls `work` with a client, and with what is true once standard input has ended.
template <typename Work>
void UntilEndOfInput(const ClientOptions& options, Work work) {
  auto client = Client::Connect(options);
  if (!client.ok()) Fail(client.status());
  std::atomic<bool> ended{false};
  std::thread input([&ended] {
    WaitForEndOfInput();
    ended = true;
  });
  work(**client, ended);
  input.join();
}

std::vector<Key> KeysFrom(const std::vector<std::string>& names) {
  std::vector<Key> keys(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    if (!FromHex(names[i], keys[i].digest.bytes)) Fail(absl::InvalidArgumentError("not a key"));
  }
  return keys;
}

void Fetch(Client& client, const std::vector<Key>& keys, const std::atomic<bool>& ended) {
  for (size_t i = 0; !ended; ++i) {
    const auto object = client.FetchPiece(keys[i % keys.size()], {}, kMaxPlanes - 1, Soon()).Wait();
    if (!object.ok()) Fail(object.status());
    if (object->miss.has_value()) Fail(absl::NotFoundError("a piece is gone"));
    std::printf("{\"at\": %.6f, \"bytes\": %zu}\n", Now(), object->container.size());
    std::fflush(stdout);
  }
}

void Hold(client::NetworkConnector& connector, size_t sessions) {
  std::vector<std::unique_ptr<transport::Channel>> channels;
  while (channels.size() < sessions) {
    auto channel = connector.Open(Soon());
    if (!channel.ok()) Fail(channel.status());
    channels.push_back(*std::move(channel));
  }
  std::puts("ready");
  std::fflush(stdout);
  WaitForEndOfInput();
  for (const auto& channel : channels) {
    if (!channel->alive()) Fail(absl::UnavailableError("a session was lost"));
  }
}

void Churn(client::NetworkConnector& connector, uint64_t cycles) {
  // As a client with other stores: what its process shares stays up.
  const auto kept = connector.Open(Soon());
  if (!kept.ok()) Fail(kept.status());
  v1::LookupRequest lookup;
  lookup.add_keys(std::string(sizeof(Key), '\x01'));
  for (uint64_t cycle = 1; cycle <= cycles; ++cycle) {
    auto channel = connector.Open(Soon());
    if (!channel.ok()) Fail(channel.status());
    const auto reply = transport::CallAndWait(**channel, {.method = v1::LOOKUP,
                                                          .message = lookup.SerializeAsString(),
                                                          .bulk = {},
                                                          .deadline = Soon()});
    if (!reply.ok()) Fail(reply.status());
    channel->reset();
    if (cycle % kChurnReport != 0 && cycle != cycles) continue;
    std::printf("{\"cycles\": %llu}\n", static_cast<unsigned long long>(cycle));
    std::fflush(stdout);
  }
  WaitForEndOfInput();
}

int Run(const std::vector<std::string>& args) {
  if (args.size() < 4) {
    std::fputs(
        "usage: crowd_client ADDRESS ucx|grpc fetch KEY... | hold SESSIONS | churn CYCLES |\n"
        "       publish BYTES AT_ONCE PER_SECOND\n",
        stderr);
    return 2;
  }
  ClientOptions options;
  options.address = args[0];
  options.carrier = args[1] == "grpc" ? Carrier::kGrpc : Carrier::kUcx;
  options.receive_bytes = 2 * kMaxPartBytes;
  options.connect_timeout = kTimeout;
  if (args[2] == "fetch") {
    const std::vector<Key> keys = KeysFrom({args.begin() + 3, args.end()});
    UntilEndOfInput(options, [&keys](Client& client, const std::atomic<bool>& ended) {
      Fetch(client, keys, ended);
    });
    return 0;
  }
  if (args[2] == "publish" && args.size() == 6) {
    const PublishLoad load{.piece_bytes = std::stoul(args[3]),
                           .per_second = std::stod(args[5]),
                           .at_once = static_cast<uint32_t>(std::stoul(args[4]))};
    UntilEndOfInput(options, [&load](Client& client, const std::atomic<bool>& ended) {
      RunPublishLoad(client, load, ended);
    });
    return 0;
  }
  client::NetworkConnector connector(options, options.address);
  if (args[2] == "hold") Hold(connector, std::stoul(args[3]));
  if (args[2] == "churn") Churn(connector, std::stoul(args[3]));
  return 0;
}

}  // namespace
}  // namespace reprise

int main(int argc, char** argv) { return reprise::Run({argv + 1, argv + argc}); }
