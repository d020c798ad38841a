// DiskOperations in the order in which they were submitted, linked through the operations
// themselves so that a queue of any length allocates nothing. Owns none of them. Not thread-safe.
#pragma once

#include <utility>

#include "storage/env/env.h"

namespace reprise::storage {

class OperationList {
 public:
  bool empty() const { return first_ == nullptr; }

  void Append(DiskOperation& operation) {
    operation.next_ = nullptr;
    *(first_ == nullptr ? &first_ : &last_->next_) = &operation;
    last_ = &operation;
  }

  // All of `other`, which is empty afterwards.
  void Append(OperationList& other) {
    if (other.empty()) return;
    *(first_ == nullptr ? &first_ : &last_->next_) = other.first_;
    last_ = std::exchange(other.last_, nullptr);
    other.first_ = nullptr;
  }

  // The first; the list must not be empty.
  DiskOperation& Pop() {
    DiskOperation& operation = *first_;
    first_ = std::exchange(operation.next_, nullptr);
    if (first_ == nullptr) last_ = nullptr;
    return operation;
  }

 private:
  DiskOperation* first_ = nullptr;
  DiskOperation* last_ = nullptr;
};

}  // namespace reprise::storage
