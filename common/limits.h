// Every limit that crosses a process boundary, in one place.
//
// A length read from a wire or a disk is compared with one of these before it is used. Local queue
// and pool sizes stand beside the queue they bound.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace reprise {

inline constexpr size_t kKiB = size_t{1} << 10;
inline constexpr size_t kMiB = size_t{1} << 20;
inline constexpr size_t kGiB = size_t{1} << 30;

// Largest body of one piece, and so the largest file that `reprise put` takes.
inline constexpr size_t kMaxPieceBodyBytes = 256 * kMiB;
// Largest header + directory of one piece, padding included.
inline constexpr size_t kMaxPieceMetaBytes = 4 * kMiB;
// Largest segment. A segment never straddles a part, so this is also the largest bulk of one
// message.
inline constexpr size_t kMaxPartBytes = 8 * kMiB;
// Planes of a container start at multiples of this, which is also what O_DIRECT needs.
inline constexpr size_t kPlaneAlignment = 4 * kKiB;

// Largest message without bulk, and largest message that travels beside bulk.
inline constexpr size_t kMaxMessageBytes = 8 * kMiB;
inline constexpr size_t kMaxBulkMessageBytes = 1 * kKiB;

// Shape limits of one piece.
inline constexpr uint32_t kMaxTokensPerChunk = 8192;
inline constexpr uint32_t kMaxLayers = 1024;
inline constexpr uint32_t kMaxKvHeads = 1024;
inline constexpr uint32_t kMaxHeadDim = 4096;
inline constexpr uint32_t kMaxPlanes = 16;
inline constexpr uint32_t kMaxSegmentsPerPiece = 1u << 16;
inline constexpr size_t kMaxCodecParameterBytes = 64 * kKiB;

// Requests.
inline constexpr size_t kMaxKeysPerLookup = 4096;
inline constexpr size_t kMaxPiecesPerFetch = 4096;
inline constexpr size_t kMaxKeysPerList = 1024;
inline constexpr size_t kMaxTenantNameBytes = 256;
inline constexpr size_t kMaxNamespaceBytes = 64 * kKiB;
inline constexpr std::chrono::milliseconds kMaxHold{60'000};
inline constexpr std::chrono::hours kMaxPin{24};

// Tenants that one store knows.
inline constexpr size_t kMaxTenants = 4096;
inline constexpr std::chrono::hours kMaxDeadline{1};

}  // namespace reprise
