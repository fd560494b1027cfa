//===- Files.h - files that a test makes and reads --------------*- C++ -*-===//
//
// Tests run side by side, so that none may have a path that another has.
//
//===----------------------------------------------------------------------===//
#ifndef KVC_TEST_SUPPORT_FILES_H
#define KVC_TEST_SUPPORT_FILES_H

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace kvc::test {

/// A folder of a test's own, removed with all that is in it.
class TempDir {
public:
  TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "kvc-XXXXXX";
    root = mkdtemp(name.data()); // null, and so an exception, if there is none
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(root, ignored);
  }
  TempDir(const TempDir &) = delete;
  TempDir &operator=(const TempDir &) = delete;

  std::string path() const { return root; }
  std::string path(const std::string &name) const { return root / name; }
  /// What is in it, by path.
  std::vector<std::string> files() const {
    std::vector<std::string> paths;
    for (const auto &entry : std::filesystem::directory_iterator(root))
      paths.push_back(entry.path());
    return paths;
  }

private:
  std::filesystem::path root;
};

/// Empty if the file is not there.
template <typename Bytes = std::string>
Bytes readFile(const std::string &path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

template <typename Bytes>
bool writeFile(const std::string &path, const Bytes &bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char *>(bytes.data()),
               std::streamsize(bytes.size()));
  return bool(stream.flush());
}

} // namespace kvc::test

#endif // KVC_TEST_SUPPORT_FILES_H
