// Model files: what is saved is loaded, what is damaged is refused, and saving loses nothing that was there.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>
#include <zipml/io/model_file.hpp>

#include "catch.hpp"
#include "folder.hpp"
#include "message.hpp"

using namespace zipml;

namespace {

LinearModel example() {
  LinearModel model;
  const double weights[] = {0.1, -1.2345678e-05, 12345.678901234567, 5.0};
  model.weights = Buffer<double>(4);
  model.means = Buffer<double>(4);
  model.deviations = Buffer<double>(4);
  for (Index j = 0; j < 4; ++j) {
    model.weights[j] = weights[j];
    model.means[j] = 1e9 + static_cast<double>(j) / 3.0;
    model.deviations[j] = 0.5 + static_cast<double>(j);
  }
  model.intercept = 1.0 / 3.0;
  model.classifies = true;
  model.low_label = 0.0;
  model.high_label = 1.0;
  model.loss = "ls-svm";
  model.representation = "variance-corrected:2";
  model.rows = 1234;
  Schema schema;
  schema.cols = 4;
  schema.fields = 5;
  schema.label_field = 3;
  schema.label_name = "is \"it\"?";
  schema.classes = {"no\nway", "yes"};
  TableColumn age, city;
  age.name = "age";
  age.field = 1;
  age.fill = 35.25;
  age.flagged = true;
  city.name = "city \\ town";
  city.field = 2;
  city.categorical = true;
  city.categories = {"", "Bern, BE"};
  schema.columns = {age, city};
  schema.names = {"age", "age is missing", "city \\ town is missing", "city \\ town=Bern, BE"};
  model.schema = std::make_shared<const Schema>(schema);
  return model;
}

bool same(const LinearModel& a, const LinearModel& b) {
  return detail::model_file_2(a) == detail::model_file_2(b);
}

std::string refusal(const std::string& path) {
  return message_of([&] { load_model(path); });
}

mode_t mode_of(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

std::size_t files_in(const Folder& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder.path()),
                                                std::filesystem::directory_iterator()));
}

}  // namespace

TEST_CASE("a model comes back as it was saved, with its names and its table", "[model file]") {
  const Folder folder;
  const LinearModel model = example();
  save_model(folder / "m", model);
  const LinearModel back = load_model(folder / "m");
  CHECK(std::equal(model.weights.begin(), model.weights.end(), back.weights.begin(), back.weights.end()));
  CHECK(std::equal(model.means.begin(), model.means.end(), back.means.begin(), back.means.end()));
  CHECK((back.intercept == model.intercept && back.classifies && back.rows == 1234));
  CHECK((back.loss == model.loss && back.representation == model.representation));
  CHECK(back.schema->names == model.schema->names);
  CHECK(back.schema->classes == model.schema->classes);
  CHECK(back.schema->columns[1].categories == model.schema->columns[1].categories);
  CHECK((back.schema->columns[0].fill == 35.25 && back.schema->columns[0].flagged));
  CHECK(same(model, back));
  CHECK(back.label_text(1.0) == "yes");

  LinearModel bare;
  bare.weights = Buffer<double>(2);
  bare.weights[1] = -1e-300;
  save_model(folder / "bare", bare);
  CHECK(load_model(folder / "bare").weights[1] == -1e-300);
  bare.weights[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK_THROWS_AS(save_model(folder / "bare", bare), Error);
  CHECK(load_model(folder / "bare").weights[0] == 0.0);
}

TEST_CASE("every truncation and every flipped bit of a model file is refused", "[model file]") {
  const Folder folder;
  save_model(folder / "m", example());
  const std::string whole = contents(folder / "m");
  std::size_t accepted = 0;
  for (std::size_t length = 0; length < whole.size(); ++length)
    accepted += refusal(folder.write("cut", whole.substr(0, length))).empty() ? 1 : 0;
  CHECK(accepted == 0);
  for (std::size_t k = 0; k < whole.size(); ++k)
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = whole;
      flipped[k] = static_cast<char>(flipped[k] ^ (1 << bit));
      accepted += refusal(folder.write("flip", flipped)).empty() ? 1 : 0;
    }
  CHECK(accepted == 0);
  CHECK_FALSE(refusal(folder.write("more", whole + "more\n")).empty());
  CHECK_FALSE(refusal(folder.write("more", whole + "\n")).empty());
}

TEST_CASE("files of version 1 are read strictly, other versions are not", "[model file]") {
  const Folder folder;
  const std::string good =
      "zipml-model 1\nkind regression\nlabels 1 9\nintercept 5.5\nweights 2\n-1.2345678e-05\n2.5\n";
  CHECK(load_model(folder.write("m", good)).weights[0] == -1.2345678e-05);
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return folder.write("m", text.replace(text.find(from), from.size(), to));
  };
  CHECK(refusal(with("model 1", "model 10")) ==
        folder / "m" + ":1: the model file is of another version: expected 1 or 2, got 10");
  for (const auto& [from, to] :
       std::vector<std::pair<std::string, std::string>>{{"model 1", "model 1 experimental"},
                                                        {"5.5", "5,5"},
                                                        {"5.5", "5.5garbage"},
                                                        {"5.5", "5.5 7.5"},
                                                        {"5.5", "inf"},
                                                        {"5.5", "05.5"},
                                                        {"1 9", "1,5 9"},
                                                        {"1 9", "1"},
                                                        {"weights 2", "weights 2x"},
                                                        {"weights 2", "weights 99999999"},
                                                        {"2.5\n", "2.5"},
                                                        {"2.5\n", "2."}}) {
    INFO(to);
    CHECK_FALSE(refusal(with(from, to)).empty());
  }
}

TEST_CASE("saving follows links, keeps modes, and leaves other files alone", "[model file]") {
  const Folder folder;
  const LinearModel model = example();
  folder.write("target", "old");
  REQUIRE(chmod((folder / "target").c_str(), 0600) == 0);
  std::filesystem::create_symlink("target", folder / "link");
  folder.write("link.part", "a stranger's");
  save_model(folder / "link", model);
  CHECK(std::filesystem::is_symlink(folder / "link"));
  CHECK(same(load_model(folder / "target"), model));
  CHECK(mode_of(folder / "target") == 0600);
  CHECK(contents(folder / "link.part") == "a stranger's");
  // A link to a file that is yet to be.
  std::filesystem::create_symlink("later", folder / "dangling");
  save_model(folder / "dangling", model);
  CHECK(std::filesystem::is_symlink(folder / "dangling"));
  CHECK(same(load_model(folder / "later"), model));
  CHECK(files_in(folder) == 5);

  std::filesystem::create_symlink("circle", folder / "circle");
  CHECK_THROWS_AS(save_model(folder / "circle", model), Error);
  CHECK_THROWS_AS(save_model(folder.path().string(), model), Error);
  CHECK_THROWS_AS(require_writable(folder.path().string()), Error);
  CHECK_THROWS_AS(require_writable(folder / "none/m"), Error);
  if (geteuid() != 0) {
    folder.write("read-only", "old");
    REQUIRE(chmod((folder / "read-only").c_str(), 0400) == 0);
    CHECK_THROWS_AS(require_writable(folder / "read-only"), Error);
    CHECK_THROWS_AS(save_model(folder / "read-only", model), Error);
    CHECK(contents(folder / "read-only") == "old");
  } else {
    WARN("skipped: root may write what is read-only");
  }
  // Looking leaves nothing behind.
  const std::size_t before = files_in(folder);
  require_writable(folder / "new");
  require_writable(folder / "target");
  CHECK(files_in(folder) == before);
}

TEST_CASE("devices and pipes are written to, not replaced", "[model file]") {
  const Folder folder;
  save_model("/dev/null", example());
  struct stat status {};
  REQUIRE(stat("/dev/null", &status) == 0);
  CHECK(S_ISCHR(status.st_mode));
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  require_writable(pipe);
  std::string read;
  std::thread reader([&] { read = contents(pipe); });
  save_model(pipe, example());
  reader.join();
  CHECK(read == detail::model_file_2(example()));
  REQUIRE(stat(pipe.c_str(), &status) == 0);
  CHECK(S_ISFIFO(status.st_mode));
}

TEST_CASE("processes that save at once all end well, under one name or many", "[model file]") {
  const Folder folder;
  const LinearModel model = example();
  std::vector<pid_t> children;
  for (int k = 0; k < 8; ++k) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      int failed = 0;
      for (int round = 0; round < 20; ++round) try {
          save_model(folder / (k % 2 == 0 ? "shared" : "own" + std::to_string(k)), model);
        } catch (const Error&) {
          failed = 1;
        }
      _exit(failed);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  }
  CHECK(same(load_model(folder / "shared"), model));
  CHECK(files_in(folder) == 5);
}

TEST_CASE("two names of one file are one file", "[model file]") {
  const Folder folder;
  folder.write("a", "x");
  folder.write("b", "x");
  std::filesystem::create_symlink("a", folder / "link");
  std::filesystem::create_hard_link(folder / "a", folder / "hard");
  CHECK(is_same_file(folder / "a", folder / "link"));
  CHECK(is_same_file(folder / "a", folder / "hard"));
  CHECK_FALSE(is_same_file(folder / "a", folder / "b"));
  CHECK_FALSE(is_same_file(folder / "a", folder / "none"));
}
