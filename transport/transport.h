// Asynchronous calls between processes: messages and bulk buffers, whatever carries them (DESIGN
// section 6).
//
// A client starts a call with (method, request message, bulk) and gets ordered parts, each a
// message and perhaps bulk, then exactly one status. A server's Service answers each request
// through a Responder, from any thread. The service does not know which carrier it runs on; the
// carriers are transport/ucx, transport/grpc, transport/loopback, and transport/faulty around any
// of them.
//
// Bulk is at most kMaxPartBytes a message; messages beside bulk are at most kMaxBulkMessageBytes,
// others at most kMaxMessageBytes. Received bulk lands in buffers that the transport owns and is
// handed on as SharedBytes: dropping the last reference gives the buffer back and grants the peer
// credit for another part. Holding on to parts therefore throttles the sender, by design.
//
// Messages are serialized protobuf without a field 15: that number is where gRPC carries the bulk,
// so that a message with one would arrive as something else there. They are opaque otherwise.
//
// A channel or server is not destroyed on a thread of its carrier's, that is inside a callback,
// a handler or the destructor of a buffer's owner: its destructor waits for that thread. Handles of
// calls, responders, and received parts may be dropped anywhere, also when their channel or server
// is gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"

#include "common/bytes.h"
#include "common/clock.h"
#include "common/status.h"

namespace reprise::transport {

// A method's number; proto/methods.h names them.
using MethodId = uint16_t;

// Memory made known to a carrier once, so that sends from it need no registration per request.
// Unregisters on destruction; must not outlive the carrier (channel or server) that it came from.
class Registration {
 public:
  virtual ~Registration() = default;
};

// ---- client ----

struct Part {
  std::string message;
  SharedBytes bulk;
};

// Receives what a call yields. Called from the carrier's thread, one call at a time for any one
// observer, and must not block. No call back happens after OnDone. The carrier keeps the observer
// alive until OnDone has returned.
class CallObserver {
 public:
  virtual ~CallObserver() = default;
  // In the order the server sent them.
  virtual void OnPart(Part part) = 0;
  // Exactly once. OK means that every part arrived. DEADLINE_EXCEEDED by the deadline, CANCELLED
  // after Cancel, UNAVAILABLE when the peer is gone, else what the server completed with.
  virtual void OnDone(absl::Status status) = 0;
};

// A call under way. Thread-safe. Dropping the handle does not end the call.
class Call {
 public:
  virtual ~Call() = default;
  // Asks for an early end; OnDone still comes, at once, with CANCELLED unless the call had ended
  // already. A buffer that the peer may still write is kept from reuse until it cannot. Never
  // blocks; idempotent.
  virtual void Cancel() = 0;
};

struct CallRequest {
  MethodId method = 0;
  std::string message;
  SharedBytes
      bulk;  // kept alive until the peer has it or the call is done with it, whichever is later
  Deadline deadline;
  // Parts with bulk that may be under way or unreleased at once for this call, at least 1.
  uint32_t credit_parts = 4;
};

// One connection to one server, bound to one session. Thread-safe. Destruction ends every call
// (CANCELLED), waits until no buffer of a caller's is in use, and may block for that.
class Channel {
 public:
  virtual ~Channel() = default;

  // Never blocks and never fails: what goes wrong comes through the observer, and may come before
  // Start returns. A call over the carrier's limits of operations or bytes in flight waits its turn
  // until its deadline.
  virtual std::shared_ptr<Call> Start(CallRequest request,
                                      std::shared_ptr<CallObserver> observer) = 0;

  // Bulk sent from inside `memory` needs no registration of its own; the peer gets no key to it.
  // `memory` must stay mapped until the registration and everything sent from it are gone. A
  // carrier that sends from any memory alike does nothing. INVALID_ARGUMENT for an empty region,
  // RESOURCE_EXHAUSTED when it cannot be pinned.
  virtual absl::StatusOr<std::unique_ptr<Registration>> RegisterMemory(ByteSpan /*memory*/) {
    return std::make_unique<Registration>();
  }

  // False once the connection is lost: every later call ends with UNAVAILABLE. A new session is
  // needed.
  virtual bool alive() const = 0;

  // "ucx", "grpc" or "loopback".
  virtual std::string_view carrier() const = 0;
};

struct UnaryReply {
  std::string message;
  SharedBytes bulk;
};

// Runs a call of one part and waits for it; blocks until the deadline at most. Not for the
// carrier's own thread. INTERNAL when an OK call had not exactly one part.
absl::StatusOr<UnaryReply> CallAndWait(Channel& channel, CallRequest request);

// ---- server ----

// What a service attaches to an endpoint at Hello, and finds in each later request. Opaque to the
// transport.
class Session {
 public:
  virtual ~Session() = default;
};

struct Request {
  MethodId method = 0;
  std::string message;
  SharedBytes bulk;
  Deadline deadline;
  // Null only for what may come before Hello: OpenSession, on gRPC and loopback.
  std::shared_ptr<Session> session;
};

// Answers one request. Any one thread at a time may use it. Destroying it before Complete completes
// with INTERNAL.
class Responder {
 public:
  virtual ~Responder() = default;

  // Queues one part. Bulk is not copied: its owner is kept until the peer has it or the call is
  // dead. Parts with bulk wait for credit; a service sends few at once and uses WhenWritable
  // between them. Messages are not held back, and a client that leaves too many of them unread ends
  // the call with RESOURCE_EXHAUSTED. Never blocks. Parts sent after the call died are dropped.
  virtual void Send(Part part) = 0;

  // Runs `ready` once, on some thread of the carrier's or at once on this one: when credit allows
  // another part with bulk, or when the call is dead (see dead()). At most one may be waiting.
  // `ready` must not block.
  virtual void WhenWritable(absl::AnyInvocable<void() &&> ready) = 0;

  // True once nobody waits for the answer: cancelled, past its deadline, or the peer is gone.
  virtual bool dead() const = 0;

  // Ends the call after the parts queued so far. Nothing may be sent afterwards.
  virtual void Complete(absl::Status status) = 0;
};

struct HelloReply {
  std::shared_ptr<Session> session;
  std::string message;
};

// The server's side of every carrier. Called from carriers' threads, concurrently, and must not
// block: work that takes longer than a few microseconds goes to an Executor.
class Service {
 public:
  virtual ~Service() = default;

  // First message of a data endpoint. An error refuses the endpoint. `endpoint` names it in logs
  // and, on gRPC, is what tells two connections apart.
  virtual absl::StatusOr<HelloReply> Hello(std::string_view message, std::string_view endpoint) = 0;

  virtual void Handle(Request request, std::unique_ptr<Responder> responder) = 0;

  // The endpoint of `session` is gone; its calls are dead already. Once per successful Hello.
  virtual void SessionLost(const std::shared_ptr<Session>& session) = 0;
};

// A listening carrier. Destruction stops accepting, ends every call with UNAVAILABLE, and returns
// when no handler's responder and no buffer is in use by the carrier any more.
class Server {
 public:
  virtual ~Server() = default;
  // "host:port" as bound, the port never 0.
  virtual std::string address() const = 0;
  // As Channel's, for the parts that the service sends.
  virtual absl::StatusOr<std::unique_ptr<Registration>> RegisterMemory(ByteSpan /*memory*/) {
    return std::make_unique<Registration>();
  }
};

}  // namespace reprise::transport
