// The frames of the UCX carrier: what one active message means.
//
// Every frame is one UCX active message with id kFrameAmId. Its AM header starts with a fixed
// 40-byte little-endian header:
//
//   offset size field
//   0      1    version, 1
//   1      1    kind (FrameKind)
//   2      2    method           Request
//   4      4    message bytes
//   8      8    call id          Request, Part, Done, Cancel, Credit, LentPart, Read;
//                                HelloSameHost: SameHostIdentity
//   16     4    sequence         Part, LentPart, Read: its number from 0; Done: number of parts;
//                                Token: process id
//   20     4    bulk bytes       Request, Part, LentPart
//   24     4    deadline         Request: milliseconds left
//   28     4    credit           Request: parts with bulk that may be sent; Credit: more of them
//   24     8    address          Token, LentPart, in the place of deadline and credit: where
//                                token or bulk are in the server's memory
//   32     4    status           Welcome, Done: absl::StatusCode
//   36     4    zero
//
// Fields that a kind does not use are zero. Without bulk, the AM data is the message. With bulk,
// the message follows the fixed header inside the AM header and the AM data is the bulk, by
// rendezvous above the sender's threshold; but the bulk of a LentPart stays where it is. A status
// that is not OK has its text as the message.
//
// Kinds from 8 on are for a client on the server's host (same_host.h), and only for peers that know
// them: OpenSessionReply.same_host says so of a server, HelloSameHost of a client. A server that
// accepts a HelloSameHost of its own host sends Token, then Welcome; the client answers with Proof.
//
// Everything that arrives is hostile: Decode checks each field against its limit and the sizes
// against each other, so that what it returns needs no further checks but those of the call's
// state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "common/bytes.h"
#include "common/status.h"

namespace reprise::transport {

inline constexpr unsigned kFrameAmId = 7;
inline constexpr uint8_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 40;

// Largest credit of a call: parts with bulk that are under way or unreleased.
inline constexpr uint32_t kMaxCreditParts = 256;
// A receiver keeps parts that overtook one with bulk; a sender stops this far ahead of bulk under
// way. A receiver tolerates twice as much, because a sender learns late what has arrived.
inline constexpr uint32_t kMaxPartsAhead = 4096;
inline constexpr size_t kMaxBytesAhead = size_t{32} << 20;
// Longest text of a status; the sender cuts it.
inline constexpr size_t kMaxStatusTextBytes = 4096;
inline constexpr size_t kProofBytes = 16;

enum class FrameKind : uint8_t {
  kHello = 1,          // client, once, first: the service's hello message
  kWelcome = 2,        // server, once: the answer to hello
  kRequest = 3,        // client
  kPart = 4,           // server
  kDone = 5,           // server: no part of this call follows, though one may still be on its way
  kCancel = 6,         // client: nobody waits for this call any more
  kCredit = 7,         // client: buffers were released
  kHelloSameHost = 8,  // client: Hello of one that would read the server's memory
  kToken = 9,          // server, once: read this to show that you can
  kProof = 10,         // client, once: what it read there, or nothing when it could not
  kLentPart = 11,      // server, after a good proof: a part whose bulk the client is to read
  kRead = 12,          // client: a lent part's bulk is needed no longer
};

struct Frame {
  FrameKind kind = FrameKind::kHello;
  uint16_t method = 0;
  uint32_t message_bytes = 0;
  uint64_t call_id = 0;
  uint32_t sequence = 0;
  uint32_t bulk_bytes = 0;
  uint32_t deadline_ms = 0;
  uint32_t credit = 0;
  uint64_t address = 0;
  absl::StatusCode status = absl::StatusCode::kOk;

  // Whether bulk comes with the frame.
  bool carries_bulk() const { return bulk_bytes > 0 && kind != FrameKind::kLentPart; }

  friend bool operator==(const Frame&, const Frame&) = default;
};

using FrameHeader = std::array<std::byte, kFrameHeaderBytes>;

FrameHeader EncodeFrame(const Frame& frame);

// `am_header` is what came as the active message's header, `data_bytes` the size of its data.
// INVALID_ARGUMENT, naming the field, when anything is out of its limits; then the peer is broken
// or hostile.
absl::StatusOr<Frame> DecodeFrame(ByteSpan am_header, uint64_t data_bytes);

// `am_header` after the fixed part: the message beside bulk. Only for what DecodeFrame accepted.
inline ByteSpan MessageBesideBulk(ByteSpan am_header) {
  return am_header.subspan(kFrameHeaderBytes);
}

}  // namespace reprise::transport
