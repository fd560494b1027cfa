//===- ScheduleHelp.h - what the fields of schedules are --------*- C++ -*-===//
#ifndef KVC_LIB_DRIVER_COMPILER_SCHEDULEHELP_H
#define KVC_LIB_DRIVER_COMPILER_SCHEDULEHELP_H

#include <string>

namespace kvc {

/// For each kind of machine its fields, from the table that the compiler has
/// them from, and the rules that its backend refuses schedules by.
std::string scheduleFieldsHelp();

} // namespace kvc

#endif // KVC_LIB_DRIVER_COMPILER_SCHEDULEHELP_H
