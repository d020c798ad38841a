// Client.

#include <limits>
#include <memory>
#include <utility>

#include "convert.h"
#include "module.h"
#include "pending.h"
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "client/reprise.h"

namespace nb = nanobind;
using namespace nb::literals;  // NOLINT: what nanobind's own examples call for

namespace reprise::python {
namespace {

// A Client that may be closed. Methods are called with the GIL, which guards client_; each works on
// its own reference, so that close() on one thread does not pull the client from under another.
class PyClient {
 public:
  explicit PyClient(std::shared_ptr<Client> client) : client_(std::move(client)) {}
  PyClient(PyClient&&) = default;
  PyClient& operator=(PyClient&&) = delete;
  ~PyClient() { Close(); }

  void Close() {
    std::shared_ptr<Client> last = std::move(client_);
    if (last == nullptr) return;
    nb::gil_scoped_release release;
    last.reset();
  }

  std::shared_ptr<Client> get() const {
    if (client_ == nullptr) throw nb::value_error("the client is closed");
    return client_;
  }

 private:
  std::shared_ptr<Client> client_;
};

// Calls `callable` with the GIL, from whichever thread. What it raises goes to sys.unraisablehook,
// as there is nobody else to tell.
LoadObserver ReadObserver(nb::callable callable) {
  // The last copy may go on a thread without the GIL.
  std::shared_ptr<nb::object> shared(new nb::object(std::move(callable)), [](nb::object* last) {
    nb::gil_scoped_acquire acquire;
    delete last;
  });
  return [shared = std::move(shared)](size_t selection, const SelectionResult& result) {
    nb::gil_scoped_acquire acquire;
    try {
      (*shared)(selection, result);
    } catch (nb::python_error& error) {
      error.discard_as_unraisable(*shared);
    }
  };
}

// Calls `start` with the client, without the GIL.
template <typename Start>
auto Run(const PyClient& self, Start start) {
  std::shared_ptr<Client> client = self.get();
  nb::gil_scoped_release release;
  auto started = start(*client);
  client.reset();
  return started;
}

uint32_t LevelOrAll(std::optional<uint32_t> level) { return level.value_or(kMaxPlanes - 1); }

PyClient Connect(const std::string& address, const std::string& tenant,
                 const std::string& credential, const std::string& carrier, double timeout,
                 size_t receive_bytes, uint32_t replicas) {
  ClientOptions options{.address = address,
                        .replicas = replicas,
                        .tenant = tenant,
                        .credential = credential,
                        .carrier = ReadCarrier(carrier),
                        .connect_timeout = ReadMilliseconds(timeout, "timeout"),
                        .receive_bytes = receive_bytes};
  absl::StatusOr<std::unique_ptr<Client>> client = absl::CancelledError();
  {
    nb::gil_scoped_release release;
    client = Client::Connect(std::move(options));
  }
  return PyClient(ValueOrRaise(std::move(client)));
}

Pending<LookupResult> LookupAsync(const PyClient& self, const PrefixKeys& keys, double hold,
                                  std::optional<uint32_t> hold_level, double timeout) {
  const LookupOptions options{.hold = ReadMilliseconds(hold, "hold"),
                              .hold_level = LevelOrAll(hold_level)};
  const Deadline deadline = ReadTimeout(timeout);
  return Pending(Run(self, [&](Client& client) { return client.Lookup(keys, options, deadline); }));
}

Pending<PublishResult> PublishAsync(const PyClient& self, const PrefixKeys& keys,
                                    uint32_t chunk_count, nb::handle views, uint32_t first_chunk,
                                    double recompute_seconds_per_chunk, const std::string& codec,
                                    const std::optional<std::string>& profile, bool durable,
                                    uint32_t ttl, double timeout) {
  Tensors tensors = ReadTensors(keys.name_space(), views, false);
  PublishOptions options{.first_chunk = first_chunk,
                         .recompute_seconds_per_chunk = recompute_seconds_per_chunk,
                         .codec = ReadCodec(codec),
                         .durable = durable,
                         .ttl = std::chrono::seconds(ttl)};
  if (profile) {
    options.profile = std::make_shared<const Profile>(ValueOrRaise(ParseProfile(*profile)));
  }
  const Deadline deadline = ReadTimeout(timeout);
  auto publish = Run(self, [&](Client& client) {
    return client.Publish(keys, chunk_count, tensors.views, options, deadline);
  });
  return Pending(std::move(publish), std::move(tensors));
}

Pending<LoadResult> LoadAsync(const PyClient& self, const PrefixKeys& keys, uint32_t first,
                              uint32_t count, nb::handle views, std::optional<uint32_t> level,
                              std::optional<std::vector<Selection>> plan,
                              const LookupResult* expected, std::optional<nb::callable> observer,
                              double timeout) {
  // No chunks, no bytes: arrays without tokens are not worth a look.
  Tensors tensors = count == 0 ? Tensors{} : ReadTensors(keys.name_space(), views, true);
  if (plan && plan->empty()) throw nb::value_error("the plan is empty; None loads every chunk");
  LoadOptions options{.level = LevelOrAll(level), .expected = expected};
  if (plan) options.plan = *plan;
  if (observer) options.observer = ReadObserver(*std::move(observer));
  const Deadline deadline = ReadTimeout(timeout);
  auto load = Run(self, [&](Client& client) {
    return client.Load(keys, first, count, tensors.views, options, deadline);
  });
  return Pending(std::move(load), std::move(tensors));
}

Pending<PublishResult> PublishPieceAsync(const PyClient& self, nb::bytes container,
                                         uint64_t position, bool durable, uint32_t ttl,
                                         double timeout) {
  const ByteSpan bytes(static_cast<const std::byte*>(container.data()), container.size());
  const Deadline deadline = ReadTimeout(timeout);
  return Pending(Run(self, [&](Client& client) {
    return client.PublishPiece(
        SharedBytes::CopyOf(bytes),
        {.position = position, .durable = durable, .ttl = std::chrono::seconds(ttl)}, deadline);
  }));
}

Pending<ObjectBytes> FetchPieceAsync(const PyClient& self, nb::bytes key,
                                     std::optional<nb::bytes> fingerprint,
                                     std::optional<uint32_t> level, double timeout) {
  const Key asked{ReadDigest(key, "key")};
  std::optional<Digest> expected;
  if (fingerprint) expected = ReadDigest(*fingerprint, "fingerprint");
  const Deadline deadline = ReadTimeout(timeout);
  return Pending(Run(self, [&](Client& client) {
    return client.FetchPiece(asked, expected, LevelOrAll(level), deadline);
  }));
}

// The operations that are rarely worth overlapping have a blocking form only.
template <typename T>
T WaitFor(Async<T> async) {
  return Pending<T>(std::move(async)).Result();
}

ObjectStat Stat(const PyClient& self, nb::bytes key, bool verify, double timeout) {
  const Key asked{ReadDigest(key, "key")};
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(Run(self, [&](Client& client) { return client.Stat(asked, verify, deadline); }));
}

ObjectPage List(const PyClient& self, std::optional<nb::bytes> after, uint32_t limit,
                std::optional<nb::bytes> fingerprint, double timeout) {
  std::optional<Key> from;
  if (after) from = Key{ReadDigest(*after, "after")};
  std::optional<Digest> of;
  if (fingerprint) of = ReadDigest(*fingerprint, "fingerprint");
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(Run(self, [&](Client& client) { return client.List(from, limit, of, deadline); }));
}

std::vector<Key> ReadKeys(const std::vector<nb::bytes>& keys) {
  std::vector<Key> asked;
  for (const nb::bytes& key : keys) asked.push_back(Key{ReadDigest(key, "key")});
  return asked;
}

uint64_t Pin(const PyClient& self, const std::vector<nb::bytes>& keys, uint32_t seconds,
             double timeout) {
  std::vector<Key> asked = ReadKeys(keys);
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(Run(self, [&](Client& client) {
    return client.Pin(std::move(asked), std::chrono::seconds(seconds), deadline);
  }));
}

uint64_t Unpin(const PyClient& self, const std::vector<nb::bytes>& keys, double timeout) {
  std::vector<Key> asked = ReadKeys(keys);
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(
      Run(self, [&](Client& client) { return client.Unpin(std::move(asked), deadline); }));
}

uint64_t Warm(const PyClient& self, const std::vector<nb::bytes>& keys,
              std::optional<uint32_t> level, double timeout) {
  std::vector<Key> asked = ReadKeys(keys);
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(Run(self, [&](Client& client) {
    return client.Warm(std::move(asked), LevelOrAll(level), deadline);
  }));
}

uint64_t Remove(const PyClient& self, const std::vector<nb::bytes>& keys, double timeout) {
  std::vector<Key> asked = ReadKeys(keys);
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(
      Run(self, [&](Client& client) { return client.Remove(std::move(asked), deadline); }));
}

uint64_t RemoveNamespace(const PyClient& self, nb::bytes fingerprint, double timeout) {
  const Digest asked = ReadDigest(fingerprint, "fingerprint");
  const Deadline deadline = ReadTimeout(timeout);
  return WaitFor(
      Run(self, [&](Client& client) { return client.RemoveNamespace(asked, deadline); }));
}

nb::dict Counters(const PyClient& self) {
  const ClientCounters counters = self.get()->counters();
  nb::dict misses;
  for (size_t reason = 0; reason < counters.misses.size(); ++reason) {
    const std::string_view name = MissReasonName(static_cast<MissReason>(reason));
    misses[nb::str(name.data(), name.size())] = counters.misses[reason];
  }
  nb::dict all;
  all["bytes_received"] = counters.bytes_received;
  all["bytes_sent"] = counters.bytes_sent;
  all["pieces_loaded"] = counters.pieces_loaded;
  all["misses"] = misses;
  return all;
}

// The blocking form of an asynchronous method.
template <typename Result, typename... Args>
auto Blocking(Pending<Result> (*start)(const PyClient&, Args...)) {
  return [start](const PyClient& self, Args... args) {
    return start(self, std::move(args)...).Result();
  };
}

}  // namespace

void BindClient(nb::module_& module) {
  module.def(
      "connect", &Connect, "address"_a, nb::kw_only(), "tenant"_a = "default", "credential"_a = "",
      "carrier"_a = "auto", "timeout"_a = 5.0, "receive_bytes"_a = ClientOptions{}.receive_bytes,
      "replicas"_a = 1,
      "Connects to the store at \"host:port\", or to several with commas between, `replicas` "
      "of which hold each piece. carrier: \"auto\", \"ucx\" or \"grpc\".");
  nb::class_<PyClient> client(module, "Client",
                              "A connection to a store. Thread-safe; reconnects by itself.");
  const auto lookup = [&](const char* name, auto method) {
    client.def(name, method, "keys"_a, nb::kw_only(), "hold"_a = 0.0, "hold_level"_a = nb::none(),
               "timeout"_a = 5.0,
               "How many leading chunks can be loaded; hold asks the store to keep them, up to "
               "hold_level, for so many seconds. A store that cannot be reached, or is too busy "
               "to answer, gives fewer chunks and a miss.");
  };
  lookup("lookup", Blocking(&LookupAsync));
  lookup("lookup_async", &LookupAsync);
  const auto publish = [&](const char* name, auto method) {
    client.def(
        name, method, "keys"_a, "chunk_count"_a, "views"_a, nb::kw_only(), "first_chunk"_a = 0,
        "recompute_seconds_per_chunk"_a = 0.0, "codec"_a = "progressive", "profile"_a = nb::none(),
        "durable"_a = false, "ttl"_a = 0, "timeout"_a = 60.0,
        "Encodes and stores chunk_count chunks from first_chunk on. views is a list of one "
        "(key, value) pair of "
        "arrays, or one array for a latent, for each layer group; for a single group the "
        "pair itself will do. "
        "Shapes are [layers, tokens, KV heads, dims]; a state has one row a chunk instead of "
        "tokens. The arrays are read while the publish is under way: leave them as they are "
        "until it is done. codec is \"progressive\", which can be loaded at lower levels, for "
        "fewer bytes, and stores raw what it cannot code (fp32, states, opaque bytes); or "
        "\"raw\". profile is the text of the file that the namespace names, which takes it. With "
        "durable, what is held then survives the store's process and power loss. ttl seconds after "
        "it was stored a piece is absent again; 0: it stays until it is evicted.");
  };
  publish("publish", Blocking(&PublishAsync));
  publish("publish_async", &PublishAsync);
  const auto load = [&](const char* name, auto method) {
    client.def(
        name, method, "keys"_a, "first"_a, "count"_a, "views"_a, nb::kw_only(),
        "level"_a = nb::none(), "plan"_a = nb::none(), "expected"_a = nb::none(),
        "observer"_a = nb::none(), "timeout"_a = 60.0,
        "Loads chunks [first, first + count) into the arrays of views, whose tokens are "
        "exactly theirs; see "
        "publish. level is the highest to load: 0 moves the fewest bytes, None is all that is "
        "held; each SelectionResult says what was reached and what is lost at it. "
        "expected is what lookup reported: other content is then a miss. What goes "
        "wrong with the "
        "store or the data is a miss in the result, never an exception. Values of what "
        "is not complete are unspecified. plan is a list of Selection: they are loaded in "
        "that order, and a miss ends its own only; without it each chunk is loaded in turn, "
        "up to the first miss. observer(index, SelectionResult) is called from another "
        "thread as each of them ends.");
  };
  load("load", Blocking(&LoadAsync));
  load("load_async", &LoadAsync);
  const auto publish_piece = [&](const char* name, auto method) {
    client.def(name, method, "container"_a, nb::kw_only(), "position"_a = 0, "durable"_a = false,
               "ttl"_a = 0, "timeout"_a = 60.0,
               "Stores a whole container under the key in its header; durable and ttl as in "
               "publish.");
  };
  publish_piece("publish_piece", Blocking(&PublishPieceAsync));
  publish_piece("publish_piece_async", &PublishPieceAsync);
  const auto fetch_piece = [&](const char* name, auto method) {
    client.def(name, method, "key"_a, nb::kw_only(), "fingerprint"_a = nb::none(),
               "level"_a = nb::none(), "timeout"_a = 60.0, "One whole container, verified.");
  };
  fetch_piece("fetch_piece", Blocking(&FetchPieceAsync));
  fetch_piece("fetch_piece_async", &FetchPieceAsync);
  client
      .def("stat", &Stat, "key"_a, nb::kw_only(), "verify"_a = false, "timeout"_a = 5.0,
           "verify makes the store check every byte first, and drop the piece when it is damaged.")
      .def("list", &List, nb::kw_only(), "after"_a = nb::none(), "limit"_a = 0,
           "fingerprint"_a = nb::none(), "timeout"_a = 5.0,
           "A page of what the store holds, by key; 0 is the largest page.")
      .def("remove", &Remove, "keys"_a, nb::kw_only(), "timeout"_a = 5.0,
           "How many of the pieces were held and are gone.")
      .def("pin", &Pin, "keys"_a, "seconds"_a, nb::kw_only(), "timeout"_a = 60.0,
           "Keeps what is held of the keys from eviction for 1 to 86400 seconds; how many of them "
           "are pinned now. PrefixKeys.keys has those of a prefix.")
      .def("unpin", &Unpin, "keys"_a, nb::kw_only(), "timeout"_a = 5.0,
           "How many of the keys were pinned.")
      .def("warm", &Warm, "keys"_a, nb::kw_only(), "level"_a = nb::none(), "timeout"_a = 60.0,
           "Brings pieces from the store's disk into its memory, in order, until one is absent or "
           "would push out what was used last; how many leading ones are there then.")
      .def("remove_namespace", &RemoveNamespace, "fingerprint"_a, nb::kw_only(), "timeout"_a = 60.0)
      .def("close", &PyClient::Close, "Cancels what is under way and waits for it. Idempotent.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Client"))
      .def(
          "__exit__", [](PyClient& self, nb::args) { self.Close(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def_prop_ro(
          "carrier", [](const PyClient& self) { return std::string(self.get()->carrier()); },
          "\"ucx\" or \"grpc\": what the data path runs on now.")
      .def_prop_ro(
          "counters", &Counters, nb::sig("def counters(self) -> dict[str, typing.Any]"),
          "Counts since connect: bytes_received, bytes_sent, pieces_loaded, and misses by reason.");
}

}  // namespace reprise::python
