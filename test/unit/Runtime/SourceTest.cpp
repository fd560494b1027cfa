//===- SourceTest.cpp - kvc_status::where names one place -----------------===//
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <regex>
#include <sstream>

TEST(Source, EveryWhereNumberStandsOnce) {
  std::map<std::string, std::string> places;
  std::regex call("fail\\(\\s*KVC_[A-Z_]+,\\s*([0-9]+),");
  for (const auto &entry : std::filesystem::recursive_directory_iterator(
           KVC_SOURCE_DIR "/runtime")) {
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    std::string content = text.str();
    for (std::sregex_iterator i(content.begin(), content.end(), call), end;
         i != end; ++i) {
      std::string number = (*i)[1];
      EXPECT_EQ(places.count(number), 0u)
          << number << " in " << entry.path() << " and " << places[number];
      places[number] = entry.path();
    }
  }
  EXPECT_GT(places.size(), 50u);
}
