//===- Version.h - who made this ---------------------------------*- C++
//-*-===//
#ifndef KVC_LIB_BASE_SUPPORT_VERSION_H
#define KVC_LIB_BASE_SUPPORT_VERSION_H

namespace kvc {

/// "0.1.0", the version of the build.
const char *version();
/// "22.1.8", the LLVM that kvc was built against.
const char *llvmVersion();
/// "kvc 0.1.0, LLVM 22.1.8": what artifacts name as their producer.
const char *producer();

} // namespace kvc

#endif // KVC_LIB_BASE_SUPPORT_VERSION_H
