#include "client/stores.h"

namespace reprise::client {

std::shared_ptr<const StoreSet> Stores::Current() const {
  std::shared_ptr<const View> view = membership_->Current();
  MutexLock lock(mutex_);
  if (current_ != nullptr && current_->view == view) return current_;
  auto next = std::make_shared<StoreSet>();
  for (const Node& node : view->nodes) {
    std::unique_ptr<Session>& session = sessions_[node.address];
    if (session == nullptr)
      session = std::make_unique<Session>(connector_of_(node), connect_timeout_, clock_);
    next->sessions.push_back(session.get());
  }
  next->view = std::move(view);
  current_ = std::move(next);
  return current_;
}

std::string_view Stores::carrier() const {
  const std::shared_ptr<const StoreSet> stores = Current();
  for (const Session* session : stores->sessions) {
    if (!session->carrier().empty()) return session->carrier();
  }
  return {};
}

}  // namespace reprise::client
