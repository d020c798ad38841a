// An operation under way, as Python sees it.
#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include "convert.h"
#include <nanobind/nanobind.h>

#include "client/async.h"
#include "common/clock.h"

namespace reprise::python {

// While a thread waits for a result, it looks this often whether Python has a signal (Ctrl-C) to
// handle.
inline constexpr std::chrono::milliseconds kSignalCheckPeriod{100};

// Holds the tensors that the operation reads or writes; if it goes away before the operation is
// done, it cancels and waits, so that nothing touches memory that Python may free. All methods are
// called with the GIL.
template <typename T>
class Pending {
 public:
  Pending(Async<T> async, Tensors tensors)
      : async_(std::move(async)), tensors_(std::move(tensors)) {}
  // For operations that hold no memory of Python's: dropped, they run on.
  explicit Pending(Async<T> async) : async_(std::move(async)) {}

  Pending(Pending&&) = default;
  Pending& operator=(Pending&&) = delete;
  ~Pending() {
    if (!async_.has_value() || tensors_.owners.empty()) return;
    nanobind::gil_scoped_release release;
    async_->Cancel();
    (void)async_->Wait();
  }

  // Blocks without the GIL. The same result every time.
  T Result() {
    while (!result_.has_value()) {
      bool done = false;
      {
        nanobind::gil_scoped_release release;
        done = async_->WaitUntil(Clock::Steady().Now() + kSignalCheckPeriod);
      }
      if (PyErr_CheckSignals() != 0) throw nanobind::python_error();
      // Another Python thread may have taken the result while this one waited.
      if (done && !result_.has_value()) Take();
    }
    return ValueOrRaise(*result_);
  }

  bool Done() const { return result_.has_value() || async_->Done(); }
  void Cancel() {
    if (async_.has_value()) async_->Cancel();
  }

 private:
  void Take() {
    result_ = async_->Wait();
    async_.reset();
    tensors_ = {};
  }

  std::optional<Async<T>> async_;
  Tensors tensors_;
  std::optional<absl::StatusOr<T>> result_;
};

// Declares Pending<T> to Python under `name`; `await_signature` types __await__ for the stub.
template <typename T>
void BindPending(nanobind::module_& module, const char* name, const char* await_signature) {
  namespace nb = nanobind;
  nb::class_<Pending<T>>(
      module, name,
      "An operation under way. It may be awaited; dropping a load or a publish of "
      "arrays cancels it, "
      "dropping anything else "
      "lets it run on.")
      .def("result", &Pending<T>::Result,
           "Waits for the outcome: by the operation's deadline. Raises RepriseError.")
      .def("done", &Pending<T>::Done, "Whether result() would return at once.")
      .def("cancel", &Pending<T>::Cancel,
           "Asks for an early end; result() then raises CancelledError, unless it was too late.")
      .def(
          "__await__",
          [](nb::handle self) {
            return nb::module_::import_("asyncio")
                .attr("get_running_loop")()
                .attr("run_in_executor")(nb::none(), self.attr("result"))
                .attr("__await__")();
          },
          nb::sig(await_signature));
}

}  // namespace reprise::python
