// The loaders: what they accept, and word for word what they say about what they do not accept.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <clocale>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <zipml/base/random.hpp>
#include <zipml/io/load.hpp>

#include "catch.hpp"
#include "message.hpp"

namespace {

using zipml::Dataset;
using zipml::Header;
using zipml::Index;
using zipml::LineReader;
using zipml::LoadOptions;

/// A file name of its own in the folder for temporary files; what has it is removed at the end.
class TemporaryPath {
 public:
  TemporaryPath() {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() /
            ("zipml_loaders_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
  }
  explicit TemporaryPath(std::string_view text) : TemporaryPath() {
    std::FILE* file = std::fopen(path_.c_str(), "wb");
    REQUIRE(file != nullptr);
    const std::size_t written = std::fwrite(text.data(), 1, text.size(), file);
    REQUIRE(std::fclose(file) == 0);
    REQUIRE(written == text.size());
  }
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  ~TemporaryPath() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string name() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

enum class Loader { libsvm, csv, automatic };

Dataset parse(Loader loader, std::string_view text, const LoadOptions& options = {}) {
  LineReader reader = LineReader::from_memory(text, "f");
  switch (loader) {
    case Loader::libsvm:
      return load_libsvm(reader, options);
    case Loader::csv:
      return load_csv(reader, options);
    default:
      return load(reader, options);
  }
}

std::string message(Loader loader, std::string_view text, const LoadOptions& options = {}) {
  return message_of([&] { parse(loader, text, options); });
}

std::vector<float> values(const Dataset& data) { return {data.values.begin(), data.values.end()}; }
std::vector<float> labels(const Dataset& data) { return {data.labels.begin(), data.labels.end()}; }
using Floats = std::vector<float>;
bool same(const Dataset& a, const Dataset& b) {
  return a.rows == b.rows && a.cols == b.cols && values(a) == values(b) && labels(a) == labels(b) &&
         a.column_names() == b.column_names() && a.warnings == b.warnings;
}

/// A small generator, the same numbers everywhere.
class Generator {
 public:
  explicit Generator(std::uint64_t seed) : state_(seed) {}
  std::uint32_t operator()() {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return static_cast<std::uint32_t>(state_ >> 33);
  }
  std::size_t below(std::size_t n) { return (*this)() % n; }

 private:
  std::uint64_t state_;
};

std::string text_of(float value) {
  char digits[64];
  return {digits, std::to_chars(digits, digits + sizeof digits, value).ptr};
}

struct Bad {
  std::string_view text;
  const char* message;
};

const std::string_view nul_value("1 1:1\0002\n", 8);
const std::string_view nul_field("1,2\n1\0,2\n", 9);
const std::string_view nul_name("a\0b,c\n1,2\n", 10);

}  // namespace

TEST_CASE("LIBSVM: bad input is refused with its place", "[loaders]") {
  const Bad cases[] = {
      {"", "f: no data: expected lines of label index:value ..., got an empty file"},
      {"\n  \n# 1 1:1\n",
       "f: no data: expected lines of label index:value ..., got nothing but blank lines and comments"},
      {"1\n2\n", "f: no features: expected index:value on at least one line, got 2 labels only"},
      {"1\n", "f: no features: expected index:value on at least one line, got 1 label only"},
      // labels
      {"x 1:3\n", "f:1:1: label is not a number: expected a number, got \"x\""},
      {"1 1:3\n\n  1e 1:3\n", "f:3:3: label is not a number: expected a number, got \"1e\""},
      {"+-1 1:1\n", "f:1:1: label is not a number: expected a number, got \"+-1\""},
      {"++1 1:1\n", "f:1:1: label is not a number: expected a number, got \"++1\""},
      {"nan 1:2\n", "f:1:1: label is not finite: expected a finite number, got \"nan\""},
      {"-1e39 1:2\n", "f:1:1: label does not fit float32: expected a magnitude up to 3.4e38, got \"-1e39\""},
      {"1:3 2:4\n", "f:1:1: line has no label: expected a label before the features, got \"1:3\""},
      {"1 1:1\n1,2 1:3\n",
       "f:2:1: line has several labels or a decimal comma: expected one label, got \"1,2\""},
      // indices
      {"1 1:1\r\n1 0:2\r\n",
       "f:2:3: feature index is zero: expected 1 or more (or LoadOptions::first_index 0, --first-index 0), "
       "got \"0\""},
      {"1 :3\n", "f:1:3: feature has no index: expected index:value, got \":3\""},
      {"1 1.5:2\n",
       "f:1:3: feature index is not a whole number: expected digits before the colon, got \"1.5:2\""},
      {"1 -1:2\n",
       "f:1:3: feature index is not a whole number: expected digits before the colon, got \"-1:2\""},
      {"1 +1:2\n",
       "f:1:3: feature index is not a whole number: expected digits before the colon, got \"+1:2\""},
      {"1 1:1 2\n", "f:1:7: feature has no colon: expected index:value, got \"2\""},
      {"1 1:1 \t x\n", "f:1:9: feature has no colon: expected index:value, got \"x\""},
      {"1 1:2 qid:3\n", "f:1:7: query id behind a feature: expected qid: next to the label, got \"qid:3\""},
      {"1 1:1 1:2\n", "f:1:7: feature index comes twice in this line: expected each index once, got \"1\""},
      {"1 3:1 1:2 2:7 3:4 1:5\n",
       "f:1:15: feature index comes twice in this line: expected each index once, got \"3\""},
      {"1 2:1 1:2 02:4\n",
       "f:1:11: feature index comes twice in this line: expected each index once, got \"02\""},
      {"1 1:1 2147483648:3\n",
       "f:1:7: feature index is too large: expected at most 2147483647, got \"2147483648\""},
      {"1 1:1 99999999999999999999999:3\n",
       "f:1:7: feature index is too large: expected at most 2147483647, got \"99999999999999999999999\""},
      // values
      {"1 1:\n", "f:1:5: value of feature 1 is missing: expected a number, got nothing"},
      {"1 1: 2:3\n", "f:1:5: value of feature 1 is missing: expected a number, got nothing"},
      {"1 1: x\n", "f:1:6: value of feature 1 is not a number: expected a number, got \"x\""},
      {"1 1:2x\n", "f:1:5: value of feature 1 is not a number: expected a number, got \"2x\""},
      {"1 1:2:3\n", "f:1:5: value of feature 1 is not a number: expected a number, got \"2:3\""},
      {"1 1:1e\n", "f:1:5: value of feature 1 is not a number: expected a number, got \"1e\""},
      {"1 1:--1\n", "f:1:5: value of feature 1 is not a number: expected a number, got \"--1\""},
      {"1 1:.\n", "f:1:5: value of feature 1 is missing: expected a number, got \".\""},
      {"1 1:?\n", "f:1:5: value of feature 1 is missing: expected a number, got \"?\""},
      {"1 1:0x10\n", "f:1:5: value of feature 1 is not a number: expected a number, got \"0x10\""},
      {"1 1:1,5\n", "f:1:5: value of feature 1 has a decimal comma: expected a decimal point, got \"1,5\""},
      {"1 1:1 17:NaN\n", "f:1:10: value of feature 17 is not finite: expected a finite number, got \"NaN\""},
      {"1 1:-Inf\n", "f:1:5: value of feature 1 is not finite: expected a finite number, got \"-Inf\""},
      {"1 1:+infinity\n",
       "f:1:5: value of feature 1 is not finite: expected a finite number, got \"+infinity\""},
      {"1 1:3.5e38\n",
       "f:1:5: value of feature 1 does not fit float32: expected a magnitude up to 3.4e38, got \"3.5e38\""},
      {"1 1:+1e999999999999\n",
       "f:1:5: value of feature 1 does not fit float32: expected a magnitude up to 3.4e38, got "
       "\"+1e999999999999\""},
      {nul_value, "f:1:5: value of feature 1 is not a number: expected a number, got \"1\\x002\""},
      {"1 1:\x1b[31m\xff\"\\\n",
       "f:1:5: value of feature 1 is not a number: expected a number, got \"\\x1b[31m\\xff\\\"\\\\\""},
      {"1 1:1234567890123456789012345678901234567890x\n",
       "f:1:5: value of feature 1 is not a number: expected a number, got "
       "\"1234567890123456789012345678901234567890...\""},
  };
  for (const Bad& bad : cases) {
    INFO("input: " << bad.text);
    CHECK(message(Loader::libsvm, bad.text) == bad.message);
  }
}

TEST_CASE("CSV: bad input is refused with its place", "[loaders]") {
  const Bad cases[] = {
      {"", "f: no data: expected rows of numbers, got an empty file"},
      {"# a,b\n \t\n", "f: no data: expected rows of numbers, got nothing but blank lines and comments"},
      {"a,b\n", "f: no data: expected rows of numbers after the header, got none"},
      {"1\n2\n",
       "f:1:1: only one column, nothing is left beside the label: expected two or more fields separated by , "
       "; "
       "tab or blanks, got \"1\""},
      // rows of another length
      {"1,2\n3\n",
       "f:2:2: row is of another length than the first line: expected 2 fields separated by \",\", got 1"},
      {"a,b,c\n3,4\n",
       "f:2:4: row is of another length than the first line: expected 3 fields separated by \",\", got 2"},
      {"1,2\n3,4,5,6\n",
       "f:2:5: row is of another length than the first line: expected 2 fields separated by \",\", got 4"},
      {"1\t2\n3\t4\t5\n",
       "f:2:5: row is of another length than the first line: expected 2 fields separated by tabs, got 3"},
      {"1 2\n3\n",
       "f:2:2: row is of another length than the first line: expected 2 fields separated by blanks, got 1"},
      {"1 2\n 3  4  5 \n",
       "f:2:8: row is of another length than the first line: expected 2 fields separated by blanks, got 3"},
      // missing
      {"1,2\n3,\n", "f:2:3: label (field 2) is missing: expected a number, got nothing"},
      {"1,2\n , 4\n",
       "f:2:2: field 1 is missing: expected a value, or LoadOptions::missing (--missing drop, mean or "
       "indicator), got 1 missing cell"},
      {"1,,3\n",
       "f:1:3: field 2 is missing: expected a value, or LoadOptions::missing (--missing drop, mean or "
       "indicator), got 1 missing cell"},
      {"1,2,3\n4,\"\",6\n",
       "f:2:3: field 2 is missing: expected a value, or LoadOptions::missing (--missing drop, mean or "
       "indicator), got 1 missing cell"},
      {"x,y\n3,4\n5,NA\n", "f:3:3: label (field 2, \"y\") is missing: expected a number, got \"NA\""},
      {"NA,2\n",
       "f:1:1: field 1 is missing: expected a value, or LoadOptions::missing (--missing drop, mean or "
       "indicator), got 1 missing cell"},
      // no numbers
      {"x,y\nred,1\n",
       "f:2:1: field 1 (\"x\") is not a number: expected a number, or LoadOptions::categorical for text "
       "(--categorical; --ignore leaves a column out), got \"red\""},
      {"1,2\n\" re\"\"d \",1\n",
       "f:2:1: field 1 is not a number: expected a number, or LoadOptions::categorical for text "
       "(--categorical; --ignore leaves a column out), got \"re\\\"d\""},
      {"1,2\n3 4,5\n", "f:2:1: field 1 is not a number: expected a number, got \"3 4\""},
      {"1,2\n0x3,5\n", "f:2:1: field 1 is not a number: expected a number, got \"0x3\""},
      {"1,2\n 1e5f , 2\n", "f:2:2: field 1 is not a number: expected a number, got \"1e5f\""},
      {nul_field, "f:2:1: field 1 is not a number: expected a number, got \"1\\x00\""},
      {nul_name, "f:1:1: column name holds a NUL byte: expected text, got \"a\\x00b\""},
      {"1,nan\n", "f:1:3: label (field 2) is not finite: expected a finite number, got \"nan\""},
      {"1,2\n-Infinity,5\n", "f:2:1: field 1 is not finite: expected a finite number, got \"-Infinity\""},
      {"1,2\n1.#IND,5\n", "f:2:1: field 1 is not finite: expected a finite number, got \"1.#IND\""},
      {"1,1e999\n",
       "f:1:3: label (field 2) does not fit float32: expected a magnitude up to 3.4e38, got \"1e999\""},
      {"1;2\n3;1,5\n", "f:2:3: label (field 2) has a decimal comma: expected a decimal point, got \"1,5\""},
      {"1,5;2,5\n", "f:1:1: field 1 has a decimal comma: expected a decimal point, got \"1,5\""},
      {"a\tb\n1\t2,5\n",
       "f:2:3: label (field 2, \"b\") has a decimal comma: expected a decimal point, got \"2,5\""},
      {"1.5,2\n\"1,5\",2\n", "f:2:1: field 1 has a decimal comma: expected a decimal point, got \"1,5\""},
      // quotes
      {"1,2\n\"3,4\n", "f:2:1: quoted field does not end: expected a closing \", got \"\\\"3,4\""},
      {"\"a\"b,c\n1,2\n", "f:1:4: text behind the closing quote: expected the end of the field, got \"b,c\""},
      {"1,2\n\"3\" 4,5\n",
       "f:2:5: text behind the closing quote: expected the end of the field, got \"4,5\""},
  };
  for (const Bad& bad : cases) {
    INFO("input: " << bad.text);
    CHECK(message(Loader::csv, bad.text) == bad.message);
  }
}

TEST_CASE("automatic: a first line that fits no format is refused", "[loaders]") {
  const std::string expected =
      ": cannot tell the format: expected LIBSVM (label index:value ...) or CSV (fields separated by , ; tab "
      "or "
      "blanks), got ";
  CHECK(message(Loader::automatic, "foo\n1,2\n") == "f:1:1" + expected + "\"foo\"");
  CHECK(message(Loader::automatic, "# c\n\n  1|2\n") == "f:3:3" + expected + "\"1|2\"");
  CHECK(message(Loader::automatic, "\x89PNG\r\n") == "f:1:1" + expected + "\"\\x89PNG\"");
  CHECK(message(Loader::automatic, "") == "f: no data: expected LIBSVM or CSV text, got an empty file");
  CHECK(message(Loader::automatic, "\n#") ==
        "f: no data: expected LIBSVM or CSV text, got nothing but blank lines and comments");
  LoadOptions options;
  options.format = "arff";
  CHECK(message(Loader::automatic, "1,2\n", options) ==
        "unknown format: expected auto, libsvm, csv, or npy for a file, got \"arff\"");
}

TEST_CASE("automatic: the first data line decides, and none is lost", "[loaders]") {
  const auto is_libsvm = [](std::string_view text) { return zipml::detail::looks_like_libsvm(text); };
  for (const char* text : {"1 1:2", "-1.5\t3:4 5:6", " +1 1:2 # c", "-1", "1,2 1:3", "x 1:3", "1 qid:3 1:2",
                           "1 :3", "1 1.5:2", "1 1:nan", "nan 1:2", "1:3", "1 -1:2"}) {
    INFO(text);
    CHECK(is_libsvm(text));
  }
  for (const char* text : {"1,2", "1;2", "1 2", "a b", "a,b", "a b:c", "2020-01-01 12:30:00,5", "x:1,y:2",
                           "foo", "\"a 1:2\",b", "1,2,3"}) {
    INFO(text);
    CHECK_FALSE(is_libsvm(text));
  }
  const Dataset sparse = parse(Loader::automatic, "# comment\n\n1 2:3\n-1 1:4\n");
  CHECK(values(sparse) == Floats{0, 3, 4, 0});
  CHECK(labels(sparse) == Floats{1, -1});
  const Dataset zero_first = parse(Loader::automatic, "-1\n+1 1:4\n");
  CHECK(values(zero_first) == Floats{0, 4});
  const Dataset table = parse(Loader::automatic, "\n# comment\n1,2\n3,4\n");
  CHECK(values(table) == Floats{1, 3});
  CHECK(labels(table) == Floats{2, 4});
  LoadOptions bars;
  bars.separator = '|';
  CHECK(values(parse(Loader::automatic, "1|2\n3|4\n", bars)) == Floats{1, 3});
  LoadOptions forced;
  forced.format = "csv";
  CHECK(message(Loader::automatic, "1 1:2\n1 1:3\n", forced) ==
        "f:2:3: label (field 2, \"1:2\") is not a number: expected a number, got \"1:3\"");
  forced.format = "libsvm";
  CHECK(message(Loader::automatic, "1,2\n", forced) ==
        "f:1:1: line has several labels or a decimal comma: expected one label, got \"1,2\"");
}

TEST_CASE("LIBSVM: odd formatting is accepted", "[loaders]") {
  const Dataset data = parse(Loader::libsvm,
                             "\xef\xbb\xbf# a comment\r\n"
                             "+1 1:+1 3:-.5\r\n"
                             "\t -1.5e0   2:5.\t3:1E2  # 1:nan\r\n"
                             "\r\n"
                             "   \t\n"
                             "0\n"
                             "2#3:1\n"
                             "-0 3:7 1:6 002:-0\n"
                             "3 1:1e-40 2:1e-60 3:-0.00000000000000000000000000000000000000000000001e-9 4:0");
  REQUIRE(data.rows == 6);
  REQUIRE(data.cols == 4);
  CHECK(labels(data) == Floats{1, -1.5f, 0, 2, 0, 3});
  CHECK(values(data) == Floats{1,      0, -.5f, 0,  //
                               0,      5, 100,  0,  //
                               0,      0, 0,    0,  //
                               0,      0, 0,    0,  //
                               6,      0, 7,    0,  //
                               1e-40f, 0, 0,    0});
  CHECK(data.values[20] > 0);  // a denormal
  CHECK(data.source == "f");
  CHECK(data.column_names().empty());
  CHECK(data.warnings.empty());
}

TEST_CASE("LIBSVM: columns fixes the number of features", "[loaders]") {
  LoadOptions options;
  options.columns = 3;
  const Dataset narrow = parse(Loader::libsvm, "1 1:2\n2\n", options);
  CHECK(narrow.cols == 3);
  CHECK(values(narrow) == Floats{2, 0, 0, 0, 0, 0});
  CHECK(parse(Loader::libsvm, "1\n", options).cols == 3);
  CHECK(
      message(Loader::libsvm, "1 1:1 3:1\n1 2:1 4:1 5:1\n\n1 3:1\n2 99999999999999999999:1 4:1\n", options) ==
      "f:2:7: 2 lines have a feature index that is too large, the first one here: expected at most 3 "
      "features, "
      "got index 4");
  CHECK(
      message(Loader::libsvm, "1 4:1\n1 1:1", options) ==
      "f:1:3: 1 line has a feature index that is too large, the first one here: expected at most 3 features, "
      "got index 4");
  CHECK(message(Loader::libsvm, "1 4:1\n1 1:x\n", options) ==
        "f:2:5: value of feature 1 is not a number: expected a number, got \"x\"");
  options.columns = -1;
  CHECK(message(Loader::libsvm, "1 1:1\n", options) ==
        "LoadOptions::columns is out of range: expected 0 to 2147483647, got -1");
  CHECK(message(Loader::csv, "1,1\n", options) ==
        "LoadOptions::columns is out of range: expected 0 or more, got -1");
}

TEST_CASE("CSV: columns is the number of features that the file must have", "[loaders]") {
  LoadOptions options;
  options.columns = 2;
  CHECK(parse(Loader::csv, "1,2,3\n", options).cols == 2);
  CHECK(message(Loader::csv, "a,b\n1,2\n", options) ==
        "f:1:1: wrong number of columns: expected 2 features and a label, got 2 fields");
}

TEST_CASE("the label option does not go with LIBSVM", "[loaders]") {
  LoadOptions options;
  options.label = "1";
  CHECK(message(Loader::automatic, "1 1:1\n", options) ==
        "f: LoadOptions::label does not apply to LIBSVM files: expected none, the label is the first number "
        "of a "
        "line, got \"1\"");
}

TEST_CASE("CSV: separators, quotes, blanks, headers", "[loaders]") {
  const char* const tables[] = {
      "1,2,3\n4,5,6\n",
      "1;2;3\n4;5;6",
      "1\t2\t3\r\n4\t5\t6\r\n",
      "1 2 3\n4 5 6\n",
      "  1   2 3  \n\n4 5\t6 \t\n",
      " 1 , 2 ,3 \n4,\t5,\t6\n",
      "1,\t2,\t3\n4,5,6\n",
      "\xef\xbb\xbf\"1\",\"2\", \"3\" \n+4,+5.0,\" 6 \"\n",
      "# comment\n1,2,3\n  # another\n4,5,6\n#",
      "\"1\" \"2\" 3\n4 \"5\" 6\n",
      " 1\t 2 \t3\n4\t5\t6",
  };
  for (const char* text : tables) {
    INFO(text);
    const Dataset data = parse(Loader::csv, text);
    CHECK(data.rows == 2);
    CHECK(data.cols == 2);
    CHECK(values(data) == Floats{1, 2, 4, 5});
    CHECK(labels(data) == Floats{3, 6});
    CHECK(data.column_names().empty());
    CHECK(data.label_name().empty());
    CHECK(data.warnings[0].find(" counts 1, 2, ... 3") != std::string::npos);  // names, perhaps
  }
  const Dataset named = parse(Loader::csv, "\"a \"\"b\"\"\", \"c;d\" ,e f,g\r\n1,2,3,-0\r\n");
  CHECK(named.column_names() == zipml::List<std::string>{"a \"b\"", "c;d", "e f"});
  CHECK(named.label_name() == "g");
  CHECK(values(named) == Floats{1, 2, 3});
}

TEST_CASE("CSV: options override what is found out", "[loaders]") {
  LoadOptions options;
  options.header = Header::present;
  Dataset data = parse(Loader::csv, "0,1,2\n3,4,5\n", options);
  CHECK(data.column_names() == zipml::List<std::string>{"0", "1"});
  CHECK(data.label_name() == "2");
  CHECK(values(data) == Floats{3, 4});
  options.header = Header::absent;
  CHECK(message(Loader::csv, "a,b\n1,2\n", options) ==
        "f:1:1: field 1 is not a number: expected a number, or LoadOptions::categorical for text "
        "(--categorical; --ignore leaves a column out), got \"a\"");
  options = {};
  options.separator = ',';
  data = parse(Loader::csv, "x;1,\"y,2\"\n1,2\n", options);
  CHECK(data.column_names() == zipml::List<std::string>{"x;1"});
  CHECK(data.label_name() == "y,2");
  options.separator = ' ';
  CHECK(message(Loader::csv, "1,2\n", options) ==
        "f:1:1: only one column, nothing is left beside the label: expected two or more fields separated by "
        "blanks, got \"1,2\"");
  for (const char separator : {'1', 'e', 'Z', '.', '-', '"', '#', '\n'}) {
    options.separator = separator;
    CHECK(
        message(Loader::csv, "1,2\n", options).rfind("LoadOptions::separator cannot separate numbers: ", 0) ==
        0);
  }
}

TEST_CASE("CSV: a header that has numbers too is pointed out", "[loaders]") {
  const Dataset data = parse(Loader::csv, "1.5,2.x,3\n4,5,6\n");
  CHECK(data.rows == 1);
  REQUIRE(data.warnings.size() == 1);
  CHECK(data.warnings[0] ==
        "line 1 was taken for a header because of \"2.x\", though it has numbers too: say whether it is "
        "(--header yes or no, LoadOptions::header)");
  CHECK(parse(Loader::csv, "a,,c\n4,5,6\n").warnings[0].find("column 2 has no name") == 0);
  CHECK(parse(Loader::csv, "a,,c\n4,5,6\n").column_names() == zipml::List<std::string>{"a", ""});
}

TEST_CASE("CSV: the label is the last column, a name or a number", "[loaders]") {
  const char* const text = "a,\"b, c\",d,2\n1,2,3,4\n5,6,7,8\n";
  LoadOptions options;
  options.label = "b, c";
  Dataset data = parse(Loader::csv, text, options);
  CHECK(labels(data) == Floats{2, 6});
  CHECK(values(data) == Floats{1, 3, 4, 5, 7, 8});
  CHECK(data.label_name() == "b, c");
  CHECK(data.column_names() == zipml::List<std::string>{"a", "d", "2"});
  options.label = "1";
  CHECK(labels(parse(Loader::csv, text, options)) == Floats{1, 5});
  options.label = "2";  // a name before a number
  CHECK(labels(parse(Loader::csv, text, options)) == Floats{4, 8});
  CHECK(labels(parse(Loader::csv, "1,2,3\n", options)) == Floats{2});

  options.label = "5";
  CHECK(message(Loader::csv, text, options) ==
        "f:1:1: label column is out of range: expected 1 to 4, or a name, got \"5\"");
  options.label = "0";
  CHECK(message(Loader::csv, text, options) ==
        "f:1:1: label column is out of range: expected 1 to 4, or a name, got \"0\"");
  options.label = "99999999999999999999999";
  CHECK(message(Loader::csv, "1,2\n", options) ==
        "f:1:1: label column is out of range: expected 1 to 2, or a name, got \"99999999999999999999999\"");
  options.label = "e";
  CHECK(
      message(Loader::csv, text, options) ==
      "f:1:1: no column has the name of the label: expected one of \"a\", \"b, c\", \"d\", \"2\", got \"e\"");
  CHECK(message(Loader::csv, "1,2\n3,4\n", options) ==
        "f:1:1: label column cannot be found by name, there is no header: expected a number from 1 to 2, got "
        "\"e\"");
  CHECK(
      message(Loader::csv, "a b c d x f g h i j k l\n1 2 3 4 5 6 7 8 9 10 11 12\n", options) ==
      "f:1:1: no column has the name of the label: expected one of \"a\", \"b\", \"c\", \"d\", \"x\", \"f\", "
      "\"g\", \"h\", \"i\", \"j\" and 2 more, got \"e\"");
  options.label = "y";
  CHECK(message(Loader::csv, "x,y,z,y\n1,2,3,4\n", options) ==
        "f:1:7: two columns have the name of the label: expected one column \"y\" (or its number as "
        "LoadOptions::label), got columns 2 and 4");
  options.label = "z";
  CHECK(labels(parse(Loader::csv, "x,y,z,y\n1,2,3,4\n", options)) == Floats{3});
  options.label = "4";
  CHECK(labels(parse(Loader::csv, "x,y,z,y\n1,2,3,4\n", options)) == Floats{4});
}

TEST_CASE("LIBSVM and CSV text of the same numbers give the same bits", "[loaders]") {
  Generator random(17);
  constexpr Index rows = 400, cols = 23;
  std::string sparse, table = "y";
  Floats expected_values, expected_labels;
  for (Index j = 0; j < cols; ++j) table += ",c" + std::to_string(j);
  table += '\n';
  for (Index i = 0; i < rows; ++i) {
    const auto any_float = [&] {
      for (;;) {
        const auto value = std::bit_cast<float>((random() << 16) ^ random());
        if (std::isfinite(value) && value != 0) return value;
      }
    };
    const float label = any_float();
    expected_labels.push_back(label);
    sparse += text_of(label);
    table += text_of(label);
    for (Index j = 0; j < cols; ++j) {
      const bool zero = j + 1 < cols && random.below(3) == 0;
      const float value = zero ? 0 : any_float();
      expected_values.push_back(value);
      table += "," + text_of(value);
      if (!zero) sparse += " " + std::to_string(j + 1) + ":" + text_of(value);
    }
    sparse += '\n';
    table += '\n';
  }
  LoadOptions options;
  options.label = "y";
  const Dataset a = parse(Loader::automatic, sparse), b = parse(Loader::automatic, table, options);
  const auto same = [](const auto& x, const Floats& y) {
    return static_cast<std::size_t>(x.size()) == y.size() &&
           std::memcmp(x.data(), y.data(), y.size() * sizeof(float)) == 0;
  };
  CHECK((a.rows == rows && a.cols == cols && b.rows == rows && b.cols == cols));
  CHECK(same(a.values, expected_values));
  CHECK(same(b.values, expected_values));
  CHECK(same(a.labels, expected_labels));
  CHECK(same(b.labels, expected_labels));
}

TEST_CASE("numbers are rounded as strtof rounds them", "[loaders]") {
  Generator random(3);
  int compared = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = random.below(2) ? "-" : "";
    const std::size_t digits = 1 + random.below(20), point = random.below(22);
    for (std::size_t k = 0; k < digits; ++k) {
      if (k == point) text += '.';
      text += static_cast<char>('0' + random.below(random.below(4) == 0 ? 1 : 10));
    }
    if (random.below(2)) text += "e" + std::to_string(static_cast<int>(random.below(110)) - 60);
    const float expected = std::strtof(text.c_str(), nullptr);
    float value = 99;
    const char* end = zipml::parse_number(text.data(), text.data() + text.size(), value);
    INFO(text);
    if (std::isinf(expected)) {
      CHECK(end == nullptr);
      CHECK_FALSE(zipml::is_number(text));
    } else {
      REQUIRE(end == text.data() + text.size());
      CHECK(std::bit_cast<std::uint32_t>(value) == std::bit_cast<std::uint32_t>(expected));
      ++compared;
    }
  }
  CHECK(compared > 10000);
  const std::string tiny = "-0." + std::string(5000, '0') + "1e4900",
                    huge = "1" + std::string(5000, '0') + "e-4900";
  float value = 1;
  CHECK(zipml::parse_number(tiny.data(), tiny.data() + tiny.size(), value) == tiny.data() + tiny.size());
  CHECK((value == 0 && std::signbit(value)));
  CHECK(zipml::parse_number(huge.data(), huge.data() + huge.size(), value) == nullptr);
  const std::string undone = "0." + std::string(5000, '0') + "1e5003";
  CHECK(zipml::parse_number(undone.data(), undone.data() + undone.size(), value) != nullptr);
  CHECK(value == 100);
  for (const char* text : {"", "+", "-", ".", "e5", "nan", "inf", "+-1", "-+1", " 1", "0x", "1 ", "0x1p3"}) {
    INFO(text);
    CHECK_FALSE(zipml::is_number(text));
  }
}

TEST_CASE("the reader delivers the lines as they are", "[loaders]") {
  // Lengths around the size of the buffer, so that ends of lines, and CR LF, fall on its edges.
  Generator random(5);
  constexpr std::size_t buffer = std::size_t{1} << 18;
  std::vector<std::string> lines;
  std::string text;
  for (const std::size_t length : {buffer - 2, buffer - 1, buffer, std::size_t{0}, 3 * buffer + 1, buffer - 3,
                                   std::size_t{1}, 2 * buffer, std::size_t{0}})
    lines.emplace_back(length, static_cast<char>('a' + lines.size()));
  for (int i = 0; i < 3000; ++i)
    lines.emplace_back(random.below(500), static_cast<char>('a' + random.below(26)));
  lines.push_back("last");
  for (std::size_t i = 0; i < lines.size(); ++i)
    text += lines[i] + (i + 1 == lines.size() ? "" : random.below(2) ? "\n" : "\r\n");

  const TemporaryPath file(text);
  LineReader from_file(file.name());
  LineReader from_memory = LineReader::from_memory(text);
  for (LineReader* reader : {&from_file, &from_memory}) {
    std::string_view line;
    bool equal = true;
    for (std::size_t i = 0; i < lines.size(); ++i) {
      REQUIRE(reader->next(line));
      equal = equal && line == lines[i] && reader->line_number() == static_cast<long>(i) + 1;
      if (i % 7 == 0) {
        reader->unread();
        REQUIRE(reader->next(line));
        equal = equal && line == lines[i] && reader->line_number() == static_cast<long>(i) + 1;
      }
    }
    CHECK(equal);
    CHECK_FALSE(reader->next(line));
    CHECK_FALSE(reader->next(line));
  }
}

TEST_CASE("a line of more than a megabyte", "[loaders]") {
  constexpr int cols = 200000;
  std::string sparse = "1", table;
  for (int j = 1; j <= cols; ++j) {
    sparse += " " + std::to_string(j) + ":" + std::to_string(j % 1000);
    table += std::to_string(j % 1000) + ",";
  }
  table += "1";
  REQUIRE(sparse.size() > 1'000'000);
  const TemporaryPath sparse_file(sparse), table_file(table + "\n" + table);
  const Dataset a = zipml::load(sparse_file.name()), b = zipml::load(table_file.name());
  CHECK((a.rows == 1 && a.cols == cols && b.rows == 2 && b.cols == cols));
  CHECK(a.values[cols - 2] == 999);
  CHECK(b.values[2 * cols - 2] == 999);
  CHECK(message(Loader::libsvm, sparse + " 7:1") ==
        "f:1:" + std::to_string(sparse.size() + 2) +
            ": feature index comes twice in this line: expected each index once, got \"7\"");
}

TEST_CASE("threads read the same rows, and find the same error, as one", "[loaders]") {
  // Blocks are 2 MiB for each thread: some of them whole, lines of every length across the borders of parts.
  Generator random(11);
  std::string sparse, table;
  while (table.size() < 4'500'000) {
    const std::string label = std::to_string(random.below(1000));
    sparse += label;
    for (int j = 1; j <= 9; ++j) {
      const std::string value = text_of(static_cast<float>(random()) * 0x1p-20f);
      if (random.below(4) > 0) sparse += " " + std::to_string(j) + ":" + value;
      table += value + ",";
    }
    if (random.below(2000) == 0) sparse += " 12:1";
    if (random.below(50) == 0) sparse += " # " + std::string(random.below(3000), 'x');
    const char* const end = random.below(2) > 0 ? "\n" : "\r\n\n# comment\n";
    sparse += end;
    table += label + end;
  }
  sparse += "7 3:1";
  table += "1,2,3,4,5,6,7,8,9,7";
  for (const auto& [loader, text] : {std::pair{Loader::libsvm, &sparse}, {Loader::csv, &table}}) {
    const Dataset one = parse(loader, *text);
    CHECK(one.rows > 40'000);
    const TemporaryPath file(*text);
    for (const int threads : {2, 5}) {
      const LoadOptions options{.threads = threads};
      CHECK(same(parse(loader, *text, options), one));
      CHECK(same(zipml::load(file.name(), options), one));
    }
    // A fault in its place, and none that is later, is told; the last one is in the second block of two
    // threads.
    for (const double place : {0.01, 0.4, 0.99}) {
      std::string wrong = *text;
      const std::size_t at =
          wrong.find('\n', static_cast<std::size_t>(place * static_cast<double>(wrong.size()))) + 1;
      wrong.insert(at, "1 x\n");
      const std::size_t later = wrong.find('\n', at + 100'000);
      if (later != std::string::npos) wrong.insert(later + 1, "1 x\n");
      const std::string told = message(loader, wrong);
      CHECK_FALSE(told.empty());
      for (const int threads : {2, 3}) CHECK(message(loader, wrong, {.threads = threads}) == told);
    }
    // The whole is too large, and no part of it.
    for (const double share : {0.003, 0.8}) {
      LoadOptions tight{.memory_limit =
                            static_cast<std::uint64_t>(share * 4.0 * 13.0 * static_cast<double>(one.rows))};
      if (loader == Loader::csv) tight.memory_limit = tight.memory_limit * 10 / 13;
      const std::string told = message(loader, *text, tight);
      CHECK(told.find("become too large") != std::string::npos);
      tight.threads = 3;
      CHECK(message(loader, *text, tight) == told);
    }
  }
  LoadOptions narrow{.columns = 9};
  const std::string told = message(Loader::libsvm, sparse, narrow);
  CHECK(told.find("lines have a feature index that is too large") != std::string::npos);
  narrow.threads = 3;
  CHECK(message(Loader::libsvm, sparse, narrow) == told);
  CHECK(message(Loader::csv, "1,2\n", {.threads = -1}).find("number of threads") != std::string::npos);

  // A byte order mark is one at the start of the text, and nowhere else: not where the part of a thread
  // begins.
  std::string marked;
  for (int line = 0; line < 10'001; ++line)
    marked += line == 5'001 ? "\xef\xbb\xbf"
                              "4567,1234567\n"
                            : "1234567,1234567\n";
  const std::string told_of_mark = message(Loader::csv, marked);
  CHECK(told_of_mark.find("f:5002:1") != std::string::npos);
  CHECK(message(Loader::csv, marked, {.threads = 2}) == told_of_mark);
}

TEST_CASE("the memory limit counts values, and what training keeps of each column", "[loaders]") {
  const auto refused = [](const std::string& place, const std::string& limit, const std::string& got,
                          const std::string& shape) {
    return "f:" + place + ": the samples become too large: expected at most " + limit +
           " (LoadOptions::memory_limit, --memory-limit), got " + got + " for the " + shape +
           " values so far and what training keeps of each column";
  };
  LoadOptions options;
  options.memory_limit = 999 * (4 + 256) + 8;  // LIBSVM: 4 bytes a value, 256 a column, 8 a row
  CHECK(parse(Loader::libsvm, "1 999:1\n", options).cols == 999);
  CHECK(message(Loader::libsvm, "1 1:1 1000:1\n", options) ==
        refused("1:7", "253.7 KiB", "253.9 KiB", "1 x 1000"));
  CHECK(message(Loader::libsvm, "1 1:1\n1 10000000:1\n", options) ==
        refused("2:3", "253.7 KiB", "2.5 GiB", "2 x 10000000"));
  CHECK(message(Loader::libsvm, "1 999:1\n2\n", options) ==
        refused("2:1", "253.7 KiB", "257.6 KiB", "2 x 999"));
  std::string rows;
  for (int i = 0; i < 400; ++i) rows += "1,2,3,4\n";
  options.memory_limit = 250 * (3 * 8 + 8) + 3 * 256;  // CSV: 8 bytes a value while it is read
  const std::string fits = rows.substr(0, 8 * 250);
  CHECK(parse(Loader::csv, fits, options).rows == 250);
  CHECK(message(Loader::csv, rows, options) == refused("251:1", "8.6 KiB", "8.6 KiB", "251 x 3"));
  options = {};
  CHECK(message(Loader::libsvm, "1 1:1\n1 2147483647:1\n", options) ==
        refused("2:3", "8.0 GiB", "528.0 GiB", "2 x 2147483647"));
  options.memory_limit = (std::numeric_limits<std::uint64_t>::max)();
  options.columns = 2;
  CHECK(parse(Loader::libsvm, "1 1:1\n", options).cols == 2);
}

TEST_CASE("files: missing, folders, unreadable, packed, and of another encoding", "[loaders]") {
  const TemporaryPath missing;
  CHECK(message_of([&] { zipml::load(missing.name()); }) ==
        missing.name() + ": cannot open: " + std::strerror(ENOENT));
  CHECK(message_of([&] { zipml::load(""); }) == std::string("cannot open: ") + std::strerror(ENOENT));

  const TemporaryPath folder;
  std::filesystem::create_directory(folder.name());
  const std::string refusal = folder.name() + ": is a directory: expected a file, got a directory";
  CHECK(message_of([&] { zipml::load(folder.name()); }) == refusal);
  CHECK(message_of([&] { zipml::load_csv(folder.name()); }) == refusal);
  CHECK(message_of([&] { zipml::load_libsvm(folder.name()); }) == refusal);

  const TemporaryPath locked("1,2\n");
  REQUIRE(::chmod(locked.name().c_str(), 0) == 0);
  if (::access(locked.name().c_str(), R_OK) == 0)
    WARN("skipped: this user may read files without permission (root)");
  else
    CHECK(message_of([&] { zipml::load(locked.name()); }) ==
          locked.name() + ": cannot open: " + std::strerror(EACCES));

  const TemporaryPath packed(std::string_view("\x1f\x8b\x08\0\0", 5)), wide(
                                                                           "\xff\xfe"
                                                                           "1");
  CHECK(message_of([&] { zipml::load(packed.name()); }) ==
        packed.name() +
            ": is compressed: expected text (unpack it first, or pipe it in and load \"-\"), got gzip data");
  CHECK(message_of([&] { zipml::load(wide.name()); }) ==
        wide.name() + ": unknown text encoding: expected UTF-8, got UTF-16");

  const TemporaryPath table("1,2\n");
  const Dataset data = zipml::load_csv(table.name());
  CHECK(data.source == table.name());
  CHECK(message_of([&] { zipml::load_libsvm(table.name()); }) ==
        table.name() + ":1:1: line has several labels or a decimal comma: expected one label, got \"1,2\"");
}

#if defined(__linux__)
TEST_CASE("a read error is reported", "[loaders]") {
  // The first page of a process is not mapped, so reading there is an error that root gets as well.
  const std::string message = message_of([] { zipml::load("/proc/self/mem"); });
  CHECK(message == std::string("/proc/self/mem:1: cannot read: ") + std::strerror(EIO));
}
#endif

TEST_CASE("a file that shrinks while it is read ends early", "[loaders]") {
  std::string text;
  while (text.size() < 1'000'000) text += "1,2,3\n";
  const TemporaryPath file(text);
  LineReader reader(file.name());
  std::string_view line;
  REQUIRE(reader.next(line));
  reader.unread();
  std::filesystem::resize_file(file.name(), 300'000);
  const Dataset data = load(reader);
  CHECK(data.rows == 50'000);
}

TEST_CASE("a FIFO is read in one pass", "[loaders]") {
  const TemporaryPath fifo;
  REQUIRE(::mkfifo(fifo.name().c_str(), 0600) == 0);
  std::string text = "# comment\n";
  Index rows = 0;
  for (; text.size() < 600'000; ++rows) text += "-1 1:" + std::to_string(rows % 1000) + " 2:5\n";
  bool written = false;
  std::thread writer([&] {
    std::FILE* file = std::fopen(fifo.name().c_str(), "wb");
    if (file == nullptr) return;
    const std::size_t done = std::fwrite(text.data(), 1, text.size(), file);
    written = std::fclose(file) == 0 && done == text.size();
  });
  const Dataset data = zipml::load(fifo.name());
  writer.join();
  CHECK(written);
  CHECK(data.rows == rows);
  CHECK(data.cols == 2);
  CHECK(data.values[2 * (rows - 1)] == static_cast<float>((rows - 1) % 1000));
}

TEST_CASE("\"-\" is standard input", "[loaders]") {
  const TemporaryPath good("1,2\n3,4\n"), bad("1,2\n3,x\n");
  const int original = ::dup(0);
  const auto load_from = [](const TemporaryPath& file) {
    std::FILE* source = std::fopen(file.name().c_str(), "rb");
    ::dup2(::fileno(source), 0);
    std::fclose(source);
    std::clearerr(stdin);
    return zipml::load("-");
  };
  Dataset data;
  const std::string no_error = message_of([&] { data = load_from(good); });
  const std::string error = message_of([&] { load_from(bad); });
  if (original >= 0) {
    ::dup2(original, 0);
    ::close(original);
  }
  std::clearerr(stdin);
  CHECK(no_error.empty());
  CHECK(values(data) == Floats{1, 3});
  CHECK(data.source == "-");
  CHECK(error == "<stdin>:2:3: label (field 2) is not a number: expected a number, got \"x\"");
}

#if defined(__GLIBC__)
TEST_CASE("a failing read: the lines in front of it count, with any number of threads", "[loaders]") {
  // Some megabytes of "1,2", an interrupted read on the way, and an error at the end, or none.
  struct Source {
    std::size_t bytes, place = 0;
    bool fails, interrupted = false;
  };
  const auto load_all = [](std::size_t bytes, bool fails, int threads, std::string& error) {
    Source source{bytes, 0, fails, false};
    cookie_io_functions_t io{};
    io.read = [](void* cookie, char* to, std::size_t size) -> ssize_t {
      Source& from = *static_cast<Source*>(cookie);
      if (from.place >= 300'000 && !std::exchange(from.interrupted, true)) {
        errno = EINTR;
        return -1;
      }
      if (from.place == from.bytes) {
        errno = EIO;
        return from.fails ? -1 : 0;
      }
      size = std::min({size, from.bytes - from.place, std::size_t{4096}});
      for (std::size_t k = 0; k < size; ++k) to[k] = "1,2\n"[(from.place + k) % 4];
      from.place += size;
      return static_cast<ssize_t>(size);
    };
    std::FILE* const original = stdin;
    stdin = ::fopencookie(&source, "r", io);
    Dataset data;
    zipml::LoadOptions options;
    options.threads = threads;
    error = message_of([&] { data = zipml::load("-", options); });
    std::fclose(stdin);
    stdin = original;
    return data.rows;
  };
  for (const int threads : {1, 2, 3}) {
    std::string error;
    CHECK(load_all(6'000'000, false, threads, error) == 1'500'000);
    CHECK(error.empty());
    load_all(6'000'002, true, threads, error);
    CHECK(error == "<stdin>:1500001: cannot read: Input/output error");
  }
}
#endif

TEST_CASE("the separator is found in the time that it takes to read the line", "[loaders]") {
  // Quadratic time would take half an hour.
  const std::string tabs(1'000'000, '\t');
  CHECK(zipml::detail::find_separator("1" + tabs + ",2") == ',');
  CHECK(zipml::detail::find_separator("1," + tabs + "2") == ',');
  CHECK(zipml::detail::find_separator("1" + tabs + "2,3") == '\t');
  CHECK(zipml::detail::find_separator("\"a\tb\",2") == ',');
  CHECK(zipml::detail::find_separator("\"a,b\"\t2") == '\t');
  CHECK(zipml::detail::find_separator("1 \t 2") == '\t');
}

TEST_CASE("numbers are those of the standard library, digit by digit, wherever they end", "[numbers]") {
  // Texts of digits, points, signs and exponents, by a fixed seed, with something or nothing behind them.
  const zipml::Random random(77);
  long numbers = 0;
  std::string text;
  for (std::uint64_t k = 0; k < 300'000; ++k) {
    const zipml::PhiloxWords words = random.words(zipml::Stream::generated, 3, 0, k);
    text.clear();
    if (words[0] % 3 == 0) text += '-';
    const auto digits = [&](std::uint32_t count, std::uint32_t word) {
      for (std::uint32_t i = 0; i < count; ++i, word = word * 1664525u + 1013904223u)
        text += static_cast<char>('0' + (word >> 20) % 10);
    };
    digits(words[0] / 3 % 11, words[1]);
    if (words[0] / 64 % 4 != 0) text += '.';
    digits(words[0] / 256 % 11, words[2]);
    if (words[0] / 4096 % 16 == 0) {
      text += words[0] / 65536 % 2 == 0 ? "e" : "E-";
      digits(1, words[3]);
    }
    const std::size_t length = text.size();
    if (words[3] % 4 != 0) text += std::string(1 + words[3] % 20, ",; :x0-"[words[3] / 64 % 7]);
    // Of exactly this size: what would be read behind it is seen by a sanitizer.
    const std::size_t size = words[3] % 4 == 1 ? length : text.size();
    const std::unique_ptr<char[]> copy(new char[size]);
    std::memcpy(copy.get(), text.data(), size);
    const char* const first = copy.get();
    const char* const last = first + size;
    double value = -1.0, expected = -1.0;
    const char* const end = zipml::parse_number(first, last, value);
    const std::from_chars_result result = std::from_chars(first, last, expected);
    if (result.ec == std::errc::result_out_of_range || std::fabs(expected) > 3e38)
      continue;  // float32's range
    const std::size_t sign = size > 0 && text[0] == '-' ? 1 : 0;
    const char next = sign < size ? text[sign] : '\0';
    const bool is_one = result.ec == std::errc{} && (zipml::is_digit(next) || next == '.');
    if (is_one ? end != result.ptr || value != expected || std::signbit(value) != std::signbit(expected)
               : end != nullptr) {
      INFO(std::string(first, last));
      CHECK(false);
    }
    numbers += is_one ? 1 : 0;
  }
  CHECK(numbers > 250'000);
}

TEST_CASE("the locale changes nothing", "[loaders]") {
  const std::string before = std::setlocale(LC_ALL, nullptr);
  bool comma = false;
  for (const char* name : {"de_DE.UTF-8", "de_DE.utf8", "de_DE", "fr_FR.UTF-8", "fr_FR.utf8", "nl_NL.UTF-8"})
    if (std::setlocale(LC_ALL, name) != nullptr && std::localeconv()->decimal_point == std::string(",")) {
      comma = true;
      break;
    }
  if (!comma) {
    std::setlocale(LC_ALL, before.c_str());
    WARN("skipped: no locale with a decimal comma is installed");
    return;
  }
  Dataset sparse, table;
  std::string bad, limit;
  const std::string error = message_of([&] {
    sparse = parse(Loader::libsvm, "1.5 1:2.25\n");
    table = parse(Loader::csv, "2.25;1.5\n");
    bad = message(Loader::libsvm, "1 1:1,5\n");
    LoadOptions options;
    options.memory_limit = 1;
    limit = message(Loader::libsvm, "1 1:1\n", options);
  });
  std::setlocale(LC_ALL, before.c_str());
  CHECK(error.empty());
  CHECK((sparse.values[0] == 2.25f && sparse.labels[0] == 1.5f));
  CHECK((table.values[0] == 2.25f && table.labels[0] == 1.5f));
  CHECK(bad == "f:1:5: value of feature 1 has a decimal comma: expected a decimal point, got \"1,5\"");
  CHECK(limit.find("expected at most 1 bytes") != std::string::npos);
}

TEST_CASE("labels sorted in blocks are noticed, others are not", "[loaders]") {
  using zipml::labels_sorted_in_blocks;
  const auto shuffle = [](Floats& all, Generator& random) {
    for (std::size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[random.below(i)]);
  };
  const auto blocks = [](std::initializer_list<std::pair<float, std::size_t>> parts) {
    Floats all;
    for (const auto& [value, n] : parts) all.insert(all.end(), n, value);
    return all;
  };
  CHECK(labels_sorted_in_blocks(blocks({{0, 50}, {1, 50}})));
  CHECK_FALSE(labels_sorted_in_blocks(blocks({{0, 50}, {1, 49}})));  // fewer than 100
  CHECK_FALSE(labels_sorted_in_blocks({}));
  CHECK_FALSE(labels_sorted_in_blocks(blocks({{1, 1000}})));
  CHECK(labels_sorted_in_blocks(blocks({{0, 100}, {1, 50}, {0, 100}, {1, 50}, {0, 100}, {1, 50}})));
  CHECK(labels_sorted_in_blocks(blocks({{0, 20}, {1, 20}, {2, 20}, {3, 20}, {4, 20}, {5, 20}})));
  CHECK(labels_sorted_in_blocks(blocks({{0, 990}, {1, 10}})));
  CHECK_FALSE(labels_sorted_in_blocks(blocks({{0, 998}, {1, 2}})));  // two neighbours may be an accident
  CHECK_FALSE(
      labels_sorted_in_blocks(blocks({{0, 50}, {1, 3}, {0, 47}})));  // a mean of 5.8 changes is too few
  // 5 changes are below half of the mean, 11.3, but not 6 standard deviations of 1.08 below it; 4 are.
  CHECK_FALSE(labels_sorted_in_blocks(blocks({{1, 2}, {0, 50}, {1, 2}, {0, 30}, {1, 2}, {0, 14}})));
  CHECK(labels_sorted_in_blocks(blocks({{0, 50}, {1, 3}, {0, 30}, {1, 3}, {0, 14}})));

  Floats alternating(1000);
  for (std::size_t i = 0; i < alternating.size(); ++i) alternating[i] = static_cast<float>(i % 2);
  CHECK_FALSE(labels_sorted_in_blocks(alternating));

  // Random orders of all kinds of shares: never. The rule promises fewer than one in 50,000.
  Generator random(11);
  int noticed = 0;
  for (int i = 0; i < 3000; ++i) {
    Floats labels(100 + random.below(400));
    const std::size_t kinds = 1 + random.below(10), rarity = 1 + random.below(30);
    for (float& label : labels)
      label = random.below(rarity) == 0 ? static_cast<float>(random.below(kinds)) : 0;
    shuffle(labels, random);
    noticed += labels_sorted_in_blocks(labels);
  }
  CHECK(noticed == 0);

  // A chain that keeps its label with probability 0.6 has 0.8 of the changes: random enough; with 0.9 it has
  // 0.2.
  for (const auto& [keep, expected] : {std::pair{6, false}, std::pair{9, true}}) {
    Floats chain(10000);
    for (std::size_t i = 1; i < chain.size(); ++i)
      chain[i] = random.below(10) < static_cast<std::size_t>(keep) ? chain[i - 1] : 1 - chain[i - 1];
    CHECK(labels_sorted_in_blocks(chain) == expected);
  }

  Floats rising(200), falling(200);
  for (std::size_t i = 0; i < 200; ++i) {
    rising[i] = static_cast<float>(i / 3);
    falling[i] = -rising[i];
  }
  CHECK(labels_sorted_in_blocks(rising));
  CHECK(labels_sorted_in_blocks(falling));
  std::swap(rising[10], rising[100]);
  CHECK_FALSE(labels_sorted_in_blocks(rising));
  Floats eleven;  // eleven values in blocks, but not in order: neither rule applies
  for (const float value : {3.f, 1.f, 4.f, 15.f, 9.f, 2.f, 6.f, 5.f, 35.f, 8.f, 97.f})
    eleven.insert(eleven.end(), 20, value);
  CHECK_FALSE(labels_sorted_in_blocks(eleven));
}

TEST_CASE("the loaders warn of sorted labels", "[loaders]") {
  std::string sparse, table, mixed;
  for (int i = 0; i < 200; ++i) {
    const std::string label = i < 100 ? "-1" : "+1";
    sparse += label + " 1:" + std::to_string(i) + "\n";
    table += std::to_string(i) + "," + label + "\n";
    mixed += std::to_string(i) + "," + (i % 3 == 0 ? "1" : "0") + "\n";
  }
  for (const auto& text : {sparse, table}) {
    const Dataset data = parse(Loader::automatic, text);
    REQUIRE(data.warnings.size() == 1);
    CHECK(data.warnings[0] ==
          "the labels are sorted in blocks; zipml shuffles rows while packing, so training is unaffected, "
          "but the "
          "head or the tail of this file is no fair test set: shuffle the lines before splitting it by "
          "position");
  }
  CHECK(parse(Loader::automatic, mixed).warnings.empty());
}
