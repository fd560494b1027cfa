//===- Remarks.cpp - an artifact's remarks --------------------------------===//
#include "lib/driver/Compiler/Remarks.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;

std::vector<Remark> kvc::remarksOf(const Diagnostics &diagnostics) {
  std::vector<Remark> remarks;
  for (const Diagnostic &diagnostic : diagnostics.all())
    if (diagnostic.severity == Severity::Remark)
      remarks.push_back(
          {diagnostic.code, diagnostic.loc.pointer, diagnostic.message});
  return remarks;
}

std::string kvc::writeRemarks(const std::vector<Remark> &remarks) {
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::json::OStream json(os);
  json.array([&] {
    for (const Remark &remark : remarks)
      json.object([&] {
        json.attribute("code", remark.code);
        json.attribute("pointer", remark.pointer);
        json.attribute("message", remark.message);
      });
  });
  return text;
}

std::vector<Remark> kvc::readRemarks(llvm::StringRef text) {
  std::vector<Remark> remarks;
  auto json = llvm::json::parse(text);
  if (!json) {
    llvm::consumeError(json.takeError());
    return remarks;
  }
  const llvm::json::Array *list = json->getAsArray();
  for (size_t i = 0; list && i < list->size(); ++i)
    if (const llvm::json::Object *object = (*list)[i].getAsObject())
      remarks.push_back({object->getString("code").value_or("").str(),
                         object->getString("pointer").value_or("").str(),
                         object->getString("message").value_or("").str()});
  return remarks;
}
