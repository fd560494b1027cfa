//===- SourceTest.cpp - what the runtime's sources keep to ----------------===//
#include "test/support/Files.h"

#include <gtest/gtest.h>
#include <map>
#include <regex>

/// Path and text of every file of the runtime.
static std::map<std::string, std::string> sources() {
  std::map<std::string, std::string> files;
  for (const auto &entry :
       std::filesystem::recursive_directory_iterator(KVC_SOURCE_DIR "/runtime"))
    if (entry.is_regular_file())
      files[entry.path()] = kvc::test::readFile(entry.path());
  return files;
}

TEST(Source, EveryWhereNumberStandsOnce) {
  std::map<std::string, std::string> places;
  std::regex call("fail\\(\\s*KVC_[A-Z_]+,\\s*([0-9]+),");
  for (const auto &[path, content] : sources())
    for (std::sregex_iterator i(content.begin(), content.end(), call), end;
         i != end; ++i) {
      std::string number = (*i)[1];
      EXPECT_EQ(places.count(number), 0u)
          << number << " in " << path << " and " << places[number];
      places[number] = path;
    }
  EXPECT_GT(places.size(), 50u);
}

// Most of them cannot throw today, so that no test would notice.
TEST(Source, EveryFunctionOfTheAbiCatches) {
  size_t functions = 0;
  std::regex head("\nkvc_status (kvc_[a-z_]+)\\([^{;]*\\{\n");
  for (const auto &[path, content] : sources())
    for (std::sregex_iterator i(content.begin(), content.end(), head), end;
         i != end; ++i, ++functions) {
      std::string text = content.substr(size_t(i->position()) + 1);
      text.resize(text.find("\n}\n") + 3);
      EXPECT_TRUE(i->str().ends_with(") try {\n") &&
                  text.ends_with("\n} catch (...) {\n  return caught();\n}\n"))
          << (*i)[1] << " in " << path;
    }
  EXPECT_GE(functions, 25u);
}
