//===- Targets.cpp - the GPU architectures and what planning asks of them -===//
#include "codegen/nvptx/AttendMmaOperands.h"
#include "codegen/nvptx/Backend.h"

using namespace mlir;
using namespace kvc;
using namespace kvc::nvptx;

const std::vector<SmTarget> &kvc::nvptx::smTargets() {
  static const std::vector<SmTarget> targets = {
#define KVC_SM(NAME, VERSION, PTX, SHARED_SM, SHARED_CTA, SMS, THREADS, CTAS)  \
  {NAME, VERSION, PTX, SHARED_SM, SHARED_CTA, SMS, THREADS, CTAS},
#define KVC_SM_SERVED(NAME, ENTRY, HOW)
#include "codegen/nvptx/SmTable.def"
#undef KVC_SM_SERVED
#undef KVC_SM
  };
  return targets;
}

namespace {
enum class How : uint8_t { Binary, Ptx };
struct Served {
  const char *name, *entry;
  How how;
};
} // namespace

static constexpr Served kServed[] = {
#define KVC_SM(...)
#define KVC_SM_SERVED(NAME, ENTRY, HOW) {NAME, ENTRY, How::HOW},
#include "codegen/nvptx/SmTable.def"
#undef KVC_SM_SERVED
#undef KVC_SM
};

std::optional<SmTarget> kvc::nvptx::findSmTarget(StringRef name) {
  for (const SmTarget &target : smTargets())
    if (name == target.name)
      return target;
  return std::nullopt;
}

/// "sm_90a" and "sm_103f" without the letter; other names as they are.
static StringRef withoutLetter(StringRef name) {
  unsigned version = 0;
  StringRef rest = name;
  bool isSm = rest.consume_front("sm_") && !rest.consumeInteger(10, version);
  return isSm && version >= 90 && (rest == "a" || rest == "f")
             ? name.drop_back()
             : name;
}

std::optional<SmTarget> kvc::nvptx::servingSmTarget(StringRef name,
                                                    std::string &note) {
  note.clear();
  StringRef plain = withoutLetter(name);
  std::string entry = plain.str(), why;
  if (plain != name)
    why = "no kernel needs what its letter stands for";
  for (const Served &served : kServed) {
    if (plain != served.name)
      continue;
    entry = served.entry;
    why = served.how == How::Binary ? "its binary runs there"
                                    : "the driver compiles its PTX there";
  }
  auto target = findSmTarget(entry);
  if (target && entry != name)
    note = "`" + name.str() + "` is served by the entry for `" + entry +
           "`: " + why;
  return target;
}

TargetAttr kvc::nvptx::targetAttr(MLIRContext *context,
                                  const SmTarget &target) {
  return TargetAttr::get(context, target.name, /*lanes=*/32, /*registers=*/255,
                         operandCodes(context), /*matrix=*/{},
                         target.sharedPerCta,
                         target.version >= infoOf(Ptx::BulkCopy).minSm);
}
