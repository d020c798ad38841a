// The parts of the extension module, declared one after the other.
#pragma once

#include <nanobind/nanobind.h>

namespace reprise::python {

void BindKeys(nanobind::module_& module);
void BindResults(nanobind::module_& module);
void BindClient(nanobind::module_& module);
void BindCodec(nanobind::module_& module);
void BindCalibration(nanobind::module_& module);  // after BindKeys
// After the others: gives their classes a __repr__.
void ShowResults(nanobind::module_& module);

}  // namespace reprise::python
