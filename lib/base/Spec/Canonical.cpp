//===- Canonical.cpp - one text per meaning -------------------------------===//
#include "lib/base/Spec/Canonical.h"
#include "lib/base/Spec/Reader.h"

#include "llvm/ADT/STLExtras.h"

#include <nlohmann/json.hpp>

using namespace kvc;
using namespace kvc::spec;
using nlohmann::json; // an object's keys are sorted

/// Defaults that came with version 0.2 are left out: what was canonical before
/// stays so, and with it cache keys.
static json toJson(const IntCodec &quantised) {
  json object = {{"kind", "int" + std::to_string(quantised.bits)},
                 {"scale", name(quantised.scaleType)}};
  if (quantised.zeroType)
    object["zero"] = {{"kind", quantised.zeroBetweenCodes ? "float" : "min"},
                      {"type", name(*quantised.zeroType)}};
  if (quantised.group)
    object["group"] = quantised.group;
  if (quantised.extreme)
    object["range"] = "extreme";
  if (quantised.exact)
    object["quantize_by"] = "exact";
  if (quantised.rounding != IntCodec::Rounding::Even)
    object["rounding"] = name(quantised.rounding);
  return object;
}

static json toJson(const MinifloatCodec &stored) {
  json object = {{"kind", name(stored.format)}};
  if (stored.scaleType)
    object["scale"] = name(*stored.scaleType);
  if (stored.group)
    object["group"] = stored.group;
  return object;
}

static json toJson(const Codec &codec) {
  return std::visit(
      llvm::makeVisitor(
          [](const FloatCodec &stored) -> json {
            return {{"kind", name(stored.type)}};
          },
          [](const auto &quantised) -> json { return toJson(quantised); }),
      codec);
}

static json toJson(const Layout &layout) {
  json object = {{"kind", layout.paged ? "paged" : "contiguous"},
                 {"order", layout.order == PageOrder::HND ? "HND" : "NHD"}};
  if (layout.paged)
    object["page"] = layout.page;
  return object;
}

static json toJson(const Read &read) {
  if (!read.window)
    return {{"kind", "all"}};
  return {{"kind", "window"},
          {"sink", read.window->sink},
          {"recent", read.window->recent}};
}

static json toJson(const Constant &constant) {
  bool isInt = constant.type == ExprType::Int;
  if (constant.given) {
    json object = {{"size", constant.given}};
    if (isInt)
      object["type"] = "int";
    if (constant.perSequence)
      object["per"] = "sequence";
    return object;
  }
  if (isInt)
    return {{"type", "int"},
            {"values", std::vector<int64_t>(constant.values.begin(),
                                            constant.values.end())}};
  return constant.scalar ? json(constant.values.front())
                         : json(constant.values);
}

static json toJson(const Attend &attend) {
  json object = json::object(), constants = json::object();
  if (!attend.causal)
    object["causal"] = false;
  for (const Constant &constant : attend.constants)
    constants[constant.name] = toJson(constant);
  if (!constants.empty())
    object["constants"] = std::move(constants);
  if (attend.logits)
    object["logits"] = attend.logits->text();
  if (attend.visible)
    object["visible"] = attend.visible->text();
  if (attend.sink)
    object["sink"] = attend.sink->text();
  return object;
}

static json range(unsigned begin, unsigned end) {
  return json::array({begin, end});
}

/// The shortest of the three forms that says the same.
static json layersToJson(const std::vector<unsigned> &layers) {
  std::optional<unsigned> step = stepOf(layers);
  if (layers.empty() || !step || (layers.size() == 2 && *step > 1))
    return {{"list", layers}};
  if (*step == 1)
    return range(layers.front(), layers.back() + 1);
  return {{"from", layers.front()}, {"to", layers.back() + 1}, {"step", *step}};
}

static json toJson(const Store &store) {
  json object = {
      {"name", store.name},
      {"scope",
       {{"layers", layersToJson(store.scope.layers)},
        {"heads", range(store.scope.headBegin, store.scope.headEnd)}}},
      {"streams",
       {{"k", {{"codec", toJson(store.k.codec)}}},
        {"v", store.v.ofK ? json{{"of", "k"}}
                          : json{{"codec", toJson(store.v.codec)}}}}},
      {"layout", toJson(store.layout)},
      {"reads", toJson(store.read)},
  };
  if (json attend = toJson(store.attend); !attend.empty())
    object["attend"] = std::move(attend);
  return object;
}

static json toJson(const Model &model) {
  json object = {
      {"layers", model.layers},
      {"q_heads", model.qHeads},
      {"kv_heads", model.kvHeads},
      {"head_dim", {{"k", model.headDimK}, {"v", model.headDimV}}},
      {"dtype", name(model.dtype)},
      {"softmax_scale", model.softmaxScale},
  };
  if (model.logitSoftcap)
    object["logit_softcap"] = *model.logitSoftcap;
  return object;
}

std::string spec::canonicalText(const Attend &attend) {
  json object = toJson(attend);
  return object.empty() ? "" : object.dump();
}

std::string spec::canonicalText(const Spec &spec) {
  json stores = json::array();
  for (const Store &store : spec.stores)
    stores.push_back(toJson(store));
  json object = {{"kvc", kLanguageVersion.str()},
                 {"name", spec.name},
                 {"model", toJson(spec.model)},
                 {"stores", std::move(stores)}};
  return object.dump();
}
