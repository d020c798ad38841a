// The parts of the extension module, declared one after the other.
#pragma once

#include <nanobind/nanobind.h>

namespace reprise::python {

void BindKeys(nanobind::module_& module);
void BindClient(nanobind::module_& module);
void BindCodec(nanobind::module_& module);
void BindCalibration(nanobind::module_& module);  // after BindKeys

}  // namespace reprise::python
