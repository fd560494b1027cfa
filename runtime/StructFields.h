//===- StructFields.h - where the fields of ABI structs end -----*- C++ -*-===//
//
// A caller's `size` says which fields it knows. One that ends inside a field
// comes from no version of kvc/runtime.h, and would have half a pointer read.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_RUNTIME_STRUCTFIELDS_H
#define KVC_RUNTIME_STRUCTFIELDS_H

#include "runtime/include/kvc/runtime.h"

#include <cstddef>
#include <span>

namespace kvc::rt {

struct Field {
  const char *name;
  size_t begin, end;
  size_t alignment;
};

/// All fields of a struct that starts with `size`, in order.
template <class T> std::span<const Field> fieldsOf();

} // namespace kvc::rt

#endif // KVC_RUNTIME_STRUCTFIELDS_H
