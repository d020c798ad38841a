// The stores of a client: the view of the moment, and a session to each of its nodes.
//
// An operation takes a snapshot when it begins and keeps to it, so that an index means one node for
// all of its life. Sessions belong to addresses and stay until the client ends, also that of a node
// which has left the view: what runs may still need it. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "client/connector.h"
#include "client/session.h"
#include "client/view.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace reprise::client {

// Of a view: sessions[i] is that to nodes[i], and lives as long as the Stores.
struct StoreSet {
  std::shared_ptr<const View> view;
  std::vector<Session*> sessions;
};

class Stores {
 public:
  Stores(std::unique_ptr<Membership> membership, ConnectorOf connector_of,
         std::chrono::milliseconds connect_timeout, const Clock& clock)
      : membership_(std::move(membership)),
        connector_of_(std::move(connector_of)),
        connect_timeout_(connect_timeout),
        clock_(clock) {}

  std::shared_ptr<const StoreSet> Current() const ABSL_LOCKS_EXCLUDED(mutex_);

  // Of the first node that has, or had, a channel; empty before.
  std::string_view carrier() const;

 private:
  const std::unique_ptr<Membership> membership_;
  const ConnectorOf connector_of_;
  const std::chrono::milliseconds connect_timeout_;
  const Clock& clock_;

  mutable Mutex mutex_;
  // By address.
  mutable std::map<std::string, std::unique_ptr<Session>> sessions_ ABSL_GUARDED_BY(mutex_);
  mutable std::shared_ptr<const StoreSet> current_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace reprise::client
