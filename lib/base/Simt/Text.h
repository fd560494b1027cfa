//===- Text.h - text of findings --------------------------------*- C++ -*-===//
#ifndef KVC_LIB_BASE_SIMT_TEXT_H
#define KVC_LIB_BASE_SIMT_TEXT_H

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>

namespace kvc::simt {

/// As printf.
[[gnu::format(printf, 1, 2)]] inline std::string format(const char *text, ...) {
  char buffer[768];
  va_list values;
  va_start(values, text);
  std::vsnprintf(buffer, sizeof(buffer), text, values);
  va_end(values);
  return buffer;
}

/// What site numbers say.
class SiteNames {
public:
  std::span<const std::string> names;

  /// Valid until the call after the next.
  const char *operator()(uint32_t site) {
    if (site < names.size())
      return names[site].c_str();
    char *buffer = buffers[turn ^= 1];
    std::snprintf(buffer, sizeof(buffers[0]), "site %u", site);
    return buffer;
  }

private:
  char buffers[2][24];
  unsigned turn = 0;
};

} // namespace kvc::simt

#endif // KVC_LIB_BASE_SIMT_TEXT_H
