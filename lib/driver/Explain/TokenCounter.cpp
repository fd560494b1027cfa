//===- TokenCounter.cpp - what the steps of a spec see --------------------===//
#include "lib/driver/Explain/TokenCounter.h"

#include "lib/driver/Import/SpecToKvc.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace kvc;

static std::shared_ptr<const reference::GivenConstants>
zeros(const spec::Attend &attend) {
  auto given = std::make_shared<reference::GivenConstants>();
  for (const spec::Constant &constant : attend.constants)
    if (constant.given)
      (*given)[constant.name].assign(constant.given, 0);
  return given;
}

TokenCounter::TokenCounter(const spec::Spec &spec,
                           const artifact::Manifest &manifest)
    : context(std::make_unique<mlir::MLIRContext>(
          mlir::MLIRContext::Threading::DISABLED)) {
  mlir::OwningOpRef<mlir::ModuleOp> module = importSpec(*context, spec);
  for (const auto &[store, info] : llvm::zip(spec.stores, manifest.stores)) {
    auto function = module->lookupSymbol<mlir::func::FuncOp>(
        llvm::StringRef(store.name + ".attend"));
    reference::AttendProblem &problem =
        problems.emplace_back(reference::AttendProblem::of(
            *function.getOps<AttendOp>().begin(), zeros(store.attend)));
    // What the passes found that the expression shows at most: outside of it
    // nothing needs to be evaluated.
    if (info.window)
      problem.sink = info.sink, problem.recent = info.recent;
  }
}

static void collect(const spec::Expr &expr, std::vector<std::string> &names) {
  if (expr.given && !llvm::is_contained(names, expr.constant))
    names.push_back(expr.constant);
  for (const spec::Expr &operand : expr.operands)
    collect(operand, names);
}

std::string kvc::constantsOfVisible(const spec::Store &store) {
  std::vector<std::string> names;
  if (store.attend.visible)
    collect(*store.attend.visible, names);
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "`" : ", `") + name + "`";
  return text;
}
