// libFuzzer target of the loaders: every input ends in a Dataset of finite values or in a zipml::Error.
//
//     clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude tests/io/loaders_fuzz.cpp
//
// The first byte chooses the options, the rest is the file.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include <zipml/io/load.hpp>

namespace {

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

template <class Loader>
void check(Loader&& load, std::string_view text, const zipml::LoadOptions& options) {
  try {
    zipml::LineReader reader = zipml::LineReader::from_memory(text, "fuzz");
    const zipml::Dataset data = load(reader, options);
    require(data.rows > 0 && data.cols > 0, "a Dataset has rows and columns");
    require(data.values.size() == data.rows * data.cols && data.labels.size() == data.rows, "sizes agree");
    require((data.values.bytes() + data.labels.bytes()) <= options.memory_limit, "the memory limit holds");
    require(options.columns == 0 || data.cols == options.columns, "options.columns holds");
    require(data.column_names().empty() || static_cast<zipml::Index>(data.column_names().size()) == data.cols,
            "one name per column");
    for (const float value : data.values) require(std::isfinite(value), "values are finite");
    for (const float label : data.labels) require(std::isfinite(label), "labels are finite");
  } catch (const zipml::Error& error) {
    const std::string_view message = error.what();
    require(!message.empty(), "an Error says something");
    require(message.size() < 2000, "an Error is short");
    for (const char c : message) require(c >= 0x20 && c < 0x7f, "an Error is one printable line");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned choice = data[0];
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  zipml::LoadOptions options;
  options.memory_limit = 1 << 16;
  if (choice & 1) options.columns = 3;
  if (choice & 2) options.header = choice & 4 ? zipml::Header::present : zipml::Header::absent;
  options.separator = "\0\0,;\t |\0"[(choice >> 3) & 7];

  check([](auto& reader, const auto& o) { return zipml::load_libsvm(reader, o); }, text, options);
  if (choice & 64) options.label = choice & 128 ? "a" : "1";
  check([](auto& reader, const auto& o) { return zipml::load_csv(reader, o); }, text, options);
  check([](auto& reader, const auto& o) { return zipml::load(reader, o); }, text, options);
  return 0;
}
