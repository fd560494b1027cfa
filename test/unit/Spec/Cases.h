//===- Cases.h - specs that the tests of the reader and schema share ------===//
#ifndef KVC_TEST_UNIT_SPEC_CASES_H
#define KVC_TEST_UNIT_SPEC_CASES_H

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace kvc::test {

/// A legal spec with streams, layout and reads at the top level (`single`), or
/// with two stores (`several`), or with two that share the layers in a way that
/// came with version 0.2 (`dealt`), or with `attend` (`scored`) or codecs of
/// few bits, zeros and groups (`coded`), which came with it as well. The first
/// two are of version 0.1.
nlohmann::json single();
nlohmann::json several();
nlohmann::json dealt();
nlohmann::json scored();
nlohmann::json coded();

/// Who refuses a spec: rules between fields are beyond a schema.
enum class Refuses { ReaderAndSchema, ReaderOnly };

/// One edit of a legal spec that makes it illegal.
struct BadEdit {
  nlohmann::json (*base)();
  const char *where;          ///< JSON pointer of the member that is set
  const char *value;          ///< its JSON text; null removes the member
  const char *code, *pointer; ///< of the first error
  Refuses refuses = Refuses::ReaderAndSchema;

  nlohmann::json apply() const;
};
const std::vector<BadEdit> &badEdits();

/// One edit that keeps a spec legal.
struct GoodEdit {
  nlohmann::json (*base)();
  const char *where, *value;

  nlohmann::json apply() const;
};
const std::vector<GoodEdit> &goodEdits();

/// The files under specs/examples.
std::vector<std::string> examples();

} // namespace kvc::test

#endif // KVC_TEST_UNIT_SPEC_CASES_H
