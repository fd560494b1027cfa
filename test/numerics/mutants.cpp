//===- mutants.cpp - is the judge of kernels fooled? ----------------------===//
//
// mutants [--quick] SPEC...: changes every field of each spec in turn and
// demands that loading or verifying refuses what does not belong together:
//
//   manifest  the artifact's manifest is changed, its spec and kernels are not
//   pair      manifest and spec are changed alike, the kernels are not
//   judge     kernels and manifest are compiled from the changed spec, and
//             judged as the other: no key or checksum can see that
//   field     one number or name of the manifest is changed, with nothing that
//             follows from it
//
// Every mutant runs in a process of its own, as its kernels may read anything.
// A crash is no pass, and is told apart from a verdict.
//
//===----------------------------------------------------------------------===//
#include "lib/base/Artifact/Bundle.h"
#include "lib/base/Spec/Canonical.h"
#include "lib/base/Spec/Reader.h"
#include "lib/driver/Compiler/Describe.h"
#include "lib/driver/Import/SpecToKvc.h"
#include "lib/driver/Verify/Verify.h"
#include "passes/Passes.h"

#include "mlir/Pass/PassManager.h"

#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/raw_ostream.h"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <functional>
#include <sys/wait.h>
#include <unistd.h>

using namespace kvc;
using nlohmann::json;

namespace {

struct Mutation {
  std::string name;
  std::function<void(spec::Spec &)> change;
  /// Changes which layers there are and whose, which no kernel knows: with
  /// manifest and spec alike, the kernels are right.
  bool ofLayers = false;
};

struct Mutant {
  std::string name;
  spec::Spec spec;
  bool ofLayers;
};

/// A spec and what compiling it gives.
struct Original {
  spec::Spec spec;
  std::vector<uint8_t> artifact;
  artifact::Manifest manifest;
};

/// What became of one mutant: "" if nobody noticed.
using Verdict = std::string;

struct Totals {
  unsigned mutants = 0, byLoad = 0, byRule = 0, byCrash = 0, escaped = 0;
};

} // namespace

//===----------------------------------------------------------------------===//
// Mutations
//===----------------------------------------------------------------------===//

static void addModel(std::vector<Mutation> &list) {
  auto add = [&](const std::string &name,
                 const std::function<void(spec::Model &)> &change) {
    list.push_back(
        {"model: " + name, [change](spec::Spec &spec) { change(spec.model); }});
  };
  for (double factor : {0.5, 0.98, 1.02, 2.0})
    add(llvm::formatv("softmax_scale * {0}", factor),
        [=](spec::Model &m) { m.softmaxScale *= factor; });
  add("no logit_softcap", [](spec::Model &m) { m.logitSoftcap.reset(); });
  add("logit_softcap 20", [](spec::Model &m) { m.logitSoftcap = 20; });
  add("logit_softcap 5 % less", [](spec::Model &m) {
    if (m.logitSoftcap)
      *m.logitSoftcap *= 0.95;
  });
  for (auto dtype : {spec::DType::F32, spec::DType::F16, spec::DType::BF16})
    add(std::string("dtype ") + spec::name(dtype),
        [=](spec::Model &m) { m.dtype = dtype; });
  add("q_heads doubled", [](spec::Model &m) { m.qHeads *= 2; });
  add("q_heads one group less", [](spec::Model &m) { m.qHeads -= m.kvHeads; });
  add("head_dim_k + 8", [](spec::Model &m) { m.headDimK += 8; });
  add("head_dim_k - 8", [](spec::Model &m) { m.headDimK -= 8; });
  add("head_dim_v + 8", [](spec::Model &m) { m.headDimV += 8; });
  add("head_dim_v - 8", [](spec::Model &m) { m.headDimV -= 8; });
}

/// Counts that scopes follow.
static void addCounts(std::vector<Mutation> &list) {
  list.push_back({"model: one layer more",
                  [](spec::Spec &spec) {
                    for (spec::Store &store : spec.stores)
                      if (store.scope.covers(spec.model.layers - 1))
                        store.scope.layers.push_back(spec.model.layers);
                    ++spec.model.layers;
                  },
                  /*ofLayers=*/true});
  for (int by : {-1, 1})
    list.push_back(
        {llvm::formatv("model: kv_heads {0}", by), [=](spec::Spec &spec) {
           spec::Model &model = spec.model;
           unsigned heads = model.kvHeads + by;
           for (spec::Store &store : spec.stores)
             if (store.scope.headEnd == model.kvHeads)
               store.scope.headEnd = heads;
           model.qHeads = model.group() * heads;
           model.kvHeads = heads;
         }});
  list.push_back({"stores: a layer changes hands",
                  [](spec::Spec &spec) {
                    if (spec.stores.size() < 2)
                      return;
                    auto &first = spec.stores[0].scope.layers,
                         &second = spec.stores[1].scope.layers;
                    first.push_back(second.front());
                    llvm::sort(first);
                    second.erase(second.begin());
                  },
                  /*ofLayers=*/true});
  list.push_back({"stores: two change layers",
                  [](spec::Spec &spec) {
                    if (spec.stores.size() > 1)
                      std::swap(spec.stores[0].scope.layers,
                                spec.stores[1].scope.layers);
                  },
                  /*ofLayers=*/true});
  list.push_back(
      {"stores: the layers are dealt",
       [](spec::Spec &spec) {
         for (spec::Store &store : spec.stores)
           store.scope.layers.clear();
         for (unsigned i = 0; i < spec.model.layers; ++i)
           spec.stores[i % spec.stores.size()].scope.layers.push_back(i);
       },
       /*ofLayers=*/true});
  list.push_back({"stores: two change names", [](spec::Spec &spec) {
                    if (spec.stores.size() > 1)
                      std::swap(spec.stores[0].name, spec.stores[1].name);
                  }});
}

static void addLayouts(std::vector<Mutation> &list, size_t index) {
  auto add = [&](std::string name,
                 const std::function<void(spec::Store &)> &change) {
    list.push_back({llvm::formatv("stores/{0}: {1}", index, name),
                    [=](spec::Spec &spec) { change(spec.stores[index]); }});
  };
  add("page doubled", [](spec::Store &s) { s.layout.page *= 2; });
  add("page halved", [](spec::Store &s) { s.layout.page /= 2; });
  add("page + 1", [](spec::Store &s) { s.layout.page += 1; });
  add("the other layout",
      [](spec::Store &s) { s.layout.paged = !s.layout.paged; });
  add("the other order", [](spec::Store &s) {
    s.layout.order = s.layout.order == spec::PageOrder::HND
                         ? spec::PageOrder::NHD
                         : spec::PageOrder::HND;
  });
  using spec::DType;
  for (const spec::Codec &codec : std::initializer_list<spec::Codec>{
           spec::FloatCodec{DType::F32}, spec::FloatCodec{DType::F16},
           spec::FloatCodec{DType::BF16},
           spec::IntCodec{8, spec::ParameterType::F32},
           spec::IntCodec{8, spec::ParameterType::F16}}) {
    std::string name =
        std::holds_alternative<spec::IntCodec>(codec)
            ? std::string("int8, scale ") +
                  spec::name(std::get<spec::IntCodec>(codec).scaleType)
            : spec::name(std::get<spec::FloatCodec>(codec).type);
    add("codec of k " + name, [=](spec::Store &s) { s.k.codec = codec; });
    add("codec of v " + name, [=](spec::Store &s) { s.v.codec = codec; });
  }
}

static void addWindows(std::vector<Mutation> &list, size_t index) {
  auto add = [&](std::string name, auto change) {
    list.push_back(
        {llvm::formatv("stores/{0}: {1}", index, name), [=](spec::Spec &spec) {
           auto &window = spec.stores[index].read.window;
           if (window)
             change(*window);
         }});
  };
  using Window = spec::Read::Window;
  for (int by : {-1, 1}) {
    add(llvm::formatv("recent {0}", by), [=](Window &w) { w.recent += by; });
    add(llvm::formatv("sink {0}", by), [=](Window &w) {
      if (w.sink || by > 0)
        w.sink += by;
    });
  }
  add("recent doubled", [](Window &w) { w.recent *= 2; });
  add("recent halved", [](Window &w) { w.recent /= 2; });
  add("no sink", [](Window &w) { w.sink = 0; });
  list.push_back({llvm::formatv("stores/{0}: window or none", index),
                  [=](spec::Spec &spec) {
                    spec::Store &store = spec.stores[index];
                    auto &window = store.read.window;
                    if (window)
                      window.reset();
                    else // narrower than what `visible` shows
                      window = store.attend.visible ? Window{0, 16}
                                                    : Window{4, 1024};
                  }});
}

/// Calls `fn(expr)` for all parts of an expression, in one order.
static void forParts(spec::Expr &expr,
                     llvm::function_ref<void(spec::Expr &)> fn) {
  fn(expr);
  for (spec::Expr &operand : expr.operands)
    forParts(operand, fn);
}

/// The operator that is most easily mistaken for `op`; `op` if there is none.
static spec::ExprOp mistaken(spec::ExprOp op) {
  using Op = spec::ExprOp;
  static constexpr std::pair<Op, Op> kPairs[] = {
      {Op::Add, Op::Sub},
      {Op::Lt, Op::Le},
      {Op::Gt, Op::Ge},
      {Op::Eq, Op::Ne},
      {Op::And, Op::Or},
      {Op::Min, Op::Max},
      {Op::Mul, Op::Div},
      {Op::FloorDiv, Op::Mod},
      {Op::Exp, Op::Exp2},
      {Op::Tanh, Op::Sigmoid},
      {Op::QueryHead, Op::KvHead},
      {Op::QueryPosition, Op::TokenPosition}};
  for (auto [a, b] : kPairs)
    if (op == a || op == b)
      return op == a ? b : a;
  return op;
}

/// Every literal, operator, name and constant of a store's expressions.
static void addExpressions(std::vector<Mutation> &list, const spec::Spec &spec,
                           size_t index) {
  using Member = std::optional<spec::Expr> spec::Attend::*;
  auto add = [&](std::string name,
                 const std::function<void(spec::Attend &)> &change) {
    list.push_back(
        {llvm::formatv("stores/{0}: {1}", index, name),
         [=](spec::Spec &spec) { change(spec.stores[index].attend); }});
  };
  for (auto [what, member] :
       {std::pair<const char *, Member>("logits", &spec::Attend::logits),
        std::pair<const char *, Member>("visible", &spec::Attend::visible)}) {
    std::optional<spec::Expr> expr = spec.stores[index].attend.*member;
    if (!expr)
      continue;
    add(std::string("no ") + what,
        [=](spec::Attend &attend) { (attend.*member).reset(); });
    unsigned count = 0;
    forParts(*expr, [&](spec::Expr &) { ++count; });
    for (unsigned part = 0; part < count; ++part) {
      auto changePart = [=](spec::Attend &attend) {
        unsigned at = 0;
        forParts(*(attend.*member), [&](spec::Expr &expr) {
          if (at++ != part)
            return;
          if (!expr.isLiteral())
            expr.op = mistaken(expr.op);
          else if (expr.type == spec::ExprType::Float)
            expr.number *= 1.05;
          else
            expr.number = expr.type == spec::ExprType::Int ? expr.number + 1
                                                           : expr.number == 0;
        });
      };
      spec::Attend changed = spec.stores[index].attend;
      changePart(changed);
      add(llvm::formatv("{0} {1}", what, (changed.*member)->text()),
          changePart);
    }
  }
  const auto &constants = spec.stores[index].attend.constants;
  for (size_t i = 0; i < constants.size(); ++i)
    for (size_t j = 0; j < constants[i].values.size(); ++j)
      add(llvm::formatv("{0}[{1}] 5 % more", constants[i].name, j),
          [=](spec::Attend &attend) { attend.constants[i].values[j] *= 1.05; });
}

/// Those that make another legal spec of `spec`, with it.
static std::vector<Mutant> mutantsOf(const spec::Spec &spec) {
  std::vector<Mutation> list;
  addModel(list);
  addCounts(list);
  for (size_t i = 0; i < spec.stores.size(); ++i) {
    addLayouts(list, i);
    addWindows(list, i);
    addExpressions(list, spec, i);
  }
  std::vector<Mutant> mutants;
  for (const Mutation &mutation : list) {
    spec::Spec changed = spec;
    mutation.change(changed);
    for (spec::Store &store : changed.stores) {
      store.k.dim = changed.model.headDimK;
      store.v.dim = changed.model.headDimV;
    }
    Diagnostics ignored;
    auto read = spec::read(spec::canonicalText(changed), spec.file, ignored);
    if (read && read->canonical != spec.canonical)
      mutants.push_back({mutation.name, std::move(*read), mutation.ofLayers});
  }
  return mutants;
}

//===----------------------------------------------------------------------===//
// Trials
//===----------------------------------------------------------------------===//

/// Runs `trial` in a child; what it returns, or how it died.
static Verdict inChild(llvm::function_ref<Verdict()> trial) {
  int ends[2];
  if (pipe(ends))
    std::abort();
  llvm::outs().flush();
  pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    Verdict verdict = trial();
    (void)!write(ends[1], verdict.data(), verdict.size());
    _exit(0);
  }
  close(ends[1]);
  Verdict verdict;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;)
    verdict.append(buffer, n);
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFSIGNALED(status))
    return "crash: signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) ? "crash: exit" : verdict;
}

/// The rule and words of the first failure of `spec`'s cases.
static Verdict judge(const spec::Spec &spec,
                     const std::vector<uint8_t> &artifact,
                     const verify::Options &given) {
  verify::Options options = given;
  options.jobs = 1;
  options.cases = 1;
  options.allBounds = options.untilFailed = true;
  for (options.first = 0; options.first < 2; ++options.first) {
    verify::Summary summary = verify::verifySpec(spec, artifact, options);
    if (summary.failed)
      return summary.failures[0].failure.rule + ": " +
             summary.failures[0].failure.detail;
  }
  return "";
}

/// The original's kernels under another manifest.
static std::vector<uint8_t> repacked(const Original &original,
                                     const artifact::Manifest &manifest,
                                     const std::string *spec) {
  std::string error;
  auto bundle = artifact::Bundle::open(original.artifact, error);
  std::vector<artifact::Entry> blobs;
  for (const artifact::Entry &entry : bundle->entries()) {
    if (entry.name == artifact::kManifestName)
      continue;
    blobs.push_back(entry);
    if (spec && entry.name == "spec.json")
      blobs.back().bytes = {reinterpret_cast<const uint8_t *>(spec->data()),
                            spec->size()};
  }
  return artifact::pack(manifest, blobs, error);
}

static artifact::Manifest manifestOf(const Original &original,
                                     const spec::Spec &spec) {
  artifact::Manifest manifest = original.manifest;
  mlir::MLIRContext context(mlir::MLIRContext::Threading::DISABLED);
  manifest.model = describeModel(spec.model);
  mlir::OwningOpRef<mlir::ModuleOp> module = importSpec(context, spec);
  mlir::PassManager passes(&context);
  passes.addPass(createInferReads());
  if (failed(passes.run(*module)))
    std::abort();
  manifest.stores = describeStores(*module);
  return manifest;
}

static Verdict tryManifest(const Original &original, const spec::Spec &mutant,
                           bool withSpec) {
  std::vector<uint8_t> artifact =
      repacked(original, manifestOf(original, mutant),
               withSpec ? &mutant.canonical : nullptr);
  if (artifact.empty())
    return "setup: the manifest is refused";
  return judge(withSpec ? mutant : original.spec, artifact, {});
}

/// Whether kernels of both read and write the same bytes: others are refused
/// before any is run, and compiled for nothing.
static bool isSameMemory(const Original &original, const spec::Spec &mutant) {
  auto memory = [&](artifact::Manifest manifest) {
    manifest.model.softmaxScale = 1;
    manifest.model.dtype = spec::bytes(mutant.model.dtype) == 4 ? "f32" : "f16";
    for (artifact::StoreInfo &store : manifest.stores) {
      store.window = false;
      store.sink = store.recent = 0;
      store.attend.clear();
    }
    return manifest;
  };
  artifact::Manifest own = original.manifest;
  bool sameWidth =
      spec::bytes(mutant.model.dtype) == spec::bytes(original.spec.model.dtype);
  return sameWidth && memory(own) == memory(manifestOf(original, mutant));
}

static Verdict tryJudge(const Original &original, const spec::Spec &mutant) {
  verify::Options options;
  options.impostor = mutant;
  return judge(original.spec, {}, options);
}

/// Whether `verdict` is one, and of whom.
static void count(const std::string &what, const Verdict &verdict,
                  Totals &totals) {
  ++totals.mutants;
  if (verdict.empty())
    ++totals.escaped;
  else if (llvm::StringRef(verdict).starts_with("crash"))
    ++totals.byCrash;
  else
    ++(llvm::StringRef(verdict).starts_with("setup") ? totals.byLoad
                                                     : totals.byRule);
  llvm::outs() << what << ": "
               << (verdict.empty() ? "ESCAPED"
                                   : llvm::StringRef(verdict).take_front(150))
               << "\n";
}

//===----------------------------------------------------------------------===//
// Fields of the manifest
//===----------------------------------------------------------------------===//

/// Another value of the same type.
static json another(const json &value) {
  if (value.is_string())
    return value.get<std::string>() + "x";
  if (value.is_boolean())
    return !value.get<bool>();
  if (value.is_number_float())
    return value.get<double>() * 1.01;
  return value.get<int64_t>() + 1;
}

/// Calls `fn(pointer)` for all numbers and names below `pointer`.
static void forLeaves(const json &root, const json::json_pointer &pointer,
                      llvm::function_ref<void(json::json_pointer)> fn) {
  const json &at = root[pointer];
  if (at.is_object()) {
    for (auto item = at.begin(); item != at.end(); ++item)
      forLeaves(root, pointer / item.key(), fn);
  } else if (at.is_array()) {
    for (size_t i = 0; i < at.size(); ++i)
      forLeaves(root, pointer / i, fn);
  } else if (!at.is_null()) {
    fn(pointer);
  }
}

static Verdict tryField(const Original &original, const json &changed) {
  std::string error;
  auto manifest = artifact::read(changed.dump(), error);
  if (!manifest)
    return "setup: " + error;
  std::vector<uint8_t> artifact = repacked(original, *manifest, nullptr);
  if (artifact.empty())
    return "setup: the manifest is refused";
  return judge(original.spec, artifact, {});
}

static void tryFields(const Original &original, Totals &totals) {
  json whole = json::parse(artifact::write(original.manifest), nullptr, false);
  std::vector<json::json_pointer> fields;
  auto take = [&](json::json_pointer at) { fields.push_back(std::move(at)); };
  forLeaves(whole, json::json_pointer("/model"), take);
  forLeaves(whole, json::json_pointer("/stores"), take);
  json::json_pointer kernels("/kernels");
  for (size_t i = 0; i < original.manifest.kernels.size(); ++i)
    if (original.manifest.kernels[i].kind == "attend")
      for (const char *field : {"split", "min_queries", "max_queries"})
        fields.push_back(kernels / i / field);
  for (const json::json_pointer &field : fields) {
    json changed = whole;
    changed[field] = another(whole[field]);
    count(llvm::formatv("{0}: field: {1} {2} -> {3}", original.spec.name,
                        field.to_string(), whole[field].dump(),
                        changed[field].dump()),
          inChild([&] { return tryField(original, changed); }), totals);
  }
}

//===----------------------------------------------------------------------===//
// The run
//===----------------------------------------------------------------------===//

static std::optional<Original> compileOriginal(const char *path) {
  Diagnostics diagnostics;
  Original original;
  auto spec = spec::readFile(path, diagnostics);
  auto output = spec ? compile(*spec, {}, diagnostics) : std::nullopt;
  std::string error;
  auto bundle =
      output ? artifact::Bundle::open(output->artifact, error) : std::nullopt;
  if (!bundle)
    return std::nullopt;
  original.manifest = bundle->manifest();
  original.spec = std::move(*spec);
  original.artifact = std::move(output->artifact);
  return original;
}

static bool runSpec(const Original &original, bool quick, Totals &totals) {
  // The harness itself: what is not changed must pass.
  Verdict sound =
      inChild([&] { return judge(original.spec, original.artifact, {}); });
  if (!sound.empty()) {
    llvm::errs() << original.spec.name << " fails as it is: " << sound << "\n";
    return false;
  }
  for (const auto &[name, mutant, ofLayers] : mutantsOf(original.spec)) {
    auto trial = [&](const char *mode, llvm::function_ref<Verdict()> run) {
      count(original.spec.name + ": " + mode + ": " + name, inChild(run),
            totals);
    };
    trial("manifest", [&] { return tryManifest(original, mutant, false); });
    if (!quick || isSameMemory(original, mutant))
      trial("judge", [&] { return tryJudge(original, mutant); });
    if (!quick && !ofLayers)
      trial("pair", [&] { return tryManifest(original, mutant, true); });
  }
  tryFields(original, totals);
  return true;
}

int main(int count, char **arguments) {
  bool quick = false;
  Totals totals;
  for (int i = 1; i < count; ++i) {
    if (llvm::StringRef(arguments[i]) == "--quick") {
      quick = true;
      continue;
    }
    auto original = compileOriginal(arguments[i]);
    if (!original) {
      llvm::errs() << "cannot compile " << arguments[i] << "\n";
      return 2;
    }
    if (!runSpec(*original, quick, totals))
      return 2;
  }
  llvm::outs() << totals.mutants << " mutants: " << totals.byLoad
               << " refused before a kernel ran, " << totals.byRule
               << " failed by a rule, " << totals.byCrash << " crashed, "
               << totals.escaped << " escaped\n";
  return totals.mutants && !totals.escaped ? 0 : 1;
}
