#include "services/store/version.h"

namespace reprise::store {

std::string_view SoftwareVersion() { return REPRISE_VERSION; }

}  // namespace reprise::store
