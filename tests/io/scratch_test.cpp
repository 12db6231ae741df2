// Tables that do not fit into memory: their rows go to a scratch file, and everything comes out as if they had fitted.

#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <string>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/hold_out.hpp>
#include <zipml/io/load.hpp>
#include <zipml/io/scratch_file.hpp>

#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

/// A table of n rows, some megabytes, with everything that makes rows differ from what is read: numbers that need an offset, texts,
/// missing cells, weights.
std::string table_text(Index n) {
  std::string text = "time,a,town,b,c,d,e,weight,price\n";
  const Random random(9);
  const char* towns[] = {"Uppsala", "Borg", "\"Kuu, upper\"", "Aarhus", ""};
  for (Index i = 0; i < n; ++i) {
    const auto word = [&](std::uint32_t j) {
      return random.word(Stream::generated, 1, j, static_cast<std::uint64_t>(i));
    };
    const std::uint32_t w = word(0);
    text += std::to_string(1'700'000'000 + i * 7) + ',' +
            std::to_string(static_cast<int>(word(1) % 2001) - 1000) + "e-2,";
    text += towns[w % 4 == 3 ? 3 + w / 4 % 2 : w % 4];
    text += ',' + (word(2) % 50 == 0 ? std::string("NA") : std::to_string(word(2) % 777)) + ".5"[0];
    text.pop_back();
    text += ',' + std::to_string(word(3) % 100) + ".25," + std::to_string(word(4) % 9) + ',' +
            std::to_string(word(5)) + ',';
    text += std::to_string(word(6) % 5) + ',';
    text += word(7) % 61 == 0 ? std::string("\n") : std::to_string(word(7) % 1000) + ".125\n";
  }
  return text;
}

std::string sparse_text(Index n) {
  std::string text;
  const Random random(10);
  for (Index i = 0; i < n; ++i) {
    const auto word = [&](std::uint32_t j) {
      return random.word(Stream::generated, 2, j, static_cast<std::uint64_t>(i));
    };
    text += word(0) % 2 == 0 ? "+1" : "-1";
    for (std::uint32_t j = 1; j <= 40; ++j)
      if (word(j) % 3 == 0 || j == 7)
        text += ' ' + std::to_string(j) + ':' +
                std::to_string(j == 7 ? 1'600'000'000 + word(j) % 4096 : word(j) % 100) +
                (j % 5 == 0 ? ".5" : "");
    text += '\n';
  }
  return text;
}

void check_same(const Dataset& memory, const Dataset& elsewhere) {
  REQUIRE(memory.in_memory());
  REQUIRE_FALSE(elsewhere.in_memory());
  REQUIRE(memory.rows == elsewhere.rows);
  REQUIRE(memory.cols == elsewhere.cols);
  CHECK(std::equal(memory.labels.begin(), memory.labels.end(), elsewhere.labels.begin()));
  CHECK(std::equal(memory.weights.begin(), memory.weights.end(), elsewhere.weights.begin(),
                   elsewhere.weights.end()));
  CHECK(memory.label_offset == elsewhere.label_offset);
  CHECK(memory.column_names() == elsewhere.column_names());
  CHECK(memory.ids == elsewhere.ids);
  REQUIRE((memory.offsets == nullptr) == (elsewhere.offsets == nullptr));
  if (memory.offsets)
    CHECK(std::equal(memory.offsets->begin(), memory.offsets->end(), elsewhere.offsets->begin()));
  // Rows one by one, forwards in pieces and backwards.
  const Index n = memory.rows, d = memory.cols;
  Buffer<float> all(n * d), one(d);
  elsewhere.features().read(0, n, all.data());
  CHECK(std::equal(memory.values.begin(), memory.values.end(), all.begin()));
  for (Index i = n - 1; i >= 0; i -= 997) {
    elsewhere.features().read(i, 1, one.data());
    CHECK(std::equal(one.begin(), one.end(), memory.values.data() + i * d));
  }
}

LoadOptions beyond(LoadOptions options, std::uint64_t bytes, const std::string& folder) {
  options.keep_in_memory = bytes;
  options.scratch = folder;
  return options;
}

}  // namespace

TEST_CASE("a table that goes to a scratch file has the rows, labels and names of one in memory") {
  const Folder folder;
  const std::string path = folder.write("table.csv", table_text(30'000));
  for (const Missing missing : {Missing::mean, Missing::indicator, Missing::drop}) {
    LoadOptions options;
    options.missing = missing;
    options.categorical = {"town"};
    options.weights = "weight";
    options.id = "d";
    const Dataset memory = load(path, options);
    CHECK(memory.offsets != nullptr);
    for (const int threads : {1, 3})
      for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{500'000}}) {
        options.threads = threads;
        check_same(memory, load(path, beyond(options, bytes, folder.path())));
      }
    options.threads = 1;
    CHECK(load(path, beyond(options, std::uint64_t{1} << 30, folder.path())).in_memory());
  }
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) ==
        1);  // scratch files have no name
}

TEST_CASE(
    "sparse text that goes to a scratch file, or whose rows would be too wide, has the rows of one in "
    "memory") {
  const Folder folder;
  std::string text = sparse_text(20'000);
  const std::string path = folder.write("rows.svm", text);
  const Dataset memory = load(path);
  CHECK(memory.offsets != nullptr);
  for (const int threads : {1, 3})
    for (const std::uint64_t bytes : {std::uint64_t{0}, std::uint64_t{3'000'000}}) {
      LoadOptions options;
      options.threads = threads;
      check_same(memory, load(path, beyond(options, bytes, folder.path())));
    }
  // Few entries in many columns: they are in memory, the matrix is not.
  const std::string wide = folder.write("wide.svm", "1 1:2 30000:5\n-1 2:1.5\n1\n-1 29999:0.1\n");
  check_same(load(wide), load(wide, beyond({}, 300'000, folder.path())));
}

TEST_CASE("what is packed, trained and held out of a scratch file has the bits of what is in memory") {
  const Folder folder;
  const std::string path = folder.write("table.csv", table_text(30'000));
  LoadOptions options;
  options.missing = Missing::mean;
  options.categorical = {"town"};
  const Dataset memory = load(path, options);
  const Dataset elsewhere = load(path, beyond(options, 0, folder.path()));
  const auto saved = [&](const Dataset& data, const char* representation, int threads) {
    save_store(folder / "saved.zipml",
               quantize(data, parse_representation(representation), {.threads = threads}));
    return contents(folder / "saved.zipml");
  };
  for (const char* text : {"variance-corrected:4,outliers=0.003", "double-sampling:2,optimal", "full:32"}) {
    const std::string expected = saved(memory, text, 1);
    CHECK(saved(elsewhere, text, 1) == expected);
    CHECK(saved(elsewhere, text, 3) == expected);
  }
  const TrainTest a = hold_out(memory, 0.3, 4), b = hold_out(elsewhere, 0.3, 4);
  check_same(a.train, b.train);
  check_same(a.test, b.test);
  CHECK(exact_solution(Objective(memory))->value == exact_solution(Objective(elsewhere))->value);
  CHECK_THROWS_AS(elsewhere.matrix(), Error);
}

TEST_CASE("the memory limit sends rows to a scratch file and says so, or is an error") {
  const Folder folder;
  const std::string path = folder.write("table.csv", table_text(30'000));
  LoadOptions options;
  options.missing = Missing::mean;
  options.ignore = {"town"};
  options.memory_limit = 1'000'000;
  CHECK(holds(message_of([&] { load(path, options); }), "memory"));
  options.scratch = folder.path();
  const Dataset data = load(path, options);
  CHECK_FALSE(data.in_memory());
  CHECK(std::any_of(data.warnings.begin(), data.warnings.end(), [&](const std::string& text) {
    return holds(text, "scratch file in " + folder.path().string()) && holds(text, "rows would take");
  }));
  options.memory_limit = 100'000;  // less than the labels take
  CHECK(holds(message_of([&] { load(path, options); }), "memory"));
  options.memory_limit = 1'000'000;
  const std::string sparse = folder.write("rows.svm", "1 1:1\n1 2000000000:1\n");
  LoadOptions of_sparse;
  of_sparse.memory_limit = options.memory_limit;
  of_sparse.scratch = options.scratch;
  CHECK(holds(message_of([&] { load(sparse, of_sparse); }), ":2:3"));
}

TEST_CASE("a scratch folder that is not there, or full, is an error that names it") {
  const Folder folder;
  const std::string path = folder.write("table.csv", table_text(30'000));
  LoadOptions options;
  options.missing = Missing::mean;
  options.categorical = {"town"};
  CHECK(holds(message_of([&] { load(path, beyond(options, 0, folder / "none")); }), folder / "none"));
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto signal = std::signal(SIGXFSZ, SIG_IGN);
  for (const rlim_t bytes : {rlim_t{0}, rlim_t{4096}, rlim_t{1'000'000}}) {
    const rlimit small{bytes, before.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string message = message_of([&] { load(path, beyond(options, 0, folder.path())); });
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(holds(message, folder.path().string()));
    CHECK(holds(message, "scratch file"));
  }
  std::signal(SIGXFSZ, signal);
}

TEST_CASE("several files are one table: what each says of it, and what is wrong with one") {
  const Folder folder;
  const std::string text = table_text(3000);
  const std::size_t begin = text.find('\n') + 1, first = text.find('\n', text.size() / 3) + 1,
                    second = text.find('\n', text.size() / 2) + 1;
  const std::string head = text.substr(0, begin);
  const std::string whole = folder.write("whole.csv", text);
  const std::string a = folder.write("a.csv", text.substr(0, first));
  const std::string b = folder.write("b.csv", "# the second\n" + head + text.substr(first, second - first));
  const std::string c = folder.write("c.csv", text.substr(second));  // without a header
  const std::string none = folder.write("none.csv", "");
  LoadOptions options;
  options.missing = Missing::indicator;
  options.categorical = {"town"};
  options.id = "d";
  const Dataset expected = load(whole, options);
  for (const int threads : {1, 3}) {
    options.threads = threads;
    const Dataset parts = load({a, none, b, c}, options);
    CHECK(
        std::equal(expected.values.begin(), expected.values.end(), parts.values.begin(), parts.values.end()));
    CHECK(
        std::equal(expected.labels.begin(), expected.labels.end(), parts.labels.begin(), parts.labels.end()));
    CHECK(expected.ids == parts.ids);
    CHECK(expected.column_names() == parts.column_names());
    CHECK(parts.source == a + " and 3 more");
    check_same(expected, load({a, none, b, c}, beyond(options, 50'000, folder.path())));
  }
  const auto message = [&](const std::string& more, const LoadOptions& how) {
    return message_of([&] { load({a, folder.write("more.csv", more)}, how); });
  };
  CHECK(holds(message("a,time,town,b,c,d,e,weight,price\n", options),
              "more.csv:1:1: the columns are not those"));
  CHECK(holds(message(head + "1,2,3\n", options), "row is of another length"));
  CHECK(holds(message(head + "1,x,y,4,5,6,7,8,9\n", options), "more.csv:2:3"));
  LoadOptions strict = options;
  strict.missing = Missing::error;
  const std::string clean = folder.write("clean.csv", "x,y,z\n1,2,3\n");
  CHECK(holds(message_of([&] {
                load({clean, folder.write("more.csv", "x,y,z\n4,5,6\n7,,8\n")});
              }),
              "more.csv:3:3"));
  CHECK(holds(message_of([&] { load({clean, folder / "nothing"}); }), "nothing"));
  CHECK(holds(message_of([&] { load(List<std::string>{}); }), "no file"));

  const std::string svm = sparse_text(900);
  const std::size_t half = svm.find('\n', svm.size() / 2) + 1;
  const Dataset sparse = load(folder.write("whole.svm", svm));
  const std::string left = folder.write("a.svm", svm.substr(0, half)),
                    right = folder.write("b.svm", svm.substr(half));
  const Dataset halves = load({left, right});
  CHECK(std::equal(sparse.values.begin(), sparse.values.end(), halves.values.begin(), halves.values.end()));
  CHECK(holds(message_of([&] { load({left, folder.write("bad.svm", "1 1:2\n1 2:x\n")}); }), "bad.svm:2:5"));
}
