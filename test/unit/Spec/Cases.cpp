//===- Cases.cpp - specs that the tests of the reader and schema share ----===//
#include "Cases.h"

#include <filesystem>

using namespace kvc::test;
using nlohmann::json;

json kvc::test::single() {
  return json::parse(R"({
    "kvc": "0.1",
    "name": "base",
    "model": {"layers": 4, "q_heads": 8, "kv_heads": 2, "head_dim": 64,
              "dtype": "bf16"},
    "streams": {"k": {"codec": "int8"},
                "v": {"codec": {"kind": "int8", "scale": "f16"}}},
    "layout": {"kind": "paged", "page": 16},
    "reads": {"kind": "window", "sink": 4, "recent": 32}})");
}

json kvc::test::several() {
  return json::parse(R"({
    "kvc": "0.1",
    "name": "base",
    "model": {"layers": 4, "q_heads": 8, "kv_heads": 2, "head_dim": 64,
              "dtype": "bf16"},
    "stores": [
      {"name": "low", "scope": {"layers": [0, 2]}},
      {"name": "high", "scope": {"layers": [2, 4], "heads": [0, 2]}}]})");
}

json kvc::test::dealt() {
  return json::parse(R"({
    "kvc": "0.2",
    "name": "base",
    "model": {"layers": 6, "q_heads": 8, "kv_heads": 2, "head_dim": 64,
              "dtype": "bf16"},
    "stores": [
      {"name": "even", "scope": {"layers": {"from": 0, "to": 6, "step": 2}}},
      {"name": "odd", "scope": {"layers": {"list": [1, 3, 5]}}}]})");
}

static json edited(json spec, const char *where, const char *value) {
  json::json_pointer pointer(where);
  if (value)
    spec[pointer] = json::parse(value);
  else
    spec.at(pointer.parent_pointer()).erase(pointer.back());
  return spec;
}

json BadEdit::apply() const { return edited(base(), where, value); }
json GoodEdit::apply() const { return edited(base(), where, value); }

std::vector<std::string> kvc::test::examples() {
  std::vector<std::string> paths;
  std::filesystem::path folder = KVC_SOURCE_DIR "/specs/examples";
  for (const auto &entry : std::filesystem::directory_iterator(folder))
    paths.push_back(entry.path().string());
  return paths;
}

const std::vector<GoodEdit> &kvc::test::goodEdits() {
  static const std::vector<GoodEdit> edits = {
      {single, "/$schema", "\"x\""},
      {single, "/name", "\"A.b-c_9\""},
      {single, "/model/layers", "1024"},
      {single, "/model/q_heads", "2"},
      {single, "/model/head_dim", "576"},
      {single, "/model/head_dim", R"({"k": 192, "v": 128})"},
      {single, "/model/dtype", "\"f32\""},
      {single, "/model/softmax_scale", "1"},
      {single, "/model/logit_softcap", "0.5"},
      {single, "/streams", "{}"},
      {single, "/streams/k", "{}"},
      {single, "/streams/k/codec", "\"f32\""},
      {single, "/streams/k/codec", R"({"kind": "f16"})"},
      {single, "/streams/k/codec", R"({"kind": "int8"})"},
      {single, "/layout", "\"paged\""},
      {single, "/layout", "\"contiguous\""},
      {single, "/layout", R"({"kind": "contiguous", "order": "NHD"})"},
      {single, "/layout/page", "1"},
      {single, "/layout/page", "256"},
      {single, "/reads", "\"all\""},
      {single, "/reads", R"({"kind": "all"})"},
      {single, "/reads/sink", "0"},
      {single, "/reads/sink", nullptr},
      {single, "/reads/recent", "2147483647"},
      {several, "/stores/1/scope/heads", nullptr},
      {several, "/stores/1/streams", R"({"v": {"codec": "f16"}})"},
      {single, "/kvc", "\"0.2\""},
      {several, "/kvc", "\"0.2\""},
      {dealt, "/stores/0/scope/layers/from", nullptr},
      {dealt, "/stores/0/scope/layers/to", nullptr},
      {dealt, "/stores/0/scope/layers/to", "5"},
      {dealt, "/stores/0/scope/layers", R"({"step": 2})"},
      {dealt, "/stores/0/scope/layers", R"({"list": [0, 2, 4]})"},
      {dealt, "/stores/1/scope/layers", R"({"from": 1, "step": 2})"},
      {dealt, "/stores",
       R"([{"name": "a", "scope": {"layers": {"list": [0, 5]}}},
           {"name": "b", "scope": {"layers": [1, 5]}}])"},
      {dealt, "/stores",
       R"([{"name": "a", "scope": {"layers": {"list": [0, 1, 5]}}},
           {"name": "b", "scope": {"layers": {"from": 2, "to": 5}}}])"},
      {dealt, "/stores", R"([{"name": "a", "scope": {"layers": {}}}])"},
  };
  return edits;
}

const std::vector<BadEdit> &kvc::test::badEdits() {
  constexpr Refuses readerOnly = Refuses::ReaderOnly;
  static const std::vector<BadEdit> edits = {
      // The top level.
      {single, "/kvc", nullptr, "E-MISSING-KEY", ""},
      {single, "/kvc", "\"0.3\"", "E-VERSION", "/kvc"},
      {single, "/kvc", "\"0.20\"", "E-VERSION", "/kvc"},
      {single, "/kvc", "0.1", "E-VERSION", "/kvc"},
      {single, "/name", nullptr, "E-MISSING-KEY", ""},
      {single, "/name", "\"\"", "E-NAME", "/name"},
      {single, "/name", "\"a b\"", "E-NAME", "/name"},
      {single, "/name", "\"$(reboot)\"", "E-NAME", "/name"},
      {single, "/name", "7", "E-TYPE", "/name"},
      {single, "/name",
       "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"",
       "E-NAME", "/name"},
      {single, "/$schema", "1", "E-TYPE", "/$schema"},
      {single, "/modle", "{}", "E-UNKNOWN-KEY", "/modle"},
      {single, "/a~1b~0c", "{}", "E-UNKNOWN-KEY", "/a~1b~0c"},
      {single, "/evict", "[]", "E-NOT-IN-VERSION", "/evict"},
      {single, "/tiers", "[]", "E-NOT-IN-VERSION", "/tiers"},
      {single, "/sharing", "{}", "E-NOT-IN-VERSION", "/sharing"},
      // The model.
      {single, "/model", nullptr, "E-MISSING-KEY", ""},
      {single, "/model", "[]", "E-TYPE", "/model"},
      {single, "/model", "\"llama\"", "E-TYPE", "/model"},
      {single, "/model/layers", nullptr, "E-MISSING-KEY", "/model"},
      {single, "/model/layers", "0", "E-RANGE", "/model/layers"},
      {single, "/model/layers", "1025", "E-RANGE", "/model/layers"},
      {single, "/model/layers", "-1", "E-RANGE", "/model/layers"},
      {single, "/model/layers", "4.5", "E-TYPE", "/model/layers"},
      {single, "/model/layers", "1e1", "E-TYPE", "/model/layers"},
      {single, "/model/layers", "4294967300", "E-RANGE", "/model/layers"},
      {single, "/model/layers", "18446744073709551615", "E-RANGE",
       "/model/layers"},
      {single, "/model/layers", "18446744073709551620", "E-TYPE",
       "/model/layers"},
      {single, "/model/layers", "\"4\"", "E-TYPE", "/model/layers"},
      {single, "/model/layers", "null", "E-TYPE", "/model/layers"},
      {single, "/model/q_heads", "9", "E-HEADS", "/model/q_heads", readerOnly},
      {single, "/model/q_heads", "1", "E-HEADS", "/model/q_heads", readerOnly},
      {single, "/model/q_heads", "true", "E-TYPE", "/model/q_heads"},
      {single, "/model/kv_heads", nullptr, "E-MISSING-KEY", "/model"},
      {single, "/model/head_dim", "60", "E-MULTIPLE", "/model/head_dim"},
      {single, "/model/head_dim", "584", "E-RANGE", "/model/head_dim"},
      {single, "/model/head_dim", "0", "E-RANGE", "/model/head_dim"},
      {single, "/model/head_dim", R"({"k": 64})", "E-MISSING-KEY",
       "/model/head_dim"},
      {single, "/model/head_dim", R"({"k": 64, "v": 4})", "E-RANGE",
       "/model/head_dim/v"},
      {single, "/model/head_dim", R"({"k": 64, "v": 64, "q": 64})",
       "E-UNKNOWN-KEY", "/model/head_dim/q"},
      {single, "/model/dtype", "\"fp16\"", "E-VALUE", "/model/dtype"},
      {single, "/model/dtype", "16", "E-TYPE", "/model/dtype"},
      {single, "/model/softmax_scale", "0", "E-RANGE", "/model/softmax_scale"},
      {single, "/model/softmax_scale", "-0.125", "E-RANGE",
       "/model/softmax_scale"},
      {single, "/model/softmax_scale", "1e7", "E-RANGE",
       "/model/softmax_scale"},
      {single, "/model/softmax_scale", "\"auto\"", "E-TYPE",
       "/model/softmax_scale"},
      {single, "/model/logit_softcap", "0", "E-RANGE", "/model/logit_softcap"},
      {single, "/model/position", "{}", "E-NOT-IN-VERSION", "/model/position"},
      // Streams and codecs.
      {single, "/streams", "[]", "E-TYPE", "/streams"},
      {single, "/streams/q", "{}", "E-UNKNOWN-KEY", "/streams/q"},
      {single, "/streams/k", "\"int8\"", "E-TYPE", "/streams/k"},
      {single, "/streams/k/position", "{}", "E-NOT-IN-VERSION",
       "/streams/k/position"},
      {single, "/streams/k/codec", "\"int4\"", "E-NOT-IN-VERSION",
       "/streams/k/codec"},
      {single, "/streams/k/codec", "8", "E-TYPE", "/streams/k/codec"},
      {single, "/streams/k/codec", "{}", "E-MISSING-KEY", "/streams/k/codec"},
      {single, "/streams/k/codec", R"({"kind": "f8"})", "E-NOT-IN-VERSION",
       "/streams/k/codec/kind"},
      {single, "/streams/k/codec", R"({"kind": "f16", "scale": "f32"})",
       "E-UNKNOWN-KEY", "/streams/k/codec/scale"},
      {single, "/streams/v/codec/scale", "\"bf16\"", "E-VALUE",
       "/streams/v/codec/scale"},
      {single, "/streams/v/codec/bits", "8", "E-UNKNOWN-KEY",
       "/streams/v/codec/bits"},
      // Layouts.
      {single, "/layout", "\"ring\"", "E-VALUE", "/layout"},
      {single, "/layout", "[16]", "E-TYPE", "/layout"},
      {single, "/layout/kind", nullptr, "E-MISSING-KEY", "/layout"},
      {single, "/layout/kind", "\"contiguous\"", "E-UNKNOWN-KEY",
       "/layout/page"},
      {single, "/layout/page", "0", "E-RANGE", "/layout/page"},
      {single, "/layout/page", "257", "E-RANGE", "/layout/page"},
      {single, "/layout/order", "\"hnd\"", "E-VALUE", "/layout/order"},
      {single, "/layout/pgae", "16", "E-UNKNOWN-KEY", "/layout/pgae"},
      // Reads.
      {single, "/reads", "\"window\"", "E-MISSING-KEY", "/reads"},
      {single, "/reads", "\"some\"", "E-VALUE", "/reads"},
      {single, "/reads", "null", "E-TYPE", "/reads"},
      {single, "/reads/kind", "\"all\"", "E-UNKNOWN-KEY", "/reads/recent"},
      {single, "/reads/recent", nullptr, "E-MISSING-KEY", "/reads"},
      {single, "/reads/recent", "0", "E-RANGE", "/reads/recent"},
      {single, "/reads/recent", "2147483648", "E-RANGE", "/reads/recent"},
      {single, "/reads/sink", "-1", "E-RANGE", "/reads/sink"},
      // Stores.
      {single, "/stores", R"([{"name": "a"}])", "E-CONFLICT", "/streams"},
      {several, "/layout", "\"paged\"", "E-CONFLICT", "/layout"},
      {several, "/stores", "[]", "E-TYPE", "/stores"},
      {several, "/stores", "{}", "E-TYPE", "/stores"},
      {several, "/stores/0", "1", "E-TYPE", "/stores/0"},
      {several, "/stores/0/name", nullptr, "E-MISSING-KEY", "/stores/0"},
      {several, "/stores/0/name", "\"a/b\"", "E-NAME", "/stores/0/name"},
      {several, "/stores/0/name", "\"high\"", "E-DUPLICATE-NAME", "/stores/1",
       readerOnly},
      {several, "/stores/0/name", "\"high.append\"", "E-NAME", "/stores/0",
       readerOnly},
      {several, "/stores", R"([{"name": "a.b", "scope": {"layers": [0, 2]}},
                               {"name": "a-b", "scope": {"layers": [2, 8]}}])",
       "E-NAME", "/stores/1", readerOnly},
      {several, "/stores/0/score", "\"a\"", "E-NOT-IN-VERSION",
       "/stores/0/score"},
      {several, "/stores/0/state", "[]", "E-NOT-IN-VERSION", "/stores/0/state"},
      {several, "/stores/0/scope", "[0, 2]", "E-TYPE", "/stores/0/scope"},
      {several, "/stores/0/scope/layer", "[0, 2]", "E-UNKNOWN-KEY",
       "/stores/0/scope/layer"},
      {several, "/stores/0/scope/layers", "2", "E-TYPE",
       "/stores/0/scope/layers"},
      {several, "/stores/0/scope/layers", "[0]", "E-TYPE",
       "/stores/0/scope/layers"},
      {several, "/stores/0/scope/layers", "[0, 1, 2]", "E-TYPE",
       "/stores/0/scope/layers"},
      {several, "/stores/0/scope/layers", "[-1, 2]", "E-RANGE",
       "/stores/0/scope/layers/0"},
      {several, "/stores/0/scope/layers", "[2, 2]", "E-SCOPE",
       "/stores/0/scope/layers", readerOnly},
      {several, "/stores/1/scope/layers", "[2, 5]", "E-SCOPE",
       "/stores/1/scope", readerOnly},
      {several, "/stores/1/scope/heads", "[0, 3]", "E-SCOPE", "/stores/1/scope",
       readerOnly},
      {several, "/stores/1/scope/layers", "[1, 4]", "E-OVERLAP",
       "/stores/1/scope", readerOnly},
      {several, "/stores/1/scope", nullptr, "E-OVERLAP", "/stores/1",
       readerOnly},
      {several, "/stores/1/scope/layers", "[3, 4]", "E-GAP", "/stores",
       readerOnly},
      {several, "/stores/1/scope/heads", "[1, 2]", "E-GAP", "/stores",
       readerOnly},
      // What version 0.2 has.
      {several, "/stores/0/scope/layers", R"({"to": 2})", "E-NOT-IN-VERSION",
       "/stores/0/scope/layers"},
      {several, "/stores/0/scope/layers", R"({"list": [0, 1]})",
       "E-NOT-IN-VERSION", "/stores/0/scope/layers"},
      {dealt, "/kvc", "\"0.1\"", "E-NOT-IN-VERSION", "/stores/0/scope/layers"},
      {dealt, "/stores/0/scope/layers", "[0, 2, 4]", "E-TYPE",
       "/stores/0/scope/layers"},
      {dealt, "/stores/0/scope/layers", "\"even\"", "E-TYPE",
       "/stores/0/scope/layers"},
      {dealt, "/stores/0/scope/layers/stride", "2", "E-UNKNOWN-KEY",
       "/stores/0/scope/layers/stride"},
      {dealt, "/stores/0/scope/layers/step", "0", "E-RANGE",
       "/stores/0/scope/layers/step"},
      {dealt, "/stores/0/scope/layers/step", "1025", "E-RANGE",
       "/stores/0/scope/layers/step"},
      {dealt, "/stores/0/scope/layers/step", "1.5", "E-TYPE",
       "/stores/0/scope/layers/step"},
      {dealt, "/stores/0/scope/layers/from", "-1", "E-RANGE",
       "/stores/0/scope/layers/from"},
      {dealt, "/stores/0/scope/layers/from", "1024", "E-RANGE",
       "/stores/0/scope/layers/from"},
      {dealt, "/stores/0/scope/layers/from", "6", "E-SCOPE",
       "/stores/0/scope/layers", readerOnly},
      {dealt, "/stores/0/scope/layers", R"({"from": 6, "step": 2})", "E-SCOPE",
       "/stores/0/scope/layers", readerOnly},
      {dealt, "/stores/0/scope/layers/to", "0", "E-RANGE",
       "/stores/0/scope/layers/to"},
      {dealt, "/stores/0/scope/layers/to", "8", "E-SCOPE", "/stores/0/scope",
       readerOnly},
      {dealt, "/stores/0/scope/layers/list", "[0]", "E-CONFLICT",
       "/stores/0/scope/layers/from"},
      {dealt, "/stores/1/scope/layers/step", "2", "E-CONFLICT",
       "/stores/1/scope/layers/step"},
      {dealt, "/stores/1/scope/layers/lists", "[]", "E-UNKNOWN-KEY",
       "/stores/1/scope/layers/lists"},
      {dealt, "/stores/1/scope/layers/list", "[]", "E-TYPE",
       "/stores/1/scope/layers/list"},
      {dealt, "/stores/1/scope/layers/list", "3", "E-TYPE",
       "/stores/1/scope/layers/list"},
      {dealt, "/stores/1/scope/layers/list", "[1, \"3\"]", "E-TYPE",
       "/stores/1/scope/layers/list/1"},
      {dealt, "/stores/1/scope/layers/list", "[1, 3, 1024]", "E-RANGE",
       "/stores/1/scope/layers/list/2"},
      {dealt, "/stores/1/scope/layers/list", "[1, 3, 6]", "E-RANGE",
       "/stores/1/scope/layers/list/2", readerOnly},
      {dealt, "/stores/1/scope/layers/list", "[1, 5, 3]", "E-SCOPE",
       "/stores/1/scope/layers/list/2", readerOnly},
      {dealt, "/stores/1/scope/layers/list", "[1, 3, 3]", "E-SCOPE",
       "/stores/1/scope/layers/list/2"},
      {dealt, "/stores/1/scope/layers/list", "[1, 4, 5]", "E-OVERLAP",
       "/stores/1/scope", readerOnly},
      {dealt, "/stores/1/scope/layers/list", "[1, 5]", "E-GAP", "/stores",
       readerOnly},
      {dealt, "/stores/1/scope/heads", R"({"to": 1})", "E-TYPE",
       "/stores/1/scope/heads"},
  };
  return edits;
}
