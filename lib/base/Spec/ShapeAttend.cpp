//===- ShapeAttend.cpp - expressions and constants out of a document ------===//
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Shape.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::StringRef;

static constexpr Word kConstantTypes[] = {"float", "int"};
static constexpr Word kConstantOwners[] = {"call", "sequence"};

static constexpr double kMaxFloat = 3.4e38;
static constexpr unsigned kMaxConstant = 1024;
/// Values of a constant that a call gives, and how many such constants.
static constexpr unsigned kMaxGiven = 1u << 24, kMostGiven = 16;

namespace {

/// Fills what a store says of attention.
class AttendReader {
public:
  AttendReader(Context &context, const Model &model)
      : context(context), model(model) {}

  void read(const Node &node, Attend &attend);

private:
  SourceLoc at(const Node &node) { return context.document.loc(node); }

  /// Fails if nothing is known of any constant.
  bool readConstants(const Node &node, std::vector<Constant> &constants);
  void readConstant(const Node &node, Constant &constant);
  void readValues(const Node &node, Constant &constant);
  void readValue(const Node &node, Constant &constant);

  Context &context;
  const Model &model;
};

} // namespace

void AttendReader::readValues(const Node &node, Constant &constant) {
  size_t count = node.children.size();
  if (node.kind == Node::Kind::Array && count >= 1 && count <= kMaxConstant) {
    for (const Node *child : node.children)
      readValue(*child, constant);
    return;
  }
  context.error("E-TYPE", at(node),
                "the values of a constant are an array of 1 to " +
                    std::to_string(kMaxConstant) + " numbers");
}

void AttendReader::readValue(const Node &node, Constant &constant) {
  if (constant.type == ExprType::Float) {
    if (auto number = readNumber(context, node, -kMaxFloat, kMaxFloat))
      constant.values.push_back(*number);
  } else if (auto number = readInteger(context, node, INT32_MIN, INT32_MAX)) {
    constant.values.push_back(double(*number));
  }
}

void AttendReader::readConstant(const Node &node, Constant &constant) {
  if (node.kind == Node::Kind::Array)
    return readValues(node, constant);
  if (node.kind != Node::Kind::Object) {
    constant.scalar = true;
    return readValue(node, constant);
  }
  Fields fields(context, node, {"type", "size", "per", "values"});
  if (const Node *type = fields.find("type"))
    constant.type = readEnum(context, *type, kConstantTypes).value_or(0)
                        ? ExprType::Int
                        : ExprType::Float;
  if (const Node *values = fields.find("values")) {
    for (const char *key : {"size", "per"})
      if (const Node *other = fields.find(key))
        context.error("E-CONFLICT", context.document.keyLoc(*other),
                      "a constant has `values`, or a `size` and each call "
                      "gives the values");
    return readValues(*values, constant);
  }
  if (const Node *size = fields.require("size", "{\"size\": 64}"))
    constant.given = readInteger(context, *size, 1, kMaxGiven).value_or(0);
  if (const Node *per = fields.find("per"))
    constant.perSequence =
        readEnum(context, *per, kConstantOwners).value_or(0) == 1;
}

bool AttendReader::readConstants(const Node &node,
                                 std::vector<Constant> &constants) {
  if (node.kind != Node::Kind::Object) {
    Context::addHelp(context.error("E-TYPE", at(node),
                                   "`constants` is an object of names and "
                                   "values"),
                     "for example `{\"slope\": [0.5, 0.25]}`");
    return false;
  }
  for (const Node *child : node.children) {
    unsigned errors = context.errorCount();
    Constant constant;
    constant.name = child->key;
    constant.loc = context.document.keyLoc(*child);
    if (!isExprName(constant.name))
      context.error("E-NAME", constant.loc,
                    "a constant's name is a letter and then letters, digits "
                    "and `_`, and nothing that an expression knows already; "
                    "found " +
                        quote(constant.name));
    readConstant(*child, constant);
    constant.unread = context.errorCount() != errors;
    constants.push_back(std::move(constant));
  }
  auto given = llvm::count_if(
      constants, [](const Constant &constant) { return constant.given != 0; });
  if (given > int64_t(kMostGiven))
    context.error("E-RANGE", at(node),
                  "expected at most " + std::to_string(kMostGiven) +
                      " constants that each call gives, found " +
                      std::to_string(given));
  return true;
}

/// An object with the expression that a string in its place is, as what its
/// operators make of it.
static std::string exampleOf(StringRef text, StringRef expression) {
  if (expression.empty() || text.size() > 60 ||
      !llvm::all_of(text, llvm::isPrint))
    return R"-({"logits": "50 * tanh(s / 50)"})-";
  bool decides = expression.find_first_of("<>=!&|") != StringRef::npos &&
                 !expression.contains('?');
  return ("{\"" + llvm::Twine(decides ? "visible" : "logits") + "\": " + text +
          "}")
      .str();
}

void AttendReader::read(const Node &node, Attend &attend) {
  attend.loc = at(node);
  Fields fields(context, node,
                {"causal", "constants", "logits", "visible", "sink"},
                exampleOf(context.document.text(node), node.string));
  if (const Node *causal = fields.find("causal"))
    attend.causal = readBoolean(context, *causal).value_or(true);
  if (const Node *constants = fields.find("constants"))
    if (!readConstants(*constants, attend.constants))
      return;
  ExprScope scope{/*score=*/true, /*positions=*/true, model.qHeads,
                  model.kvHeads, attend.constants};
  // Without the model's heads nothing can be said of an index.
  if (!model.qHeads || !model.kvHeads)
    return;
  if (const Node *logits = fields.find("logits")) {
    attend.logits = readExpr(context, *logits, scope, ExprType::Float);
    if (model.logitSoftcap) {
      Diagnostic &diagnostic =
          context.error("E-CONFLICT", context.document.keyLoc(*logits),
                        "`logits` stands beside the model's `logit_softcap`");
      Context::addHelp(diagnostic, "write the softcap in the expression: "
                                   "`cap * tanh(s / cap)`");
    }
  }
  scope.score = false;
  if (const Node *visible = fields.find("visible"))
    attend.visible = readExpr(context, *visible, scope, ExprType::Bool);
  scope.positions = false;
  if (const Node *sink = fields.find("sink"))
    attend.sink = readExpr(context, *sink, scope, ExprType::Float);
}

void spec::readAttend(Context &context, const Node &node, const Model &model,
                      Attend &attend) {
  AttendReader(context, model).read(node, attend);
}
