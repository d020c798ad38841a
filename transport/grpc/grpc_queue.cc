#include "transport/grpc/grpc_queue.h"

#include <pthread.h>

#include <utility>

#include "transport/grpc/tsan_marks.h"

namespace reprise::transport {

void* GrpcTag::Arm() {
  TsanRelease(this);
  return this;
}

GrpcQueue::GrpcQueue(std::unique_ptr<grpc::CompletionQueue> queue, std::string name)
    : queue_(std::move(queue)), thread_([this, name = std::move(name)] { ThreadMain(name); }) {}

GrpcQueue::~GrpcQueue() {
  queue_->Shutdown();
  thread_.join();
}

void GrpcQueue::ThreadMain(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
  void* tag = nullptr;
  bool ok = false;
  while (queue_->Next(&tag, &ok)) {
    TsanAcquire(tag);
    static_cast<GrpcTag*>(tag)->Run(ok);
  }
}

}  // namespace reprise::transport
