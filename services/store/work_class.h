// What kinds of work the store's threads do.
#pragma once

#include <cstddef>
#include <cstdint>

namespace reprise::store {

// In the order of precedence. Lookups and fetches; publishes; lists, removals and verification.
enum class WorkClass : uint8_t { kFetch, kPublish, kBackground };
inline constexpr size_t kWorkClasses = 3;

}  // namespace reprise::store
