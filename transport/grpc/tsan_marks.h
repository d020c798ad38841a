// Tells ThreadSanitizer about order that gRPC keeps and that it cannot see, because gRPC is not
// instrumented: what was done before TsanRelease(x) comes before what is done after TsanAcquire(x).
// Nothing in other builds.
#pragma once

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace reprise::transport {

#if defined(__SANITIZE_THREAD__)
inline void TsanAcquire(void* address) { __tsan_acquire(address); }
inline void TsanRelease(void* address) { __tsan_release(address); }
#else
inline void TsanAcquire(void* /*address*/) {}
inline void TsanRelease(void* /*address*/) {}
#endif

}  // namespace reprise::transport
