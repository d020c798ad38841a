// The load of clients that keep publishing: new pieces, each followed by the fetch of an earlier
// one.
#pragma once

#include <atomic>
#include <cstdint>

#include "client/reprise.h"

namespace reprise {

struct PublishLoad {
  size_t piece_bytes = 0;
  // Pieces for each second, whether or not earlier ones are done; 0: one after the other in each of
  // `at_once` threads.
  double per_second = 0;
  uint32_t at_once = 1;
};

// A JSON line each second with the counts so far, until `ended`: stored; refused (by the store or
// by the client's own limits); late (its deadline passed); dropped (due while at_once were under
// way); fetched; missed; wrong (bytes that were not published). Ends the process on any other
// error.
void RunPublishLoad(Client& client, const PublishLoad& load, const std::atomic<bool>& ended);

}  // namespace reprise
