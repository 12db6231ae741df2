// From a user's table to predictions: train, predict and inspect as processes, on tables as people have them.

#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>
#include <zipml/io/model_file.hpp>

#include "catch.hpp"
#include "examples/process.hpp"
#include "examples/three_classes.hpp"

using Json = nlohmann::json;

namespace {

Run train(const Arguments& arguments) { return run_process(ZIPML_TRAIN, arguments); }
Run predict(const Arguments& arguments, const std::string& input = {}) {
  return run_process(ZIPML_PREDICT, arguments, input);
}
Run inspect(const Arguments& arguments) { return run_process(ZIPML_INSPECT, arguments); }

Json json_of(const Run& run) {
  INFO(run.err);
  REQUIRE(run.code == 0);
  return Json::parse(run.out);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// A small generator, the same numbers everywhere, uniform in [-1/2, 1/2).
class Uniform {
 public:
  explicit Uniform(std::uint32_t state) : state_(state) {}
  double operator()() {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<double>(state_ >> 8) / 16777216.0 - 0.5;
  }

 private:
  std::uint32_t state_;
};

std::string number(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.4f", value);
  return digits;
}

/// Houses: an id, a date, 12 numbers of which some are missing, a town, and the price in the middle. The price is
/// 100 + 10 a_1 - 5 a_2 + 3 a_12 + (20 in Chur, -10 in Au) + a little noise.
std::string houses(int rows, std::uint32_t seed, bool with_price = true) {
  Uniform uniform(seed);
  std::string text = "id,day,town,a1,a2,a3,a4,a5,a6";
  text += with_price ? ",price" : "";
  text += ",a7,a8,a9,a10,a11,a12\n";
  const char* const towns[] = {"Au", "Bern", "Chur"};
  const double worth[] = {-10.0, 0.0, 20.0};
  for (int i = 0; i < rows; ++i) {
    double a[12];
    for (double& v : a) v = uniform();
    const int town = static_cast<int>((uniform() + 0.5) * 3.0);
    const double price = 100.0 + 10.0 * a[0] - 5.0 * a[1] + 3.0 * a[11] + worth[town] + 0.2 * uniform();
    text += "h" + std::to_string(i) + ",2024-01-" + std::to_string(i % 28 + 1) + "," + towns[town];
    for (int j = 0; j < 6; ++j) text += "," + (j == 4 && i % 17 == 3 ? std::string() : number(a[j]));
    if (with_price) text += "," + number(price);
    for (int j = 6; j < 12; ++j) text += "," + (j == 8 && i % 23 == 5 ? std::string("NA") : number(a[j]));
    text += "\n";
  }
  return text;
}

const Arguments as_houses{"--label",       "price", "--ignore",  "id,day",
                          "--categorical", "town",  "--missing", "mean"};

Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

}  // namespace

TEST_CASE(
    "a table with text, a date, empty cells and the target in the middle: train, validate, predict, "
    "inspect") {
  const Folder folder;
  const std::string table = folder.write("houses.csv", houses(600, 1));
  const std::string unpriced = folder.write("new.csv", houses(50, 2, false));
  const std::string priced = folder.write("priced.csv", houses(50, 2));
  const std::string model = folder / "model";
  const Json trained = json_of(train(Arguments{table, "--validation", "0.2", "--save-model", model, "--bits",
                                               "6", "--epochs", "60", "--patience", "0", "--json"} +
                                     as_houses));
  CHECK(trained["cols"] == 15);
  CHECK(trained["label"] == "price");
  CHECK(trained["rows"] == 480);
  CHECK(trained["validation_rows"] == 120);
  CHECK(trained["validation"]["rmse"].get<double>() < 0.2);
  CHECK(trained["validation"]["r_squared"].get<double>() > 0.999);
  REQUIRE(trained["warnings"].size() == 1);
  CHECK(holds(trained["warnings"][0], "missing cells (\"a5\": 36, \"a9\": 26), the first in line 5"));

  const Run predicted = predict({model, unpriced, "--id", "id"});
  REQUIRE(predicted.code == 0);
  const auto lines = lines_of(predicted.out);
  REQUIRE(lines.size() == 51);
  CHECK(lines[0] == "id,prediction");
  CHECK(holds(lines[1], "h0,"));
  CHECK(holds(predicted.err, "passed over: \"id\", \"day\"") == false);
  CHECK(holds(predicted.err, "\"day\""));
  // The same houses with their prices: the metrics are those of these predictions.
  const Json metrics = json_of(predict({model, priced, "--json"}));
  CHECK(metrics["metrics"]["rows"] == 50);
  CHECK(metrics["metrics"]["rmse"].get<double>() < 0.2);
  const auto prices = lines_of(contents(priced));
  double squares = 0.0;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    std::istringstream cells(prices[i]);
    std::string cell;
    for (int k = 0; k < 10; ++k) std::getline(cells, cell, ',');
    const double error = std::stod(lines[i].substr(lines[i].find(',') + 1)) - std::stod(cell);
    squares += error * error;
  }
  CHECK(std::sqrt(squares / 50.0) == Approx(metrics["metrics"]["rmse"].get<double>()).epsilon(1e-4));

  const Json inspected = json_of(inspect({model, "--json", "--top", "3"}));
  CHECK(inspected["label"] == "price");
  REQUIRE(inspected["features"].size() == 3);
  CHECK(inspected["features"][0]["name"] == "town=Chur");
  const Run shown = inspect({model});
  CHECK(shown.code == 0);
  CHECK(holds(shown.out, "regression of \"price\"; least-squares on variance-corrected:6, 480 rows"));
  CHECK(holds(shown.out, "a1\n"));
}

TEST_CASE("a table is packed once and trained on without its text, to the same weights", "[programs]") {
  const Folder folder;
  const std::string table = folder.write("houses.csv", houses(600, 1));
  const std::string priced = folder.write("priced.csv", houses(50, 2));
  const std::string packed = folder / "houses.zipml", model = folder / "model", direct = folder / "direct";
  const Json made =
      json_of(run_process(ZIPML_PACK, Arguments{table, "-o", packed, "--bits", "6", "--json"} + as_houses));
  CHECK(made["rows"] == 600);
  CHECK(made["cols"] == 15);
  CHECK(made["label"] == "price");
  CHECK(made["warnings"].size() == 1);
  const Json trained =
      json_of(train({packed, "--epochs", "30", "--test", priced, "--save-model", model, "--json"}));
  const Json same = json_of(train(
      Arguments{table, "--bits", "6", "--epochs", "30", "--test", priced, "--save-model", direct, "--json"} +
      as_houses));
  CHECK(trained["loss_of"] == "packed samples");
  CHECK(same["loss_of"] == "rows");
  CHECK(trained["excess"].is_null());
  for (const char* key : {"rows", "cols", "bits", "stored_bits", "estimator", "levels", "model_bits", "step",
                          "store_bytes", "test"})
    CHECK(trained[key] == same[key]);
  CHECK(contents(model) == contents(direct));
  CHECK(trained["train_loss"].get<double>() == Approx(same["train_loss"].get<double>()).epsilon(0.2));
  // Stopping on other rows works without the training rows.
  const Json stopped = json_of(train({packed, "--epochs", "200", "--validation", priced, "--json"}));
  CHECK(stopped["validation"]["rmse"].get<double>() < 0.5);
  const Json shown = json_of(inspect({packed, "--json"}));
  CHECK(shown["representation"] == "variance-corrected:6,outliers=0.003");
  CHECK(shown["rows"] == 600);
  CHECK(shown["features"].size() == 15);
  CHECK(holds(inspect({packed}).out, "town=Chur"));
  for (const Arguments& more : {Arguments{"--bits", "4"}, Arguments{"--sweep"}, Arguments{"--label", "price"},
                                Arguments{"--validation", "0.2"}, Arguments{"--solver", "exact"}})
    CHECK(train(Arguments{packed} + more).code == 2);
  // Damage is found by whoever reads it.
  std::string bytes = contents(packed);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  const std::string damaged = folder.write("damaged.zipml", bytes);
  for (const Run& run : {train({damaged}), inspect({damaged})}) {
    CHECK(run.code == 1);
    CHECK(holds(run.err, "damaged"));
  }
  CHECK(run_process(ZIPML_PACK, {table, "-o", table}).code == 1);
  CHECK(contents(table) == houses(600, 1));
}

TEST_CASE("several files, and tables beyond the memory limit, are packed and trained on like one in memory",
          "[programs]") {
  const Folder folder;
  const std::string text = houses(3000, 1);
  const std::size_t head = text.find('\n') + 1, half = text.find('\n', text.size() / 2) + 1;
  const std::string whole = folder.write("houses.csv", text);
  const std::string first = folder.write("first.csv", text.substr(0, half));
  const std::string second = folder.write("second.csv", text.substr(0, head) + text.substr(half));
  const std::string a = folder / "a.zipml", b = folder / "b.zipml";
  const Json of_whole = json_of(run_process(ZIPML_PACK, Arguments{whole, "-o", a, "--json"} + as_houses));
  CHECK(of_whole["rows_in_memory"] == true);
  const Json of_parts = json_of(
      run_process(ZIPML_PACK, Arguments{first, second, "-o", b, "--json", "--threads", "2"} + as_houses));
  CHECK(of_parts["files"] == 2);
  CHECK(of_parts["rows"] == 3000);
  CHECK(contents(a) == contents(b));
  // 0.0001 GiB hold the labels, but not the cells of 3,000 rows.
  const Arguments small{"--memory-limit", "0.0001", "--scratch", folder.path().string()};
  const Json streamed =
      json_of(run_process(ZIPML_PACK, Arguments{whole, "-o", b, "--json"} + as_houses + small));
  CHECK(streamed["rows_in_memory"] == false);
  CHECK(contents(a) == contents(b));
  const std::string in_memory = folder / "memory", elsewhere = folder / "elsewhere";
  const Arguments how{"--bits", "4", "--epochs", "5", "--validation", "0.1", "--save-model"};
  const Run trained = train(Arguments{whole} + as_houses + how + Arguments{in_memory, "--json"});
  const Run limited = train(Arguments{whole} + as_houses + how + Arguments{elsewhere} + small);
  CHECK(trained.code == 0);
  CHECK(limited.code == 0);
  CHECK(contents(in_memory) == contents(elsewhere));
  CHECK(holds(limited.err, "scratch file in " + folder.path().string()));
  const Run predicted = predict(Arguments{in_memory, whole} + small), expected = predict({in_memory, whole});
  CHECK(predicted.code == 0);
  CHECK(predicted.out == expected.out);
  const std::string numbers = folder / "p.npy";
  CHECK(predict({in_memory, whole, "--output", numbers}).out.empty());
  CHECK(contents(numbers).size() == 128 + 8 * 3000);
  const Run drawn = inspect({a, "--levels", "a1"});
  CHECK(drawn.code == 0);
  CHECK(holds(drawn.out, "a1: 16 levels are used"));
  CHECK(holds(drawn.out, "####"));
  CHECK(inspect({a, "--levels", "a99"}).code == 1);
  const Run chosen =
      run_process(ZIPML_PACK, Arguments{whole, "-o", b, "--bits", "auto", "--excess", "0.05"} + as_houses);
  CHECK(chosen.code == 0);
  CHECK(holds(chosen.err, "pack: chose "));
}

TEST_CASE("rows count by the weights of a column, in training, testing and predicting", "[programs]") {
  const Folder folder;
  Uniform uniform(7);
  std::string weighted = "a,w,b,y\n", repeated = "a,b,y\n";
  for (int i = 0; i < 300; ++i) {
    const double a = uniform(), b = uniform();
    const int w = i % 4;
    const double y = (w > 1 ? 2.0 * a : -b) + 0.1 * uniform();
    weighted += number(a) + "," + std::to_string(w) + "," + number(b) + "," + number(y) + "\n";
    for (int k = 0; k < w; ++k) repeated += number(a) + "," + number(b) + "," + number(y) + "\n";
  }
  const std::string table = folder.write("weighted.csv", weighted),
                    rows = folder.write("repeated.csv", repeated);
  const std::string model = folder / "model", same = folder / "same";
  const Json by_weight = json_of(train(
      {table, "--weights", "w", "--test", table, "--solver", "exact", "--save-model", model, "--json"}));
  const Json by_row =
      json_of(train({rows, "--test", rows, "--solver", "exact", "--save-model", same, "--json"}));
  CHECK(by_weight["cols"] == 2);
  CHECK(by_weight["test"]["rmse"].get<double>() == Approx(by_row["test"]["rmse"].get<double>()));
  const Json a = json_of(inspect({model, "--json"})), b = json_of(inspect({same, "--json"}));
  for (const std::size_t k : {0u, 1u})
    CHECK(a["features"][k]["weight"].get<double>() == Approx(b["features"][k]["weight"].get<double>()));
  CHECK(json_of(predict({model, table, "--weights", "w", "--json"}))["metrics"]["rmse"].get<double>() ==
        Approx(by_row["test"]["rmse"].get<double>()));
  CHECK(json_of(predict({model, table, "--json"}))["metrics"]["rmse"].get<double>() !=
        Approx(by_row["test"]["rmse"].get<double>()));
  // In 4 bits, to the same optimum.
  const Json packed = json_of(train({table, "--weights", "w", "--bits", "4", "--epochs", "60", "--json"}));
  CHECK(packed["excess"].get<double>() < 0.02);
  CHECK(holds(train({table, "--weights", "v"}).err, "--weights"));
}

TEST_CASE("test columns go by name, and a table that lacks one is refused") {
  const Folder folder;
  const std::string table = folder.write("houses.csv", houses(300, 1));
  std::string reordered;
  for (const std::string& line : lines_of(houses(100, 3))) {
    std::vector<std::string> cells;
    std::istringstream stream(line);
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    std::reverse(cells.begin(), cells.end());
    for (std::size_t k = 0; k < cells.size(); ++k) reordered += (k > 0 ? "," : "") + cells[k];
    reordered += "\n";
  }
  const std::string test = folder.write("test.csv", houses(100, 3));
  const std::string turned = folder.write("turned.csv", reordered);
  const Json straight = json_of(train(Arguments{table, "--test", test, "--json"} + as_houses));
  const Json reversed = json_of(train(Arguments{table, "--test", turned, "--json"} + as_houses));
  CHECK(straight["test_metric"] == reversed["test_metric"]);
  CHECK(straight["test"]["r_squared"].get<double>() > 0.99);
  const Run refused =
      train(Arguments{table, "--test", folder.write("short.csv", "a1,price\n1,2\n")} + as_houses);
  CHECK(refused.code == 1);
  CHECK(holds(refused.err, "columns of the training table are missing"));
}

TEST_CASE("large numbers: the answer is right, not that of rounded numbers") {
  const Folder folder;
  std::string label, feature;
  for (int i = 0; i < 20; ++i) {
    label += std::to_string(i) + "," + std::to_string(1'700'000'000 + i) + "\n";
    feature += std::to_string(1'700'000'000 + i) + "," + std::to_string(i) + "\n";
  }
  for (const std::string& text : {label, feature}) {
    const std::string model = folder / "model";
    const Json run =
        json_of(train({folder.write("t.csv", text), "--bits", "32", "--save-model", model, "--json"}));
    CHECK(run["train_loss"].get<double>() < 1e-12);
    CHECK(run["excess"].is_null());
    CHECK(zipml::load_model(model).weights[0] == Approx(1.0).epsilon(1e-4));
    const Json predicted = json_of(predict({model, folder / "t.csv", "--json"}));
    CHECK(predicted["metrics"]["rmse"].get<double>() < 1e-4);
  }
}

TEST_CASE("labels that are all equal, one row: said, and no number that is none") {
  const Folder folder;
  for (const char* text : {"1,2,5\n3,4,5\n0,1,5\n", "1,2,5\n"}) {
    const Run run = train({folder.write("t.csv", text)});
    CHECK(run.code == 0);
    CHECK(holds(run.err, "all labels are equal"));
    CHECK_FALSE(holds(run.out + run.err, "nan"));
  }
}

TEST_CASE("a model that cannot be saved is known before training") {
  const Folder folder;
  const std::string table = folder.write("t.csv", houses(100, 1));
  for (const std::string& place : {folder / "none/m", folder.path().string(), table}) {
    const Run run = train(Arguments{table, "--save-model", place, "--json"} + as_houses);
    INFO(place);
    CHECK(run.code == 1);
    CHECK(run.err_lines() == 1);
    CHECK(run.out.empty());
  }
  CHECK(contents(table) == houses(100, 1));
  CHECK(train({"--rows", "100", "--save-model", "-"}).code == 2);
  // What a shell has opened as standard input is read too; what it has opened as a pipe can be written.
  const int in = open(table.c_str(), O_RDONLY | O_CLOEXEC);
  Run piped;
  finish(start(ZIPML_TRAIN, Arguments{"-", "--save-model", table} + as_houses, {in, -1, -1}), piped);
  close(in);
  CHECK(piped.code == 1);
  CHECK(contents(table) == houses(100, 1));
  int ends[2] = {};
  REQUIRE(pipe(ends) == 0);
  finish(start(ZIPML_TRAIN, Arguments{table, "--json", "--save-model", "/dev/stderr"} + as_houses,
               {-1, -1, ends[1]}),
         piped);
  close(ends[1]);
  CHECK(piped.code == 0);
  std::string model(100'000, '\0');
  model.resize(static_cast<std::size_t>(read(ends[0], model.data(), model.size())));
  close(ends[0]);
  CHECK(holds(model, "zipml-model 2"));
}

TEST_CASE("a wide table of few rows trains at once, with the optimum or without") {
  const Folder folder;
  std::string text;
  Uniform uniform(9);
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 3000; ++j) text += number(uniform()) + ",";
    text += std::to_string(i % 3) + "\n";
  }
  const std::string sparse = "1 1:1 100000:2\n2 5:1\n3 7:1 99999:1\n2 8:1\n1 9:3\n";
  for (const std::string& file : {folder.write("wide.csv", text), folder.write("wide.svm", sparse)}) {
    const Json run = json_of(train({file, "--bits", "4", "--epochs", "2", "--json"}));
    CHECK(run["seconds_train"].get<double>() < 60.0);
    CHECK(run["excess"].is_null());  // the optimum is 0
  }
  const Run refused = train({folder.write("wide.svm", "1 20000000:1\n"), "--memory-limit", "0.16"});
  CHECK(refused.code == 1);
  CHECK(holds(refused.err, "LoadOptions::memory_limit"));
}

TEST_CASE("numbers of options are numbers") {
  for (const char* limit : {"nan", "inf", "1e300", "-1", "0", "x"})
    CHECK(train({"--rows", "100", "t.csv", "--memory-limit", limit}).code == 2);
  for (const char* seed : {"18446744073709551616", "-1", "1.5", ""})
    CHECK(train({"--rows", "100", "--seed", seed}).code == 2);
  for (const char* share : {"0", "1", "-0.5", "nan"})
    CHECK(train({"--rows", "100", "--validation", share}).code == 2);
}

TEST_CASE("text classes: trained, predicted as text, with the margin beside") {
  const Folder folder;
  Uniform uniform(4);
  std::string text = "x,z,survived\n";
  for (int i = 0; i < 400; ++i) {
    const double x = uniform(), z = uniform();
    text += number(x) + "," + number(z) + (x + 0.2 * z > 0.0 ? ",yes\n" : ",no\n");
  }
  const std::string table = folder.write("t.csv", text), model = folder / "m";
  const Run refused = train({table});
  CHECK(refused.code == 1);
  CHECK(holds(refused.err, "the labels are text, which least-squares cannot predict"));
  const Run trained = train({table, "--loss", "ls-svm", "--save-model", model});
  CHECK(trained.code == 0);
  CHECK(holds(trained.err, "label no is -1, label yes is +1"));
  const Run predicted = predict({model, table});
  const auto lines = lines_of(predicted.out);
  REQUIRE(lines.size() == 401);
  CHECK(lines[0] == "prediction,margin");
  CHECK((holds(lines[1], "yes,") || holds(lines[1], "no,-")));
  CHECK(holds(predicted.err, "accuracy 0.9"));
}

TEST_CASE("logistic regression from a table to probabilities, from text and from a packed file",
          "[programs]") {
  const Folder folder;
  Uniform uniform(5);
  std::string text = "x,z,clicked\n";
  for (int i = 0; i < 2000; ++i) {
    const double x = uniform(), z = uniform();
    text += number(x) + "," + number(z) + (x + 0.3 * z + 0.5 * uniform() > 0.0 ? ",yes\n" : ",no\n");
  }
  const std::string table = folder.write("t.csv", text), packed = folder / "t.zipml", model = folder / "m";
  const Arguments how{"--label", "clicked", "--loss", "logistic", "--bits", "2"};
  const Json json = json_of(train(Arguments{table, "--test", table, "--save-model", model, "--json"} + how));
  CHECK(json["excess"].get<double>() < 0.002);
  CHECK(json["pilot"]["rows"] > 0);
  CHECK(json["test"]["auc"].get<double>() > 0.9);
  CHECK(json["test"]["log_loss"].get<double>() < 0.4);
  const Run predicted = predict({model, table});
  const auto lines = lines_of(predicted.out);
  REQUIRE(lines.size() == 2001);
  CHECK(lines[0] == "prediction,margin,probability of yes");
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const double probability = std::stod(lines[i].substr(lines[i].rfind(',') + 1));
    CHECK((probability > 0.5) == (lines[i].substr(0, 3) == "yes"));
  }
  CHECK(holds(predicted.err, "log loss"));
  // The same from a packed file: the pilot is that of the loss.
  REQUIRE(run_process(ZIPML_PACK, Arguments{table, "-o", packed} + how).code == 0);
  const Json mapped = json_of(train({packed, "--loss", "logistic", "--test", table, "--json"}));
  CHECK(mapped["pilot"]["rows"] == json["pilot"]["rows"]);
  CHECK(mapped["test"]["log_loss"] == json["test"]["log_loss"]);
  CHECK(holds(inspect({packed}).out, "rows for logistic"));
  const Run other = train({packed, "--loss", "ls-svm"});
  CHECK(other.code == 0);
  CHECK(holds(other.err, "without the pilot of the file: the pilot is of another loss than ls-svm"));
}

TEST_CASE("a penalty is chosen by folds or by validation rows, from text and from a packed file",
          "[programs]") {
  // Few rows of many columns, of which two count: no penalty fits the noise, a large one nothing.
  const Folder folder;
  Uniform uniform(7);
  std::string text = "y";
  for (int j = 0; j < 30; ++j) text += ",x" + std::to_string(j);
  text += "\n";
  for (int i = 0; i < 300; ++i) {
    std::string row;
    double y = 2.0 * uniform();
    for (int j = 0; j < 30; ++j) {
      const double x = uniform();
      if (j < 2) y += x;
      row += "," + number(x);
    }
    text += number(y) + row + "\n";
  }
  const std::string table = folder.write("t.csv", text), packed = folder / "t.zipml";
  const Arguments path{"--l2", "1e-4:10:6", "--label", "y", "--json"};
  const auto chosen_of = [](const Json& json) {
    int chosen = 0;
    double least = 1e9, loss = 0.0, l2 = 0.0;
    for (const Json& point : json["path"]["penalties"]) {
      least = std::min(least, point["loss"].get<double>());
      if (point["chosen"] == false) continue;
      ++chosen;
      loss = point["loss"];
      l2 = point["l2"];
    }
    CHECK(chosen == 1);
    CHECK(json["path"]["penalties"].size() == 6);
    CHECK(loss == least);
    CHECK(json["l2"] == l2);
    return l2;
  };
  for (const char* bits : {"4", "32"}) {
    const Json folds = json_of(train(Arguments{table, "--cv", "5", "--bits", bits} + path));
    CHECK(folds["path"]["folds"] == 5);
    const double l2 = chosen_of(folds);
    CHECK(l2 > 1e-3);
    CHECK(l2 < 5.0);
    for (const Json& point : folds["path"]["penalties"]) CHECK(point["standard_error"].get<double>() > 0.0);
    // The fit is the one with that penalty.
    const Json alone =
        json_of(train({table, "--bits", bits, "--l2", std::to_string(l2), "--label", "y", "--json"}));
    CHECK(alone["train_loss"].get<double>() == Approx(folds["train_loss"].get<double>()).epsilon(1e-3));
    CHECK(alone["path"].is_null());
    const Json simplest = json_of(train(Arguments{table, "--cv", "5", "--simplest", "--bits", bits} + path));
    CHECK(simplest["l2"].get<double>() >= l2);
    const Json held_out = json_of(train(Arguments{table, "--validation", "0.3", "--bits", bits} + path));
    (void)chosen_of(held_out);
    CHECK(held_out["path"]["folds"].is_null());
  }
  REQUIRE(run_process(ZIPML_PACK, {table, "-o", packed, "--label", "y", "--bits", "6"}).code == 0);
  const Json mapped = json_of(train({packed, "--cv", "5", "--l2", "1e-4:10:6", "--json"}));
  CHECK(chosen_of(mapped) > 1e-3);
  const Run shown = train({table, "--label", "y", "--cv", "3", "--l2", "0.01"});
  CHECK(shown.code == 0);
  CHECK(holds(shown.out, "std. error"));
  CHECK(holds(shown.out, "<- taken"));
}

TEST_CASE("classes count by their weights: balanced, or as they are given", "[programs]") {
  // One row in twenty is a yes: without weights nearly all are taken for no.
  const Folder folder;
  Uniform uniform(9);
  std::string text = "x,z,rare\n", repeated = text;
  int yes = 0, all = 2000;
  for (int i = 0; i < all; ++i) {
    const double x = uniform(), z = uniform();
    const bool rare = x + 0.8 * uniform() > 0.62;
    yes += rare;
    const std::string row = number(x) + "," + number(z) + (rare ? ",yes\n" : ",no\n");
    text += row;
    for (int k = 0; k < (rare ? 3 : 1); ++k) repeated += row;
  }
  CHECK(yes > 50);
  const std::string table = folder.write("t.csv", text), three = folder.write("r.csv", repeated);
  const Arguments how{"--label", "rare", "--loss", "logistic", "--solver", "exact", "--json"};
  const auto predicted_yes = [&](const Arguments& weights) {
    const std::string model = folder / "m";
    (void)json_of(train(Arguments{table, "--save-model", model} + how + weights));
    int count = 0;
    for (const std::string& line : lines_of(predict({model, table}).out)) count += line.substr(0, 3) == "yes";
    return count;
  };
  const int plain = predicted_yes({}), balanced = predicted_yes({"--class-weights", "balanced"});
  INFO(yes << " are yes, " << plain << " and " << balanced << " are taken for it");
  CHECK(plain < yes);
  CHECK(balanced > 2 * yes);
  // A weight of 3 is three rows.
  const Json weighted = json_of(train(Arguments{table, "--class-weights", "yes:3"} + how));
  const Json rows = json_of(train(Arguments{three} + how));
  CHECK(weighted["train_loss"].get<double>() == Approx(rows["train_loss"].get<double>()).epsilon(1e-3));
  // On few bits too, and of several classes.
  const Json few = json_of(train({table, "--label", "rare", "--loss", "logistic", "--bits", "3",
                                  "--class-weights", "balanced", "--json"}));
  CHECK(few["excess"].get<double>() < 0.01);
  for (const char* wrong : {"maybe:2", "yes", "yes:-1", "yes:x"})
    CHECK(train({table, "--label", "rare", "--loss", "logistic", "--class-weights", wrong}).code == 1);
  CHECK(train({"--class-weights", "balanced"}).code == 2);
}

TEST_CASE("a packed file keeps class weights: the same model as from the text", "[programs]") {
  const Folder folder;
  Uniform uniform(10);
  std::string text = "x,z,rare\n";
  for (int i = 0; i < 2000; ++i) {
    const double x = uniform(), z = uniform();
    text += number(x) + "," + number(z) + (x + 0.8 * uniform() > 0.62 ? ",yes\n" : ",no\n");
  }
  const std::string table = folder.write("t.csv", text), packed = folder / "t.zipml";
  const auto model_of = [&](const Arguments& arguments) {
    const std::string model = folder / "m";
    (void)json_of(train(arguments + Arguments{"--save-model", model, "--json"}));
    return zipml::load_model(model);
  };
  const Arguments label{"--label", "rare"};
  for (const std::string loss : {"logistic", "ls-svm"})
    for (const std::string weights : {"balanced", "yes:5"}) {
      INFO(loss << " " << weights);
      const Arguments how{"--loss", loss, "--bits", "4"}, weighing{"--class-weights", weights};
      const Json said =
          json_of(run_process(ZIPML_PACK, Arguments{table, "-o", packed, "--json"} + label + how + weighing));
      CHECK(said["weighted"] == true);
      const zipml::LinearModel of_text = model_of(Arguments{table} + label + how + weighing);
      const zipml::LinearModel of_file = model_of({packed, "--loss", loss});
      REQUIRE(of_file.weights.size() == 2);
      for (int j = 0; j < 2; ++j) CHECK(of_file.weights[j] == of_text.weights[j]);
      CHECK(of_file.intercept == of_text.intercept);
      const zipml::LinearModel plain = model_of(Arguments{table} + label + how);
      CHECK(std::fabs(plain.intercept - of_text.intercept) > 0.1);
    }
  // Rows that refine a file count as they did in it.
  const Json refined = json_of(train({packed, "--loss", "ls-svm", "--refine", "--full", table, "--json"}));
  const Json exact = json_of(
      train(Arguments{table, "--loss", "ls-svm", "--solver", "exact", "--json", "--class-weights", "yes:5"} +
            label));
  CHECK(refined["train_loss"].get<double>() == Approx(exact["train_loss"].get<double>()).epsilon(1e-6));
  CHECK(run_process(ZIPML_PACK, Arguments{table, "-o", packed, "--class-weights", "balanced"} + label).code ==
        2);
  const Run wrong = run_process(
      ZIPML_PACK, Arguments{table, "-o", packed, "--loss", "logistic", "--class-weights", "maybe:2"} + label);
  CHECK(wrong.code == 1);
  CHECK(holds(wrong.err, "there is no such class for --class-weights"));
}

TEST_CASE("more than two classes: trained, tested, predicted, inspected, and packed", "[programs]") {
  const Folder folder;
  Uniform uniform(6);
  std::string text = "x,z,kind\n";
  for (int i = 0; i < 1500; ++i) {
    const double x = uniform(), z = uniform();
    text += number(x) + "," + number(z) + (x > 0.3 ? ",ash\n" : z > 0.0 ? ",birch\n" : ",\"c,d\"\n");
  }
  const std::string table = folder.write("t.csv", text), model = folder / "m", packed = folder / "t.zipml";
  const Arguments how{"--label", "kind", "--loss", "logistic", "--l2", "0.01"};
  const Run trained = train(Arguments{table, "--test", table, "--save-model", model, "--json"} + how);
  CHECK(holds(trained.err, "3 classes, a model for each against the rest: ash, birch, c,d"));
  const Json json = json_of(trained);
  CHECK(json["classes"]["labels"] == Json({"ash", "birch", "c,d"}));
  CHECK(json["test"]["accuracy"].get<double>() > 0.85);
  CHECK(json["excess"].get<double>() < 0.05);
  int rows = 0, right = 0;
  for (std::size_t a = 0; a < 3; ++a)
    for (std::size_t b = 0; b < 3; ++b) {
      const int count = json["classes"]["confusion"][a][b].get<int>();
      rows += count;
      right += a == b ? count : 0;
    }
  CHECK(rows == 1500);
  CHECK(json["test"]["accuracy"].get<double>() == Approx(right / 1500.0));
  const Run predicted = predict({model, table});
  const auto lines = lines_of(predicted.out);
  REQUIRE(lines.size() == 1501);
  CHECK(lines[0] == "prediction,probability of ash,probability of birch,\"probability of c,d\"");
  CHECK(holds(predicted.err, "accuracy"));
  CHECK(holds(inspect({model}).out, "3 classes, a model for each against the rest"));
  CHECK(Json::parse(inspect({model, "--json"}).out).size() == 3);
  REQUIRE(run_process(ZIPML_PACK, Arguments{table, "-o", packed, "--label", "kind", "--bits", "6"}).code ==
          0);
  const Json mapped =
      json_of(train({packed, "--loss", "logistic", "--l2", "0.01", "--test", table, "--json"}));
  CHECK(mapped["test"]["accuracy"].get<double>() ==
        Approx(json["test"]["accuracy"].get<double>()).margin(0.02));
  // What is of two classes says so.
  CHECK(holds(train(Arguments{table, "--sweep"} + how).err, "--sweep is for labels of two classes"));
  CHECK(json_of(train(Arguments{table, "--bits", "auto", "--json"} + how))["excess"].get<double>() < 0.012);
}

TEST_CASE("early stopping keeps the best weights, the history is a file, a saved model is a start") {
  const Folder folder;
  const std::string table = folder.write("houses.csv", houses(300, 1));
  const std::string model = folder / "m", history = folder / "h.csv";
  const Json run = json_of(train(Arguments{table, "--validation", "0.3", "--patience", "3", "--epochs",
                                           "2000", "--history", history, "--save-model", model, "--json",
                                           "--test", folder.write("test.csv", houses(100, 2))} +
                                 as_houses));
  CHECK(run["epochs"].get<int>() < 2000);
  CHECK(run["status"] == "stopped");
  const auto lines = lines_of(contents(history));
  CHECK(lines[0] == "epoch,seconds,loss,excess,validation_loss,test_rmse");
  CHECK(lines.size() == 1u + run["epochs"].get<unsigned>());
  double lowest = 1e300;
  for (std::size_t i = 1; i < lines.size(); ++i) {
    std::istringstream cells(lines[i]);
    std::string cell;
    for (int k = 0; k < 5; ++k) std::getline(cells, cell, ',');
    lowest = std::min(lowest, std::stod(cell));
  }
  CHECK(run["validation_loss"].get<double>() == Approx(lowest));
  CHECK(run["kept_epoch"].get<int>() + 3 == run["epochs"].get<int>());
  if (std::system("command -v gnuplot > /dev/null") == 0) {
    const std::string picture = folder / "h.svg";
    CHECK(train(Arguments{table, "--validation", "0.3", "--epochs", "5", "--history", picture} + as_houses)
              .code == 0);
    CHECK(holds(contents(picture), "<svg"));
    CHECK(holds(contents(picture), "validation"));
  } else {
    WARN("skipped: gnuplot is not installed");
  }
  CHECK(train(Arguments{table, "--history", folder / "h.png"} + as_houses).code == 2);
  // One epoch from there is no worse than what twenty reach from nothing.
  const Json again =
      json_of(train(Arguments{table, "--start", model, "--epochs", "1", "--json"} + as_houses));
  const Json anew = json_of(train(Arguments{table, "--epochs", "1", "--pilot", "off", "--json"} + as_houses));
  CHECK(again["train_loss"].get<double>() < anew["train_loss"].get<double>());
  const Json exact =
      json_of(train(Arguments{table, "--solver", "exact", "--save-model", model, "--json"} + as_houses));
  CHECK(exact["status"] == "solved");
  CHECK(exact["excess"].get<double>() == Approx(0.0).margin(1e-12));
  CHECK(json_of(predict({model, table, "--json"}))["metrics"]["rmse"].get<double>() < 0.1);
}

TEST_CASE("an interrupt ends after the epoch with what was reached") {
  const Folder folder;
  const std::string model = folder / "m";
  const int out = open((folder / "out").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int err = open((folder / "err").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const pid_t child =
      start(ZIPML_TRAIN, {"--rows", "20000", "--epochs", "1000000", "--save-model", model}, {-1, out, err});
  // Until the second epoch stands in the output: then training has begun for sure.
  for (int k = 0; k < 6000 && !holds(contents(folder / "out"), "\n    2 "); ++k)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  REQUIRE(kill(child, SIGINT) == 0);
  Run run;
  finish(child, run);
  close(out);
  close(err);
  CHECK(run.signal == 0);
  CHECK(run.code == 130);
  CHECK(holds(contents(folder / "out"), "stopped: loss"));
  CHECK(holds(contents(folder / "err"), "interrupted after epoch"));
  CHECK(zipml::load_model(model).cols() == 90);
}

TEST_CASE("predict: bad models and files are errors of one line; standard input and output files") {
  const Folder folder;
  const std::string table = folder.write("t.csv", "a,b,y\n1,2,3\n2,1,6\n5,5,8\n7,1,16\n"),
                    model = folder / "m";
  REQUIRE(train({table, "--bits", "32", "--save-model", model}).code == 0);
  for (const Arguments& arguments :
       {Arguments{folder / "none", table}, Arguments{table, table}, Arguments{model, folder / "none"},
        Arguments{model, folder.write("short.csv", "a,c\n1,2\n")}, Arguments{model, table, "--id", "nobody"},
        Arguments{model, table, "--output", folder / "none/p"}, Arguments{model, table, "--output", model}}) {
    const Run run = predict(arguments);
    INFO(run.err);
    CHECK(run.code == 1);
    CHECK(run.out.empty());
    CHECK(run.err_lines() == 1);
  }
  CHECK(zipml::load_model(model).cols() == 2);
  CHECK(predict({model}).code == 2);
  const Run piped = predict({model, "-"}, "b,a\n2,1\n");
  CHECK(lines_of(piped.out).size() == 2);
  REQUIRE(predict({model, table, "--output", folder / "p"}).code == 0);
  CHECK(lines_of(contents(folder / "p")).size() == 5);
}

TEST_CASE("several classes together go from text to a packed file, a model and predictions") {
  const Folder folder;
  const std::string file = folder.write("colours.csv", three_classes(900, 1));
  const std::string test = folder.write("test.csv", three_classes(600, 2));
  const Run packing = run_process(
      ZIPML_PACK, {file, "--label", "colour", "--loss", "softmax", "--bits", "4", "-o", folder / "p.zipml"});
  REQUIRE(packing.code == 0);
  const Json packed = json_of(train({folder / "p.zipml", "--loss", "softmax", "--test", test, "--l2",
                                     "1e-4:1:3", "--cv", "4", "--json", "--save-model", folder / "m"}));
  CHECK(packed["loss_of"] == "packed samples");
  CHECK(packed["path"]["penalties"].size() == 3);
  CHECK(packed["test"]["accuracy"].get<double>() > 0.7);
  const Run predicted = predict({folder / "m", test});
  CHECK(predicted.code == 0);
  CHECK(holds(predicted.out, "probability"));
  CHECK(holds(predicted.out, "green"));
  CHECK(holds(inspect({folder / "m"}).out, "3 classes, a model for each, trained together"));
  // One against the rest from the same file, which has no pilot.
  CHECK(train({folder / "p.zipml", "--loss", "logistic", "--test", test}).code == 0);
}

TEST_CASE("a packed file is refined with the rows that it was packed from") {
  const Folder folder;
  const std::string table = folder.write("houses.csv", houses(2000, 1));
  const std::string packed = folder / "houses.zipml";
  REQUIRE(run_process(ZIPML_PACK, Arguments{table, "-o", packed, "--bits", "2"} + as_houses).code == 0);
  const Json refined =
      json_of(train(Arguments{packed, "--refine", "--full", table, "--json", "--test", table}));
  const Json exact =
      json_of(train(Arguments{table, "--solver", "exact", "--json", "--test", table} + as_houses));
  CHECK(refined["status"] == "converged");
  CHECK(refined["train_loss"].get<double>() == Approx(exact["train_loss"].get<double>()).epsilon(1e-6));
  CHECK(refined["test"]["rmse"].get<double>() == Approx(exact["test"]["rmse"].get<double>()).epsilon(1e-3));
  CHECK(train({packed, "--refine"}).code == 2);
  const std::string others = folder.write("others.csv", houses(1999, 1));
  const Run wrong = train({packed, "--refine", "--full", others});
  CHECK(wrong.code == 1);
  CHECK(holds(wrong.err, "the rows are not those that the store was packed from"));
}

TEST_CASE("a packed file of several classes is refined with its rows, and predicts") {
  const Folder folder;
  const std::string file = folder.write("colours.csv", three_classes(900, 1));
  const std::string test = folder.write("test.csv", three_classes(600, 2));
  const std::string packed = folder / "p.zipml";
  REQUIRE(
      run_process(ZIPML_PACK, {file, "--label", "colour", "--bits", "2", "--loss", "logistic", "-o", packed})
          .code == 0);
  const Arguments how{"--loss", "logistic", "--l2", "1e-3", "--refine", "--test", test, "--json"};
  const Json refined = json_of(train(Arguments{packed, "--full", file, "--save-model", folder / "m"} + how));
  const Json from_rows = json_of(train(Arguments{file, "--label", "colour", "--bits", "3"} + how));
  CHECK(refined["status"] == "converged");
  CHECK(refined["train_loss"].get<double>() == Approx(from_rows["optimum_loss"].get<double>()).epsilon(2e-6));
  CHECK(refined["test"]["log_loss"].get<double>() ==
        Approx(from_rows["test"]["log_loss"].get<double>()).epsilon(1e-3));
  const Run predicted = predict({folder / "m", test});
  CHECK(predicted.code == 0);
  CHECK(holds(predicted.out, "green"));
  const Run wrong =
      train(Arguments{packed, "--full", folder.write("others.csv", three_classes(903, 1))} + how);
  CHECK(wrong.code == 1);
  CHECK(holds(wrong.err, "the labels are not those") + holds(wrong.err, "the rows are not those") > 0);
}
