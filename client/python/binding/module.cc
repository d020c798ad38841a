#include "module.h"

NB_MODULE(_reprise, module) {
  module.doc() = "The Reprise client. Use it through the package `reprise`.";
  reprise::python::BindKeys(module);
  reprise::python::BindResults(module);
  reprise::python::BindClient(module);
  reprise::python::BindCodec(module);
  reprise::python::BindCalibration(module);
  reprise::python::ShowResults(module);
}
