// The version of this software, as CMakeLists.txt states it.
#pragma once

#include <string_view>

namespace reprise::store {

// For example "0.1.0".
std::string_view SoftwareVersion();

}  // namespace reprise::store
