//===- Locations.cpp - MLIR's diagnostics at JSON locations ---------------===//
#include "lib/driver/Compiler/Locations.h"
#include "dialect/Schedule.h"
#include "lib/base/Support/Words.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"

using namespace kvc;
using llvm::ArrayRef;
using llvm::SmallVector;
using llvm::StringRef;

SpecPlaces::SpecPlaces(const spec::Spec &spec,
                       llvm::ArrayRef<ScheduleOverride> schedule)
    : file(spec.file), schedule(schedule) {
  places.push_back(spec.model.loc);
  for (const spec::Store &store : spec.stores)
    for (const SourceLoc &loc :
         {store.loc, store.scope.loc, store.k.loc, store.k.codecLoc,
          store.v.loc, store.v.codecLoc, store.layout.loc, store.read.loc})
      places.push_back(loc);
}

const ScheduleOverride *SpecPlaces::overrideAt(mlir::Location loc) const {
  // The pass that applies overrides marks what it says of one by its index.
  auto marked = loc->findInstanceOf<mlir::FusedLocWith<mlir::IntegerAttr>>();
  uint64_t index = marked ? marked.getMetadata().getInt() : schedule.size();
  return index < schedule.size() ? &schedule[index] : nullptr;
}

SourceLoc SpecPlaces::at(mlir::Location loc) const {
  SourceLoc found;
  found.file = file;
  auto position = loc->findInstanceOf<mlir::FileLineColLoc>();
  if (!position)
    return found;
  found.line = position.getLine();
  found.column = position.getColumn();
  for (const SourceLoc &place : places)
    if (place.line == found.line && place.column == found.column)
      return place;
  return found;
}

SourceLoc SpecPlaces::at(const std::string &pointer) const {
  for (const SourceLoc &place : places)
    if (place.pointer == pointer)
      return place;
  SourceLoc found;
  found.file = file;
  found.pointer = pointer;
  return found;
}

static Severity severityOf(mlir::DiagnosticSeverity severity) {
  switch (severity) {
  case mlir::DiagnosticSeverity::Note:
    return Severity::Note;
  case mlir::DiagnosticSeverity::Warning:
    return Severity::Warning;
  case mlir::DiagnosticSeverity::Error:
    return Severity::Error;
  case mlir::DiagnosticSeverity::Remark:
    return Severity::Remark;
  }
  llvm_unreachable("no such severity");
}

/// Takes "[R-CODE]" off the end of `message`; `fallback` if there is none.
static std::string takeCode(std::string &message, StringRef fallback) {
  StringRef text = message;
  size_t open = text.rfind(" [");
  if (open == StringRef::npos || !text.ends_with("]"))
    return fallback.str();
  std::string code = text.slice(open + 2, text.size() - 1).str();
  if (StringRef(code).substr(1, 1) != "-")
    return fallback.str();
  message.resize(open);
  return code;
}

DiagnosticBridge::DiagnosticBridge(mlir::MLIRContext &context,
                                   const SpecPlaces &places,
                                   Diagnostics &diagnostics)
    : places(places), diagnostics(diagnostics),
      handler(&context, [this](mlir::Diagnostic &d) { report(d); }) {}

/// Fields of CPUs or of GPUs.
static SmallVector<StringRef> namesOf(ArrayRef<ScheduleFieldInfo> fields) {
  SmallVector<StringRef> names;
  for (const ScheduleFieldInfo &field : fields)
    names.push_back(field.name);
  return names;
}

/// What may be meant by an override whose field or kernel there is not, as
/// `message` says; "" if nothing is near.
static std::string helpFor(const ScheduleOverride &entry, StringRef message) {
  if (message.contains("matches no kernel")) {
    StringRef last = StringRef(entry.kernel).rsplit('.').second;
    StringRef near =
        nearestName(last.empty() ? entry.kernel : last, {"decode", "prefill"});
    return near.empty() ? ""
                        : "did you mean " +
                              quote("*." + near.str() + "." + entry.key + "=" +
                                    std::to_string(entry.value)) +
                              "?";
  }
  if (!message.contains("has no field"))
    return "";
  SmallVector<StringRef> cpus = namesOf(coreScheduleFields()),
                         gpus = namesOf(warpScheduleFields());
  for (const auto &[names, machines] :
       {std::pair(cpus, "CPUs"), std::pair(gpus, "GPUs")})
    if (llvm::is_contained(names, entry.key))
      return quote(entry.key) + " is a field of schedules for " + machines;
  bool isCpu = message.contains("schedule for CPUs");
  StringRef near = nearestName(entry.key, isCpu ? cpus : gpus);
  return near.empty() ? "" : "did you mean " + quote(near) + "?";
}

void DiagnosticBridge::report(mlir::Diagnostic &diagnostic) {
  Severity severity = severityOf(diagnostic.getSeverity());
  std::string message = diagnostic.str();
  const char *fallback = severity == Severity::Error     ? "E-LOWER"
                         : severity == Severity::Warning ? "W-LOWER"
                                                         : "R-LOWER";
  SourceLoc loc = places.at(diagnostic.getLocation());
  // What an override leads to may be slow, and that is the spec's affair; if it
  // is wrong, the override is.
  const ScheduleOverride *entry =
      severity == Severity::Error ? places.overrideAt(diagnostic.getLocation())
                                  : nullptr;
  if (entry) {
    loc = entry->loc;
    fallback = "E-SCHEDULE";
  }
  std::string code = takeCode(message, fallback);
  for (const Diagnostic &known : diagnostics.all())
    if (known.code == code && known.message == message &&
        known.loc.line == loc.line && known.loc.column == loc.column)
      return;
  Diagnostic &ours = diagnostics.report(severity, code, loc, message);
  if (entry)
    if (std::string help = helpFor(*entry, message); !help.empty())
      ours.notes.push_back({Severity::Help, "", {}, help, {}});
  for (mlir::Diagnostic &note : diagnostic.getNotes())
    ours.notes.push_back(
        {Severity::Note, "", places.at(note.getLocation()), note.str(), {}});
}
