//===- Fields.cpp - typed values out of located JSON ----------------------===//
#include "lib/base/Spec/Fields.h"
#include "lib/base/Spec/Reader.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

using namespace kvc;
using namespace kvc::spec;
using llvm::ArrayRef;
using llvm::StringLiteral;
using llvm::StringRef;

/// Primitives of the language that no version has yet.
static constexpr Word kLaterPrimitives[] = {"position", "state", "score",
                                            "evict",    "tiers", "sharing"};

/// What other programs call a key or a value.
static constexpr std::pair<StringLiteral, StringLiteral> kOtherNames[] = {
    {"size", "recent"},
    {"length", "recent"},
    {"window", "recent"},
    {"window_size", "recent"},
    {"sliding_window", "recent"},
    {"sinks", "sink"},
    {"sink_size", "sink"},
    {"type", "kind"},
    {"block", "page"},
    {"size", "page"},
    {"page_size", "page"},
    {"block_size", "page"},
    {"tokens", "page"},
    {"num_hidden_layers", "layers"},
    {"num_layers", "layers"},
    {"n_layers", "layers"},
    {"num_attention_heads", "q_heads"},
    {"num_heads", "q_heads"},
    {"n_heads", "q_heads"},
    {"heads", "q_heads"},
    {"num_key_value_heads", "kv_heads"},
    {"num_kv_heads", "kv_heads"},
    {"n_kv_heads", "kv_heads"},
    {"head_size", "head_dim"},
    {"head_dimension", "head_dim"},
    {"torch_dtype", "dtype"},
    {"scale", "softmax_scale"},
    {"sm_scale", "softmax_scale"},
    {"scaling", "softmax_scale"},
    {"softcap", "logit_softcap"},
    {"attn_logit_softcapping", "logit_softcap"},
    {"version", "kvc"},
    {"cache", "streams"},
    {"window", "reads"},
    {"sliding_window", "reads"},
    {"sink", "reads"},
    {"sinks", "attend"},
    {"attention_sinks", "reads"},
    {"attention", "attend"},
    {"attention", "reads"},
    {"attn", "attend"},
    {"logits", "attend"},
    {"visible", "attend"},
    {"constants", "attend"},
    {"score_mod", "attend"},
    {"mask_mod", "attend"},
    {"block_mask", "attend"},
    {"mask", "attend"},
    {"attn_mask", "attend"},
    {"attention_mask", "attend"},
    {"attention_chunk_size", "attend"},
    {"bias", "attend"},
    {"attn_bias", "attend"},
    {"logit_bias", "attend"},
    {"position_bias", "attend"},
    {"alibi", "attend"},
    {"use_alibi", "attend"},
    {"alibi_slopes", "attend"},
    {"score_mod", "logits"},
    {"bias", "logits"},
    {"softcap", "logits"},
    {"logit_softcap", "logits"},
    {"alibi", "logits"},
    {"mask_mod", "visible"},
    {"mask", "visible"},
    {"window", "visible"},
    {"sliding_window", "visible"},
    {"sinks", "sink"},
    {"attention_sink", "sink"},
    {"attention_sinks", "sink"},
    {"learnable_sink", "sink"},
    {"s_aux", "sink"},
    {"alibi_slopes", "constants"},
    {"slopes", "constants"},
    {"parameters", "constants"},
    {"params", "constants"},
    {"page", "layout"},
    {"page_size", "layout"},
    {"block_size", "layout"},
    {"bits", "kind"},
    {"nbits", "kind"},
    {"scale_type", "scale"},
    {"scale_dtype", "scale"},
    {"zero_point", "zero"},
    {"zeros", "zero"},
    {"offset", "zero"},
    {"symmetric", "zero"},
    {"group_size", "group"},
    {"q_group_size", "group"},
    {"block_size", "group"},
    {"channels", "group"},
    {"affine", "min"},
    {"asymmetric", "min"},
    {"symmetric", "none"},
    {"bfloat16", "bf16"},
    {"float16", "f16"},
    {"half", "f16"},
    {"float32", "f32"},
    {"float", "f32"},
    {"i8", "int8"},
    {"q8_0", "int8"},
    {"i4", "int4"},
    {"q4_0", "int4"},
    {"q4_1", "int4"},
    {"fp8", "fp8_e4m3"},
    {"f8", "fp8_e4m3"},
    {"float8", "fp8_e4m3"},
    {"e4m3", "fp8_e4m3"},
    {"e4m3fn", "fp8_e4m3"},
    {"fp8_e4m3fn", "fp8_e4m3"},
    {"f8e4m3", "fp8_e4m3"},
    {"f8e4m3fn", "fp8_e4m3"},
    {"float8_e4m3fn", "fp8_e4m3"},
    {"e5m2", "fp8_e5m2"},
    {"f8e5m2", "fp8_e5m2"},
    {"float8_e5m2", "fp8_e5m2"},
    {"rne", "even"},
    {"nearest_even", "even"},
    {"round_half_even", "even"},
    {"half_away_from_zero", "half_away"},
    {"round", "rounding"},
    {"round_mode", "rounding"},
    {"fp4", "fp4_e2m1"},
    {"f4", "fp4_e2m1"},
    {"e2m1", "fp4_e2m1"},
    {"fp4_e2m1fn", "fp4_e2m1"},
    {"f4e2m1", "fp4_e2m1"},
    {"float4_e2m1fn", "fp4_e2m1"},
    {"float4_e2m1fn_x2", "fp4_e2m1"},
    {"ue8m0", "e8m0"},
    {"f8e8m0fnu", "e8m0"},
    {"float8_e8m0fnu", "e8m0"},
    {"ue4m3", "e4m3"},
    {"full", "all"},
    {"causal", "all"},
    {"is_causal", "causal"},
    {"non_causal", "causal"},
    {"bidirectional", "causal"},
    {"sliding", "window"},
    {"sliding_window", "window"},
    {"block", "paged"},
    {"dense", "contiguous"},
    {"linear", "contiguous"},
};

/// How what others have a key for is written as an expression.
static constexpr StringLiteral
    kAlibi = R"-("logits": "s - exp2(-8.0 * (h + 1) / 32) * (p - t)")-",
    kSoftcap = R"-("logits": "50 * tanh(s / 50)")-",
    kSinks = R"("constants": {"sinks": [1.5, 0.25]}, "sink": "sinks[h]")",
    kChunks = R"("visible": "p // 8192 == t // 8192")",
    kBothWays = R"("causal": false)";
static constexpr std::pair<StringLiteral, StringLiteral> kFormulas[] = {
    {"alibi", kAlibi},           {"use_alibi", kAlibi},
    {"alibi_slopes", kAlibi},    {"bias", kAlibi},
    {"attn_bias", kAlibi},       {"logit_bias", kAlibi},
    {"position_bias", kAlibi},   {"score_mod", kSoftcap},
    {"mask_mod", kChunks},       {"block_mask", kChunks},
    {"sinks", kSinks},           {"is_causal", kBothWays},
    {"non_causal", kBothWays},   {"bidirectional", kBothWays},
    {"mask", kChunks},           {"attn_mask", kChunks},
    {"attention_mask", kChunks}, {"attention_chunk_size", kChunks},
};

static bool isOneOf(ArrayRef<Word> words, StringRef text) {
  return llvm::any_of(words,
                      [&](const Word &word) { return word.text == text; });
}

/// Those that a spec of `version` may use.
static llvm::SmallVector<StringRef> wordsOf(Version version,
                                            ArrayRef<Word> words) {
  llvm::SmallVector<StringRef> list;
  for (const Word &word : words)
    if (word.since <= version)
      list.push_back(word);
  return list;
}

static std::string anyOf(const Context &context, ArrayRef<Word> words) {
  return quoteAll(wordsOf(context.version, words));
}

Diagnostic &Context::error(const char *code, SourceLoc loc,
                           std::string message) {
  ++errors;
  if (errors > kMaxErrors) {
    if (errors == kMaxErrors + 1)
      diagnostics.error("E-TOO-MANY", loc,
                        "too many errors, the rest is not shown");
    return dropped = {};
  }
  return diagnostics.error(code, std::move(loc), std::move(message));
}

bool Context::has(Version since, const SourceLoc &loc,
                  const std::string &what) {
  if (since <= version)
    return true;
  std::string needed = kVersions[size_t(since)].str();
  Diagnostic &diagnostic =
      error("E-NOT-IN-VERSION", loc,
            what + " is in the language since version " + needed +
                ", found it in a spec of version " +
                kVersions[size_t(version)].str());
  addHelp(diagnostic,
          "write `\"kvc\": \"" + needed + "\"`: all else keeps its meaning");
  return false;
}

void Context::addNote(Diagnostic &to, SourceLoc loc, std::string message) {
  to.notes.push_back(
      {Severity::Note, "", std::move(loc), std::move(message), {}});
}

void Context::addHelp(Diagnostic &to, std::string message) {
  to.notes.push_back({Severity::Help, "", to.loc, std::move(message), {}});
}

static std::string found(const Context &context, const Node &node) {
  if (node.kind == Node::Kind::Array)
    return ", found an array";
  if (node.kind == Node::Kind::Object)
    return ", found an object";
  return ", found " + quote(context.document.text(node));
}

static void wrongType(Context &context, const Node &node, std::string wanted,
                      StringRef example = "") {
  Diagnostic &diagnostic =
      context.error("E-TYPE", context.document.loc(node),
                    "expected " + wanted + found(context, node));
  if (!example.empty())
    Context::addHelp(diagnostic, ("for example `" + example + "`").str());
}

static std::string range(const std::string &low, const std::string &high) {
  return "[" + low + ", " + high + "]";
}

std::optional<int64_t> spec::readInteger(Context &context, const Node &node,
                                         int64_t low, int64_t high) {
  std::string wanted =
      "an integer in " + range(std::to_string(low), std::to_string(high));
  if (node.kind != Node::Kind::Integer) {
    wrongType(context, node, wanted);
    return std::nullopt;
  }
  if (node.integer < low || node.integer > high) {
    context.error("E-RANGE", context.document.loc(node),
                  "expected " + wanted + found(context, node));
    return std::nullopt;
  }
  return node.integer;
}

std::optional<bool> spec::readBoolean(Context &context, const Node &node) {
  if (node.kind == Node::Kind::Bool)
    return node.boolean;
  wrongType(context, node, "`true` or `false`");
  return std::nullopt;
}

std::optional<double> spec::readNumber(Context &context, const Node &node,
                                       double low, double high) {
  auto text = [](double x) {
    std::string buffer;
    llvm::raw_string_ostream(buffer) << llvm::format("%g", x);
    return buffer;
  };
  std::string wanted = "a number in " + range(text(low), text(high));
  if (node.kind != Node::Kind::Integer && node.kind != Node::Kind::Number) {
    wrongType(context, node, wanted);
    return std::nullopt;
  }
  if (!(node.number >= low && node.number <= high)) {
    context.error("E-RANGE", context.document.loc(node),
                  "expected " + wanted + found(context, node));
    return std::nullopt;
  }
  return node.number;
}

std::optional<std::string> spec::readName(Context &context, const Node &node) {
  if (node.kind != Node::Kind::String) {
    wrongType(context, node, "a name");
    return std::nullopt;
  }
  StringRef name = node.string;
  bool legal =
      !name.empty() && name.size() <= 64 && llvm::all_of(name, [](char c) {
        return llvm::isAlnum(c) || c == '_' || c == '.' || c == '-';
      });
  if (!legal) {
    context.error("E-NAME", context.document.loc(node),
                  "a name is 1 to 64 letters, digits, `_`, `.` or `-`" +
                      found(context, node));
    return std::nullopt;
  }
  return node.string;
}

/// The one of `names` that `word` is a misspelling or another name of, and
/// where that is not certain all of them.
static void addSuggestion(Diagnostic &diagnostic, StringRef word,
                          ArrayRef<StringRef> names) {
  StringRef nearest = nearestName(word, names);
  bool misspelt = !nearest.empty();
  for (auto [other, ours] : kOtherNames)
    if (nearest.empty() && word.lower() == other &&
        llvm::is_contained(names, ours))
      nearest = ours;
  if (!nearest.empty())
    Context::addHelp(diagnostic, "did you mean " + quote(nearest) + "?");
  // Whatever object the key stands in: a model has no place for it either.
  if (nearest.empty() || nearest == "attend")
    for (auto [other, formula] : kFormulas)
      if (word.lower() == other)
        Context::addHelp(diagnostic, ("since version 0.2 it is an expression, "
                                      "for example `\"attend\": {" +
                                      formula + "}`")
                                         .str());
  if (!misspelt)
    Context::addHelp(diagnostic, "use " + quoteAll(names));
}

static Diagnostic &notInVersion(Context &context, SourceLoc loc,
                                StringRef word) {
  return context.error("E-NOT-IN-VERSION", std::move(loc),
                       quote(word) + " is not in version " +
                           kLanguageVersion.str() + " of the language");
}

std::optional<unsigned> spec::readEnum(Context &context, const Node &node,
                                       ArrayRef<Word> names,
                                       ArrayRef<Word> later) {
  std::string legal = anyOf(context, names);
  if (node.kind != Node::Kind::String) {
    wrongType(context, node, legal);
    return std::nullopt;
  }
  SourceLoc loc = context.document.loc(node);
  for (const Word &name : names)
    if (name.text == node.string)
      return context.has(name.since, loc, quote(name))
                 ? std::optional<unsigned>(&name - names.begin())
                 : std::nullopt;
  if (isOneOf(later, StringRef(node.string).lower())) {
    Context::addHelp(notInVersion(context, loc, node.string),
                     "this version has " + legal);
    return std::nullopt;
  }
  Diagnostic &diagnostic =
      context.error("E-VALUE", loc, "expected " + legal + found(context, node));
  addSuggestion(diagnostic, node.string, wordsOf(context.version, names));
  return std::nullopt;
}

std::optional<unsigned> spec::readKind(Context &context, const Node &node,
                                       ArrayRef<Word> kinds, StringRef example,
                                       ArrayRef<Word> later) {
  if (node.kind == Node::Kind::String)
    return readEnum(context, node, kinds, later);
  if (node.kind != Node::Kind::Object) {
    wrongType(context, node,
              anyOf(context, kinds) + " or an object with `kind`", example);
    return std::nullopt;
  }
  if (const Node *kind = node.find("kind"))
    return readEnum(context, *kind, kinds, later);
  Diagnostic &diagnostic = context.error(
      "E-MISSING-KEY", context.document.loc(node), "missing key `kind`");
  Context::addHelp(diagnostic, "use " + anyOf(context, kinds));
  return std::nullopt;
}

Fields::Fields(Context &context, const Node &node, ArrayRef<Word> known,
               Form form)
    : Fields(context, node, known, form, "") {}

Fields::Fields(Context &context, const Node &node, ArrayRef<Word> known,
               Form form, StringRef example)
    : context(context), node(node),
      readable(
          node.kind == Node::Kind::Object ||
          (form == Form::ObjectOrKind && node.kind == Node::Kind::String)) {
  if (!readable)
    wrongType(context, node, "an object", example);
  if (node.kind != Node::Kind::Object)
    return;
  for (const Node *member : node.children) {
    const auto *word = llvm::find_if(
        known, [&](const Word &word) { return word.text == member->key; });
    SourceLoc loc = context.document.keyLoc(*member);
    if (word != known.end()) {
      context.has(word->since, loc, quote(*word));
      continue;
    }
    if (isOneOf(kLaterPrimitives, member->key)) {
      Context::addHelp(notInVersion(context, loc, member->key),
                       "this version has `streams`, `codec`, `layout`, `reads` "
                       "and `attend`");
      continue;
    }
    Diagnostic &diagnostic = context.error("E-UNKNOWN-KEY", loc,
                                           "unknown key " + quote(member->key));
    addSuggestion(diagnostic, member->key, wordsOf(context.version, known));
  }
}

const Node *Fields::require(StringRef key, StringRef example) {
  const Node *member = node.find(key);
  if (!member && readable) {
    Diagnostic &diagnostic =
        context.error("E-MISSING-KEY", context.document.loc(node),
                      "missing key " + quote(key));
    Context::addHelp(diagnostic, ("for example `" + example + "`").str());
  }
  return member;
}
