//===- ScheduleHelp.cpp - what the fields of schedules are ----------------===//
#include "lib/driver/Compiler/ScheduleHelp.h"

#include "codegen/cpu/Schedules.h"
#include "codegen/nvptx/Schedules.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using llvm::StringRef;

static constexpr size_t kColumns = 80;

/// `text`, indented by `indent` from its second line on.
static void wrap(llvm::raw_ostream &os, StringRef text, size_t indent) {
  size_t column = indent;
  llvm::SmallVector<StringRef> words;
  text.split(words, ' ', /*MaxSplit=*/-1, /*KeepEmpty=*/false);
  for (auto [i, word] : llvm::enumerate(words)) {
    if (i && column + 1 + word.size() > kColumns) {
      os << "\n";
      os.indent(indent);
      column = indent;
    } else if (i) {
      os << " ";
      ++column;
    }
    os << word;
    column += word.size();
  }
  os << "\n";
}

static void describe(llvm::raw_ostream &os, StringRef title,
                     llvm::ArrayRef<ScheduleFieldInfo> fields,
                     llvm::ArrayRef<StringRef> rules) {
  size_t column = 0;
  for (const ScheduleFieldInfo &field : fields)
    column = std::max(column, field.name.size() + 4);
  os << title << "\n";
  for (const ScheduleFieldInfo &field : fields) {
    std::string text = field.doc.str();
    if (field.isFlag)
      text += " A flag.";
    else
      text += " " + std::to_string(field.least) + " to " +
              std::to_string(field.most) + ".";
    text += " Default " + std::to_string(field.initial) + ".";
    os.indent(2) << llvm::left_justify(field.name, column - 2);
    wrap(os, text, column);
  }
  os << "\n  It is legal where\n";
  for (StringRef rule : rules) {
    os << "  - ";
    wrap(os, rule.str() + (rule == rules.back() ? "." : ";"), 4);
  }
}

std::string kvc::scheduleFieldsHelp() {
  std::string text;
  llvm::raw_string_ostream os(text);
  describe(os, "CPU", coreScheduleFields(), cpu::scheduleRules());
  os << "\n";
  describe(os, "GPU", warpScheduleFields(), nvptx::scheduleRules());
  return text;
}
