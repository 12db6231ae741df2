// The data sets of examples/reproduce: pictures in the format of MNIST, files found by name, what is wrong
// with them.

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "../../examples/reproduce/sets.hpp"
#include "catch.hpp"

namespace {

namespace fs = std::filesystem;

/// A folder of its own, removed at the end.
struct Folder {
  fs::path path = fs::temp_directory_path() / ("zipml_reproduce_" + std::to_string(::getpid()));
  Folder() { fs::create_directories(path); }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path / name, std::ios::binary) << bytes;
    return (path / name).string();
  }
};

std::string number(unsigned value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

/// Pictures of 2 x 3 pixels: pixel k of picture i is 10 i + k, the last one 255.
std::string pictures(unsigned count) {
  std::string bytes = std::string("\0\0\x08\x03", 4) + number(count) + number(2) + number(3);
  for (unsigned i = 0; i < count; ++i)
    for (unsigned k = 0; k < 6; ++k) bytes += static_cast<char>(k == 5 ? 255 : 10 * i + k);
  return bytes;
}
std::string digits(const std::vector<int>& labels) {
  std::string bytes = std::string("\0\0\x08\x01", 4) + number(static_cast<unsigned>(labels.size()));
  for (const int label : labels) bytes += static_cast<char>(label);
  return bytes;
}

const SetKind& kind(const std::string& name) {
  for (const SetKind& k : file_sets())
    if (k.name == name) return k;
  throw zipml::Error("no such kind");
}

std::string message_of(const std::string& set, const std::string& file) {
  try {
    load_set(kind(set), file);
  } catch (const zipml::Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE("the fours and nines among pictures of MNIST") {
  const Folder folder;
  const std::string images = folder.write("train-images-idx3-ubyte", pictures(5));
  folder.write("train-labels-idx1-ubyte", digits({4, 1, 9, 9, 0}));
  CHECK(find_file(kind("mnist-4-vs-9"), folder.path.string()) == images);
  CHECK_FALSE(find_file(kind("cadata"), folder.path.string()));
  const Set set = load_set(kind("mnist-4-vs-9"), images);
  CHECK(set.loss == "ls-svm");
  REQUIRE(set.data.rows == 3);
  REQUIRE(set.data.cols == 6);
  CHECK(std::vector<float>(set.data.labels.begin(), set.data.labels.end()) == std::vector<float>{-1, 1, 1});
  CHECK(set.data.values[0] == 0.0f);
  CHECK(set.data.values[6] == 20.0f);
  CHECK(set.data.values[17] == 255.0f);
}

TEST_CASE("files that are not what a set needs are told by name") {
  const Folder folder;
  const std::string images = folder.write("train-images-idx3-ubyte", pictures(5));
  CHECK(message_of("mnist-4-vs-9", images).find("train-labels-idx1-ubyte: cannot open") != std::string::npos);
  folder.write("train-labels-idx1-ubyte", digits({4, 1, 9}));
  CHECK(message_of("mnist-4-vs-9", images).find("do not go together") != std::string::npos);
  folder.write("train-labels-idx1-ubyte", digits({1, 1, 1, 1, 1}));
  CHECK(message_of("mnist-4-vs-9", images).find("no 4 and no 9") != std::string::npos);
  folder.write("train-labels-idx1-ubyte", digits({4, 1, 9, 9, 0}).substr(0, 11));
  CHECK(message_of("mnist-4-vs-9", images).find("is no IDX file") != std::string::npos);
  const std::string cut = folder.write("images-idx3", pictures(5).substr(0, 9));
  folder.write("labels-idx1", digits({4}));
  CHECK(message_of("mnist-4-vs-9", cut).find("is no IDX file") != std::string::npos);
  CHECK(message_of("mnist-4-vs-9", folder.write("pictures", pictures(2))).find("images-idx3") !=
        std::string::npos);
  CHECK(message_of("cadata", folder.write("cadata", "1 1:nan\n")).find("cadata:1:5") != std::string::npos);
  CHECK(message_of("year", folder.write("YearPredictionMSD.txt", "2001,1,2\n"))
            .find("YearPredictionMSD.txt:1") != std::string::npos);
  CHECK(load_set(kind("cadata"), folder.write("cadata.csv", "1,2,3\n4,5,6\n")).data.cols == 2);
}

TEST_CASE("generated sets have the sizes that the claims were made for") {
  for (const auto& [name, columns] : {std::pair{"synthetic-10", 10}, {"synthetic-100", 100}}) {
    const Set set = generate_set(name, false);
    CHECK(set.data.rows == 10'000);
    CHECK(set.data.cols == columns);
  }
  CHECK(generate_set("skewed", true).data.cols == 90);
}
