//===- BuildId.h - which sources this compiler was built from ---*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_BUILDID_H
#define KVC_LIB_DRIVER_COMPILER_BUILDID_H

namespace kvc {

/// SHA-256 over the sources of everything that has a say in the code that is
/// emitted: equal ids, equal artifacts.
const char *buildId();

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_BUILDID_H
