// A call from the client's side, and what the calls of one channel share. Internal to the carrier.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include "common/mutex.h"
#include "transport/grpc/grpc_channel.h"
#include "transport/grpc/grpc_message.h"
#include "transport/grpc/grpc_queue.h"

namespace reprise::transport {

class GrpcClientCall;

// Thread-safe. Outlives the channel while a call's handle or a received part is held, but then
// holds no connection.
class GrpcClientCore {
 public:
  explicit GrpcClientCore(GrpcChannelOptions options);

  // False, after which the call must end with lost(), when the connection is gone.
  bool Add(const std::shared_ptr<GrpcClientCall>& call) ABSL_LOCKS_EXCLUDED(mutex_);
  void Remove(const std::shared_ptr<GrpcClientCall>& call) ABSL_LOCKS_EXCLUDED(mutex_);

  // Ends every call with `status`, also those to come. The first status stays.
  void Lose(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_);
  // Lose, then waits for the calls and takes the connection down.
  void Close() ABSL_LOCKS_EXCLUDED(mutex_);

  // OK while the connection is good.
  absl::Status lost() const ABSL_LOCKS_EXCLUDED(mutex_);

  const GrpcChannelOptions& options() const { return options_; }
  grpc::Channel& channel() { return *channel_; }
  grpc::GenericStub& stub() { return *stub_; }
  grpc::CompletionQueue* queue() { return queue_->get(); }
  BufferPool& pool() { return *pool_; }
  const std::shared_ptr<BulkLoans>& loans() { return loans_; }

 private:
  const GrpcChannelOptions options_;
  const std::shared_ptr<BufferPool> pool_;
  const std::shared_ptr<BulkLoans> loans_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<grpc::GenericStub> stub_;
  std::unique_ptr<GrpcQueue> queue_;

  mutable Mutex mutex_;
  CondVar idle_;
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<std::shared_ptr<GrpcClientCall>> calls_ ABSL_GUARDED_BY(mutex_);
};

// Thread-safe. What gRPC reports is handled on the channel's thread; other threads leave a note
// under the lock and poke that thread with an alarm. One part is read ahead of credit, and kept in
// gRPC's memory until credit comes, because only reading shows whether a part needs any.
class GrpcClientCall final : public Call, public std::enable_shared_from_this<GrpcClientCall> {
 public:
  GrpcClientCall(std::shared_ptr<GrpcClientCore> core, uint32_t credit,
                 std::shared_ptr<CallObserver> observer);

  // Once, first. `deadline`: none for a call that lasts as long as the channel. `hold`: see
  // kHoldMetadata.
  void Start(CallRequest request, std::optional<Deadline> deadline, bool hold)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Ends the call early; the first of several wins. Never blocks.
  void End(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void Cancel() override;

 private:
  class PartBuffer;
  struct Rpc {
    grpc::ClientContext context;
    std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
    grpc::ByteBuffer incoming;
    grpc::Status status;
  };

  void OnWritten(bool ok);
  void OnRead(bool ok);
  void OnFinished(bool ok);
  void OnPoked(bool ok);
  void OnDeadline(bool ok);

  // Does what can be done now, on the channel's thread: delivers, reads, ends.
  void Advance() ABSL_LOCKS_EXCLUDED(mutex_);
  bool DeliverWaiting() ABSL_LOCKS_EXCLUDED(mutex_);
  // The observer's last callback; later ones do nothing.
  void Conclude(absl::Status status);
  // Everything has been reported.
  void Retire() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status FinalStatus() ABSL_LOCKS_EXCLUDED(mutex_);
  void Poke() ABSL_LOCKS_EXCLUDED(mutex_);
  void ReturnCredit() ABSL_LOCKS_EXCLUDED(mutex_);

  const std::shared_ptr<GrpcClientCore> core_;
  const uint32_t credit_;

  // Used by Start, then only on the channel's thread.
  std::shared_ptr<CallObserver> observer_;  // null once it has had its end
  std::optional<Deadline> deadline_;
  std::unique_ptr<Rpc> rpc_;
  // Read, but not delivered for want of credit.
  std::optional<IncomingPart> waiting_;
  // Operations that gRPC has not reported yet, the poke aside.
  int pending_ = 0;
  bool reading_ = false;
  bool read_closed_ = false;
  bool finish_started_ = false;
  bool finished_ = false;
  bool cancel_sent_ = false;
  bool dropped_part_ = false;
  std::optional<grpc::Alarm> deadline_alarm_;
  // Used by whoever has set poke_pending_.
  std::optional<grpc::Alarm> poke_alarm_;

  OpTag<GrpcClientCall, &GrpcClientCall::OnWritten> written_{this};
  OpTag<GrpcClientCall, &GrpcClientCall::OnRead> read_{this};
  OpTag<GrpcClientCall, &GrpcClientCall::OnFinished> finish_{this};
  OpTag<GrpcClientCall, &GrpcClientCall::OnPoked> poked_{this};
  OpTag<GrpcClientCall, &GrpcClientCall::OnDeadline> deadline_passed_{this};

  // Whether an operation may be started.
  enum class Phase { kStarting, kLive, kRetired };

  Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kStarting;
  std::optional<absl::Status> ended_ ABSL_GUARDED_BY(mutex_);
  uint32_t credit_used_ ABSL_GUARDED_BY(mutex_) = 0;
  bool credit_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool poke_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  bool poke_pending_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace reprise::transport
