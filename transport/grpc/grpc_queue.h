// A gRPC completion queue with the one thread that serves it. Internal to the carrier.
//
// Every operation that gRPC completes is an OpTag; its owner's method runs on the queue's thread.
// So all that happens to one call happens on one thread, in order.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include <grpcpp/alarm.h>
#include <grpcpp/completion_queue.h>

namespace reprise::transport {

class GrpcTag {
 public:
  virtual void Run(bool ok) = 0;

  // The pointer to give to gRPC with one operation. The tag must live until it has run.
  void* Arm();

 protected:
  ~GrpcTag() = default;
};

// Runs `(owner.*Method)(ok)`; a member of its owner.
template <typename Owner, void (Owner::*Method)(bool)>
class OpTag final : public GrpcTag {
 public:
  explicit OpTag(Owner* owner) : owner_(owner) {}
  void Run(bool ok) override { (owner_->*Method)(ok); }

 private:
  Owner* const owner_;
};

class GrpcQueue {
 public:
  // Takes any kind of completion queue. `name` is what the thread is called in `top -H`.
  GrpcQueue(std::unique_ptr<grpc::CompletionQueue> queue, std::string name);
  // Nothing may be started on the queue any more; waits for what was.
  ~GrpcQueue();
  GrpcQueue(const GrpcQueue&) = delete;
  GrpcQueue& operator=(const GrpcQueue&) = delete;

  grpc::CompletionQueue* get() { return queue_.get(); }
  bool OnThread() const { return std::this_thread::get_id() == thread_.get_id(); }

 private:
  void ThreadMain(const std::string& name);

  const std::unique_ptr<grpc::CompletionQueue> queue_;
  std::thread thread_;
};

}  // namespace reprise::transport
