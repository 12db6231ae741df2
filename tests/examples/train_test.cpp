// The program `train` as a user runs it: a process with arguments, exit code, stdout and stderr.

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>
#include <zipml/analysis/predict.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/io/class_model_file.hpp>
#include <zipml/io/load.hpp>
#include <zipml/io/model_file.hpp>

#include "catch.hpp"
#include "examples/process.hpp"
#include "examples/three_classes.hpp"

using namespace zipml;
using Json = nlohmann::json;

namespace {

Run train(const Arguments& arguments, const std::string& input = {}) {
  return run_process(ZIPML_TRAIN, arguments, input);
}

std::string joined(const Arguments& arguments) {
  std::string text = "train";
  for (const std::string& argument : arguments) text += " '" + argument + "'";
  return text;
}

/// The one JSON object of a run with --json that succeeded, silent on stderr.
Json json_of(Arguments arguments, const std::string& input = {}) {
  arguments.push_back("--json");
  const Run run = train(arguments, input);
  INFO(joined(arguments));
  INFO(run.err);
  REQUIRE(run.code == 0);
  return Json::parse(run.out);  // throws when anything follows the object
}

Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

const Arguments small{"--rows", "2000", "--epochs", "3"};

/// A usage error: exit 2, nothing on stdout, the reason and the way to the help on stderr.
void refuses(const Arguments& arguments, const std::string& reason) {
  const Run run = train(arguments);
  INFO(joined(arguments));
  INFO(run.err);
  CHECK(run.code == 2);
  CHECK(run.out.empty());
  CHECK(run.err.substr(0, 7) == "train: ");
  CHECK(holds(run.err, reason));
  CHECK(holds(run.err, "--help"));
}

/// A run that fails: exit 1, nothing on stdout, one line on stderr with the reason.
void fails(const Arguments& arguments, const std::string& reason, const std::string& input = {}) {
  const Run run = train(arguments, input);
  INFO(joined(arguments));
  INFO(run.err);
  CHECK(run.code == 1);
  CHECK(run.out.empty());
  CHECK(run.err_lines() == 1);
  CHECK(run.err.substr(0, 7) == "train: ");
  CHECK(holds(run.err, reason));
}

/// Samples of three features as text: label = 2 a - b + 3 (for `classes`, 7 where that is positive, else 3)
/// with a little noise.
struct Table {
  struct Row {
    std::string label;
    std::string features[3];
  };
  std::vector<Row> rows;

  explicit Table(int n, bool classes = false, std::uint32_t state = 1) {
    const auto uniform = [&state] {
      state = state * 1664525u + 1013904223u;
      return static_cast<double>(state >> 8) / 16777216.0 - 0.5;
    };
    for (int i = 0; i < n; ++i) {
      const double a = uniform(), b = uniform(), c = uniform();
      const double y = 2.0 * a - b + 0.1 * uniform();
      rows.push_back({classes ? (y > 0.0 ? "7" : "3") : number(y + 3.0), {number(a), number(b), number(c)}});
    }
  }

  static std::string number(double value) {
    char digits[32];
    std::snprintf(digits, sizeof digits, "%.5f", value);
    return digits;
  }
  std::string libsvm() const {
    std::string text;
    for (const Row& row : rows)
      text += row.label + " 1:" + row.features[0] + " 2:" + row.features[1] + " 3:" + row.features[2] + "\n";
    return text;
  }
  std::string csv() const {
    std::string text;
    for (const Row& row : rows)
      text += row.features[0] + "," + row.features[1] + "," + row.features[2] + "," + row.label + "\n";
    return text;
  }
  /// With a header, the label in the second column.
  std::string csv_by_name() const {
    std::string text = "width,price,height,depth\n";
    for (const Row& row : rows)
      text += row.features[0] + "," + row.label + "," + row.features[1] + "," + row.features[2] + "\n";
    return text;
  }
};

bool has_avx2() { return zipml::available(zipml::Isa::avx2); }

}  // namespace

TEST_CASE("train --help and --version: on stdout, exit 0") {
  const Run help = train({"--help"});
  CHECK(help.code == 0);
  CHECK(help.err.empty());
  for (const char* option :
       {"FILE",   "--format", "--label",  "--test",       "--memory-limit", "--rows",
        "--loss", "--bits",   "--levels", "--rounding",   "--estimator",    "--model-bits",
        "--l2",   "--l1",     "--epochs", "--batch",      "--step",         "--seed",
        "--isa",  "--sweep",  "--json",   "--save-model", "--version"}) {
    INFO(option);
    CHECK(holds(help.out, option));
  }
  const Run version = train({"--version"});
  CHECK(version.code == 0);
  CHECK(version.err.empty());
  CHECK(version.out == std::string("train (zipml ") + ZIPML_VERSION + ")\n");
}

TEST_CASE("train: options that do not exist or are out of range are usage errors") {
  refuses({"--bogus"}, "--bogus");
  refuses({"one.csv", "two.csv"}, "two.csv");
  const std::vector<Arguments> cases{{"--bits", "9"},
                                     {"--bits", "0"},
                                     {"--bits"},
                                     {"--model-bits", "16"},
                                     {"--rows", "1"},
                                     {"--rows", "-5"},
                                     {"--rows", "1e3"},
                                     {"--rows", "99999999999999999999"},
                                     {"--epochs", "0"},
                                     {"--epochs", "1.5"},
                                     {"--batch", "0"},
                                     {"--batch", "-1"},
                                     {"--step", "0"},
                                     {"--step", "-0.1"},
                                     {"--step", "x"},
                                     {"--l2", "-1"},
                                     {"--l2", "x"},
                                     {"--l2", "1:2"},
                                     {"--l2", "0:1:5"},
                                     {"--l2", "1e-300:1:5"},
                                     {"--l2", "2:1:5"},
                                     {"--l2", "1e-3:1:1"},
                                     {"--l2", "1e-3:1:2.5"},
                                     {"--cv", "1"},
                                     {"--l1", "-1"},
                                     {"--seed", "abc"},
                                     {"--loss", "cubic"},
                                     {"--levels", "table"},
                                     {"--rounding", "up"},
                                     {"--estimator", "best"},
                                     {"--outliers", "-0.1"},
                                     {"--outliers", "0.5"},
                                     {"--safety", "none"},
                                     {"--excess", "0"},
                                     {"--format", "xml"},
                                     {"--memory-limit", "0"},
                                     {"--bits", "4", "--bits", "8"}};
  for (const Arguments& arguments : cases) refuses(arguments, arguments[0]);
}

TEST_CASE("train: combinations that make no sense are usage errors that say why") {
  refuses({"--sweep", "--bits", "4"}, "--sweep runs 32 bits and every width from 1 to 8");
  refuses({"--sweep", "--estimator", "full"}, "--sweep runs 32 bits and every width from 1 to 8");
  for (const char* estimator : {"double-sampling", "symmetrized", "full"})
    refuses({"--rounding", "nearest", "--estimator", estimator}, "--rounding nearest makes all draws equal");
  refuses({"--estimator", "full", "--bits", "4"}, "--estimator full reads float32 samples");
  for (const char* estimator : {"naive", "double-sampling", "symmetrized"})
    refuses({"--bits", "32", "--estimator", estimator}, std::string("leave out --estimator ") + estimator);
  refuses({"--bits", "32", "--rounding", "nearest"}, "and --rounding nearest");
  refuses({"--error-feedback"}, "--error-feedback needs a rounded channel");
  refuses({"--channel-levels", "optimal", "--model-bits", "32"}, "--channel-levels needs a rounded channel");
  refuses({"--gradient-bits", "2", "--error-feedback", "--channel-scaling", "norm"},
          "nothing of most vectors");
  refuses({"--gradient-bits", "2", "--error-feedback", "--channel-levels", "optimal"},
          "leave out --error-feedback");
  refuses({"--bits", "32", "--outliers", "0.01"}, "--outliers needs packed samples");
  refuses({"--bits", "32", "--fresh"}, "--fresh needs packed samples");
  refuses({"--fresh", "--rounding", "nearest"}, "--fresh draws anew");
  refuses({"--levels", "lloyd-max", "--rounding", "stochastic"}, "Lloyd-Max levels end inside the data");
  refuses({"--levels", "lloyd-max", "--estimator", "sum-code"}, "--rounding nearest makes all draws equal");
  refuses({"--levels", "lloyd-max", "--fresh"}, "--fresh draws anew");
  refuses({"--levels", "optimal", "--bits", "32"}, "--levels needs packed samples");
  refuses({"--bits", "auto", "--levels", "optimal"}, "leave out --levels");
  refuses({"--excess", "0.1"}, "--excess says what is acceptable to --bits auto");
  for (const char* option : {"--estimator", "--rounding", "--outliers"})
    refuses({"--bits", "auto", option,
             option == std::string("--outliers")   ? "0.1"
             : option == std::string("--rounding") ? "nearest"
                                                   : "naive"},
            std::string("leave out ") + option);
  refuses({"--bits", "auto", "--sweep"}, "leave out --sweep");
  refuses({"--l2", "1e-3:1:4"}, "add --cv FOLDS, --validation, or");
  refuses({"--estimator", "polynomial-3"}, "is for --loss logistic, hinge and squared-hinge");
  refuses({"--estimator", "polynomial-3", "--loss", "huber"}, "is for --loss logistic");
  refuses({"--range", "3"}, "--range is of --estimator polynomial-3");
  refuses({"--estimator", "refetch-l1", "--loss", "logistic"}, "decides at the kink");
  refuses({"--estimator", "refetch-l1", "--loss", "hinge", "--pilot", "100"}, "has no use for --pilot");
  refuses({"--simplest"}, "--simplest is about --cv");
  refuses({"--cv", "5", "--validation", "0.2"}, "leave out --validation");
  refuses({"--cv", "5", "--sweep"}, "leave out --sweep");
  refuses({"--pilot", "many"}, "--pilot");
  refuses({"--pilot", "100", "--bits", "32"}, "--pilot needs packed samples");
  refuses({"--pilot", "100", "--fresh"}, "--fresh draws anew");
  refuses({"--sweep", "--save-model", "x"}, "--save-model saves one model");
  refuses({"--format", "csv"}, "--format needs a FILE");
  refuses({"--label", "1"}, "--label needs a FILE");
  refuses({"--test", "x"}, "--test needs a FILE");
  refuses({"--memory-limit", "1"}, "--memory-limit needs a FILE");
  refuses({"--rows", "100", "x"}, "--rows sizes the generated set");
  refuses({"-", "--test", "-"}, "can be standard input");
}

TEST_CASE("train: a file that cannot be read, or an instruction set that does not exist") {
  const Folder folder;
  fails({folder / "none.csv"}, "none.csv: cannot open: No such file or directory");
  fails({folder / ""}, "directory");
  fails({folder.write("empty", "")}, "no data");
  const std::string good = folder.write("good.csv", Table(50).csv());
  fails({good, "--test", folder / "none.csv"}, "none.csv: cannot open");
  fails({good, "--save-model", folder / "no/such/folder/model", "--json"}, "cannot write");
  const Run isa = train(small + Arguments{"--isa", "bogus"});
  CHECK(isa.code != 0);
  CHECK(isa.signal == 0);
  CHECK(isa.out.empty());
  for (const char* part : {"train: ", "bogus", "auto", "scalar"}) CHECK(holds(isa.err, part));
}

TEST_CASE("train: what is wrong in a file is told with file, line and column") {
  const Folder folder;
  const std::string csv = folder.write("bad.csv", "a,b\n1,2\n3,x\n");
  fails({csv}, csv + ":3:3: label (field 2, \"b\") is not a number");
  const std::string libsvm = folder.write("bad.svm", "1 1:1\n2 0:1\n");
  fails({libsvm}, libsvm + ":2:3: feature index is zero");
  fails({"-"}, ":2:3: ", "1,2\n3,\n");
  // Test rows with more columns than were trained on: of LIBSVM they are passed over, aloud.
  const std::string narrow = folder.write("narrow.svm", "1 1:1 2:1\n2 1:2 2:3\n3 1:1 2:5\n");
  const std::string wide = folder.write("wide.svm", "1 1:1 2:1\n1 1:1 5:1\n");
  const Run wider = train({narrow, "--test", wide});
  CHECK(wider.code == 0);
  CHECK(holds(wider.err, wide + ": 1 line has a feature index beyond the 2 features of the training table"));
  const std::string good = folder.write("good.csv", Table(20).csv());
  const std::string other = folder.write("other.csv", "1,2\n");
  fails({good, "--test", other}, other + ":1:1: wrong number of columns");
  fails({good, "--label", "9"}, "label column is out of range");
  fails({good, "--label", "price"}, "no header");
  fails({good, "--memory-limit", "1e-8"}, good);
}

TEST_CASE("train --json: exactly one object with the documented keys, of the right types") {
  const Json run = json_of(small);
  REQUIRE(run.is_object());
  std::set<std::string> keys;
  for (const auto& item : run.items()) keys.insert(item.key());
  CHECK(keys == std::set<std::string>{"rows",
                                      "cols",
                                      "loss",
                                      "bits",
                                      "stored_bits",
                                      "estimator",
                                      "levels",
                                      "rounding",
                                      "outliers",
                                      "model_bits",
                                      "gradient_bits",
                                      "error_feedback",
                                      "channel_scaling",
                                      "channel_levels",
                                      "residual_levels",
                                      "isa",
                                      "threads",
                                      "seed",
                                      "l2",
                                      "l1",
                                      "step",
                                      "epochs",
                                      "batch",
                                      "test_rows",
                                      "samples_moved",
                                      "model_moved",
                                      "gradient_moved",
                                      "store_bytes",
                                      "label_bytes",
                                      "processes",
                                      "exchange",
                                      "compression",
                                      "train_loss",
                                      "loss_of",
                                      "optimum_loss",
                                      "excess",
                                      "test_metric_name",
                                      "label",
                                      "optimum_test_metric",
                                      "classes",
                                      "test",
                                      "validation_rows",
                                      "validation_loss",
                                      "validation",
                                      "kept_epoch",
                                      "interrupted",
                                      "warnings",
                                      "test_metric",
                                      "seconds_load",
                                      "seconds_quantize",
                                      "seconds_train",
                                      "seconds_per_epoch",
                                      "speedup",
                                      "pilot",
                                      "path",
                                      "refetched",
                                      "status",
                                      "advice",
                                      "full_passes",
                                      "packed_passes",
                                      "tolerance",
                                      "refinement"});
  for (const char* key : {"rows", "cols", "bits", "model_bits", "gradient_bits", "threads", "seed", "epochs",
                          "batch", "test_rows", "store_bytes", "label_bytes"}) {
    INFO(key);
    CHECK(run[key].is_number_integer());
  }
  for (const char* key :
       {"stored_bits", "l2", "l1", "step", "compression", "train_loss", "optimum_loss", "excess",
        "test_metric", "seconds_load", "seconds_quantize", "seconds_train", "seconds_per_epoch"}) {
    INFO(key);
    CHECK(run[key].is_number());
    CHECK(run[key].get<double>() >= 0.0);
  }
  for (const char* key : {"loss", "estimator", "levels", "rounding", "isa", "test_metric_name", "status"}) {
    INFO(key);
    CHECK(run[key].is_string());
  }
  CHECK(run["outliers"] == 0.003);
  CHECK(run["residual_levels"] == 31);
  for (const char* key : {"speedup", "advice", "path", "refetched"}) {
    INFO(key);
    CHECK(run[key].is_null());
  }
}

TEST_CASE("train --json: values follow from the options and from each other") {
  const Json run = json_of(small);
  CHECK(run["rows"] == 2000);
  CHECK(run["cols"] == 90);
  CHECK(run["test_rows"] == 222);
  CHECK(run["loss"] == "least-squares");
  CHECK(run["bits"] == 4);
  CHECK(std::fabs(run["stored_bits"].get<double>() - 4.144) < 1e-9);  // 6 outliers of 48 bits in 2,000 values
  CHECK(run["estimator"] == "variance-corrected");
  CHECK(run["levels"] == "uniform");
  CHECK(run["rounding"] == "stochastic");
  CHECK(run["model_bits"] == 8);  // batch 64
  CHECK(run["gradient_bits"] == 32);
  CHECK(run["threads"] == 1);
  CHECK(run["seed"] == 1);
  CHECK(run["epochs"] == 3);
  CHECK(run["batch"] == 64);
  CHECK(run["label_bytes"] == 8000);
  CHECK(run["test_metric_name"] == "rmse");
  CHECK(run["status"] == "completed");
  const double loss = run["train_loss"], optimum = run["optimum_loss"], excess = run["excess"];
  CHECK(excess > 0.0);
  CHECK(std::fabs(excess - (loss - optimum) / optimum) < 1e-9);
  CHECK(run["seconds_per_epoch"].get<double>() <= run["seconds_train"].get<double>());

  const auto check = [&](const Arguments& arguments, int bits, double stored, const char* estimator) {
    const Run result =
        train(small + arguments + Arguments{"--json"});  // few bits may end as indefinite, exit 1
    INFO(joined(arguments));
    REQUIRE((result.code == 0 || result.code == 1));
    const Json json = Json::parse(result.out);
    CHECK(json["bits"] == bits);
    CHECK(std::fabs(json["stored_bits"].get<double>() - stored) < 1e-9);
    CHECK(json["estimator"] == estimator);
    const double bytes = json["store_bytes"];
    CHECK(std::fabs(json["compression"].get<double>() - 4.0 * 2000 * 90 / bytes) < 1e-9);
    CHECK(bytes >= 2000 * 90 * stored / 8.0);
    CHECK(bytes <= 1.03 * 2000 * 90 * stored / 8.0 + 12 * 90);  // and a d-vector or three
    return json;
  };
  for (int bits = 2; bits <= 8; ++bits) {
    const Arguments width{"--bits", std::to_string(bits), "--outliers", "0", "--estimator"};
    check(width + Arguments{"double-sampling"}, bits, bits + 2.0, "double-sampling");
    check(width + Arguments{"sum-code"}, bits, bits + 1.0, "sum-code");
    check(width + Arguments{"variance-corrected"}, bits, bits, "variance-corrected");
    check(width + Arguments{"naive"}, bits, bits, "naive");
    check({"--bits", std::to_string(bits)}, bits, bits + 0.144, "variance-corrected");
  }
  // One interval: the draws are all there is.
  check({"--bits", "1", "--estimator", "double-sampling", "--outliers", "0"}, 1, 2.0, "double-sampling");
  check({"--estimator", "symmetrized"}, 4, 6.144, "symmetrized");
  check({"--fresh"}, 4, 4.144, "variance-corrected");
  const Json rounded = check({"--rounding", "nearest"}, 4, 4.144, "naive");
  CHECK(rounded["rounding"] == "nearest");
  for (const Arguments& arguments : {Arguments{"--bits", "32"}, Arguments{"--estimator", "full"}}) {
    const Json unquantized = check(arguments, 32, 32.0, "full");
    CHECK(unquantized["levels"].is_null());
    CHECK(unquantized["rounding"].is_null());
    CHECK(unquantized["compression"] == 1.0);
    CHECK(unquantized["pilot"].is_null());
    CHECK(unquantized["excess"] < json_of(small + Arguments{"--pilot", "off"})["excess"]);
  }
  // A table of 2^b floats a column: what check allows for is less.
  const auto fitted = [&](const Arguments& arguments, const char* levels, const char* estimator) {
    const Json json = json_of(small + Arguments{"--bits", "3", "--levels", levels} + arguments);
    CHECK(json["levels"] == levels);
    CHECK(json["estimator"] == estimator);
    CHECK(json["store_bytes"].get<double>() >= 2000 * 90 * 3.144 / 8.0 + 90 * 8 * 4);
    return json;
  };
  const Json optimal = fitted({}, "optimal", "variance-corrected");
  CHECK(optimal["rounding"] == "stochastic");
  const Json uniform = json_of(small + Arguments{"--bits", "3"});
  CHECK(optimal["excess"].get<double>() < 0.7 * uniform["excess"].get<double>());
  fitted({"--estimator", "sum-code"}, "optimal", "sum-code");
  fitted({"--estimator", "double-sampling"}, "optimal", "double-sampling");
  fitted({"--fresh"}, "optimal", "variance-corrected");
  fitted({"--rounding", "nearest"}, "optimal", "naive");
  const Json shared =
      check({"--bits", "3", "--levels", "optimal", "--model-bits", "8"}, 3, 3.144, "variance-corrected");
  CHECK(shared["levels"] == "optimal-shared");
  CHECK(shared["residual_levels"] == 7);
  CHECK(shared["excess"].get<double>() < uniform["excess"].get<double>());
  const Json lloyd = fitted({}, "lloyd-max", "naive");
  CHECK(lloyd["rounding"] == "nearest");
  CHECK(lloyd["excess"] < json_of(small + Arguments{"--bits", "3", "--rounding", "nearest"})["excess"]);

  const Json integers = check({"--model-bits", "8"}, 4, 4.144, "variance-corrected");
  CHECK(integers["model_bits"] == 8);
  CHECK(integers["residual_levels"] == 31);
  const Json given = json_of(small + Arguments{"--step", "0.05", "--l2", "0.5", "--l1", "0.25", "--batch",
                                               "100", "--seed", "18446744073709551615"});
  CHECK(std::fabs(given["step"].get<double>() - 0.05) < 1e-8);
  CHECK(given["l2"] == 0.5);
  CHECK(given["l1"] == 0.25);
  CHECK(given["batch"] == 100);
  CHECK(given["seed"] == 18446744073709551615ull);
}

TEST_CASE("train --representation: one text in the place of five options") {
  const Json apart = json_of(small + Arguments{"--bits", "2", "--levels", "lloyd-max", "--outliers", "0.01"});
  const Json whole = json_of(small + Arguments{"--representation", "naive:2,lloyd-max,outliers=0.01"});
  for (const char* key : {"bits", "estimator", "levels", "rounding", "outliers", "stored_bits", "train_loss"})
    CHECK(whole[key] == apart[key]);
  CHECK(json_of(small + Arguments{"--representation", "full"})["bits"] == 32);
  const Run both = train(small + Arguments{"--representation", "naive:2", "--bits", "3"});
  CHECK(both.code == 2);
  CHECK(holds(both.err, "leave out --bits"));
  const Run wrong = train(small + Arguments{"--representation", "niave:2"});
  CHECK(wrong.code == 2);
  CHECK(holds(wrong.err, "variance-corrected"));
}

TEST_CASE("train --bits auto: chooses what keeps the excess, and says so") {
  const Run run =
      train({"--rows", "20000", "--bits", "auto", "--excess", "0.01", "--json", "--epochs", "20"});
  CHECK(run.code == 0);
  CHECK(holds(run.err, "train: chose "));
  const Json json = Json::parse(run.out);
  CHECK(json["excess"] < 0.012);
  CHECK(json["stored_bits"] < 8.0);
  CHECK(json["pilot"]["rows"].get<int>() > 0);
  // What 32 bits cannot do in one epoch, no width can: it is said.
  const Run hopeless =
      train({"--rows", "20000", "--bits", "auto", "--excess", "1e-7", "--json", "--epochs", "1"});
  CHECK(hopeless.code == 0);
  CHECK(holds(hopeless.err, "is not met"));
  CHECK(train({"--rows", "20000", "--bits", "auto", "--l1", "0.01", "--epochs", "2"}).code == 0);
}

TEST_CASE("train --bits auto --refine: chooses the width that moves the fewest bytes to the optimum") {
  const Arguments start{"--rows", "20000", "--bits", "auto", "--refine", "--json"};
  const Run run = train(start);
  INFO(run.err);
  CHECK(run.code == 0);
  CHECK(holds(run.err, "readings in full precision"));
  CHECK(holds(run.err, "without packed samples"));
  const Json json = Json::parse(run.out);
  CHECK(json["status"] == "converged");
  CHECK(json["excess"] < 1e-6);
  CHECK(json["stored_bits"] < 9.5);
  const Json logistic = json_of(start + Arguments{"--loss", "logistic", "--l2", "1e-3"});
  CHECK(logistic["status"] == "converged");
  const Run both = train(start + Arguments{"--excess", "0.01"});
  CHECK(both.code == 2);
  CHECK(holds(both.err, "--tolerance"));
}

TEST_CASE("train --safety: few bits are indefinite, shrinking or a ridge makes them safe") {
  const Arguments two{"--rows", "20000", "--bits", "2", "--outliers", "0", "--pilot", "off", "--json"};
  const Run warned = train(two);
  CHECK(holds(warned.err, "define no convex problem"));
  for (const char* remedy : {"shrink", "ridge"}) {
    const Run safe = train(two + Arguments{"--safety", remedy});
    INFO(remedy << ": " << safe.err);
    CHECK(safe.code == 0);
    const Json json = Json::parse(safe.out);
    CHECK(json["status"] == "completed");
    CHECK(json["excess"] < 10.0);
    CHECK(holds(json["advice"].get<std::string>(), "to stay convex"));
  }
}

TEST_CASE("train --sweep: 32 bits and every width from 1 to 8, with the speed against the first") {
  const Json sweep = json_of(small + Arguments{"--sweep"});
  REQUIRE(sweep.is_object());
  CHECK(sweep.size() == 1);
  const Json& runs = sweep.at("runs");
  REQUIRE(runs.is_array());
  REQUIRE(runs.size() == 9);
  const Json one = json_of(small);
  for (std::size_t k = 0; k < runs.size(); ++k) {
    INFO(runs[k].dump());
    CHECK(runs[k]["bits"] == (k == 0 ? 32 : static_cast<int>(k)));
    CHECK(runs[k]["estimator"] == (k == 0 ? "full" : "variance-corrected"));
    REQUIRE(runs[k]["speedup"].is_number());
    const double ratio =
        runs[0]["seconds_per_epoch"].get<double>() / runs[k]["seconds_per_epoch"].get<double>();
    CHECK(std::fabs(runs[k]["speedup"].get<double>() - ratio) < 1e-6 * ratio);
    CHECK(runs[k].size() == one.size());
  }
  CHECK(runs[0]["speedup"] == 1.0);
  // A row of the table is the run that one would have had by itself.
  CHECK(runs[4]["train_loss"] == one["train_loss"]);

  const Run table = train(small + Arguments{"--sweep"});
  CHECK(table.code == 0);
  CHECK(table.err.empty());
  for (const char* row : {"\n  32  full ", "\n   1  variance-corrected ", "\n   8  variance-corrected "}) {
    INFO(row);
    CHECK(holds(table.out, row));
  }
}

TEST_CASE("train --pilot: one bit comes close to the optimum, and the pilot is told") {
  const Arguments one{"--rows", "20000", "--bits", "1"};
  const Json with = json_of(one);
  CHECK(with["pilot"]["rows"] == 9000);
  CHECK(with["excess"] < 0.02);
  CHECK(with["excess"] < with["pilot"]["excess"]);
  CHECK(with["status"] == "completed");
  CHECK(json_of(one + Arguments{"--pilot", "2000"})["pilot"]["rows"] == 2000);
  const Run without = train(one + Arguments{"--pilot", "off", "--json"});
  CHECK(Json::parse(without.out)["pilot"].is_null());
  CHECK(holds(without.err, "define no convex problem"));
  CHECK(holds(train(one).out, "pilot of 9000 rows, itself "));
  CHECK(holds(train(one + Arguments{"--pilot", "20001"}).err, "pilot's number of rows is out of range"));
}

TEST_CASE("train --solver direct: solves what SGD goes towards") {
  const Arguments three{"--rows", "20000", "--bits", "3"};
  const Json solved = json_of(three + Arguments{"--solver", "direct"});
  CHECK(solved["status"] == "solved");
  CHECK(solved["epochs"] == 0);
  CHECK(solved["pilot"]["rows"] == 9000);
  CHECK(solved["excess"] < json_of(three)["excess"].get<double>() + 1e-4);
  CHECK(json_of(three + Arguments{"--solver", "direct", "--loss", "ls-svm", "--l2", "0.01"})["excess"] <
        0.01);
  refuses(three + Arguments{"--solver", "direct", "--epochs", "3"}, "has no use for --epochs");
  refuses(three + Arguments{"--solver", "direct", "--pilot", "off"}, "starts at the pilot");
  CHECK(holds(train({"--rows", "100", "--solver", "direct"}).err, "no pilot"));
}

TEST_CASE(
    "train --estimator polynomial and refetch: the paper's ways for losses without an affine derivative") {
  const Arguments two{"--rows", "3000", "--l2", "1e-3", "--json"};
  const Json cubic =
      json_of(two + Arguments{"--loss", "logistic", "--estimator", "polynomial-3", "--bits", "6"});
  CHECK(cubic["estimator"] == "polynomial-3");
  CHECK(cubic["stored_bits"].get<double>() > 10.0);
  CHECK(cubic["pilot"].is_null());
  const Json wider = json_of(
      two + Arguments{"--loss", "logistic", "--estimator", "polynomial-7", "--bits", "6", "--range", "10"});
  CHECK(wider["status"] == "completed");
  CHECK(wider["train_loss"] != cubic["train_loss"]);
  double before = 2.0;
  for (const char* bits : {"2", "4", "8"}) {
    for (const char* bound : {"refetch-l1", "refetch-norm", "refetch-jl"}) {
      const Json run = json_of(two + Arguments{"--loss", "hinge", "--estimator", bound, "--bits", bits});
      CHECK(run["estimator"] == bound);
      CHECK(run["refetched"]["shares"].size() == run["epochs"]);
      CHECK(run["refetched"]["bits"].get<double>() > 0.0);
      if (bound != std::string("refetch-norm")) continue;
      CHECK(run["refetched"]["shares"].back().get<double>() < before);
      before = run["refetched"]["shares"].back().get<double>();
    }
  }
  const Json squared = json_of(two + Arguments{"--loss", "squared-hinge", "--estimator", "refetch-l1"});
  CHECK(squared["excess"].get<double>() < 0.05);
}

TEST_CASE("train: a single run prints a line per epoch and a summary") {
  const Run run = train(small);
  CHECK(run.code == 0);
  CHECK(run.err.empty());
  CHECK(run.out.substr(0, 5) == "epoch");
  for (const char* part :
       {"\n    1 ", "\n    2 ", "\n    3 ", "2000 rows, 90 features", "completed: loss "}) {
    INFO(part);
    CHECK(holds(run.out, part));
  }
}

TEST_CASE("train: one seed gives one result, on every instruction set when sums are integer") {
  const auto loss = [](const Arguments& more) { return json_of(small + more)["train_loss"].get<double>(); };
  CHECK(loss({}) == loss({}));
  CHECK(loss({}) != loss({"--seed", "2"}));
  const Arguments integers{"--model-bits", "8", "--step", "0.05"};
  CHECK(loss(integers) == loss(integers));
  if (!has_avx2()) {
    WARN("no AVX2 here: instruction sets are not compared");
    return;
  }
  CHECK(loss(integers + Arguments{"--isa", "scalar"}) == loss(integers + Arguments{"--isa", "avx2"}));
  CHECK(json_of(small + Arguments{"--isa", "scalar"})["isa"] == "scalar");
  CHECK(json_of(small + Arguments{"--isa", "avx2"})["isa"] == "avx2");
}

TEST_CASE("train: LIBSVM, CSV, a label by name or number, and standard input are one data set") {
  const Folder folder;
  const Table table(200);
  const std::string by_name = folder.write("named.csv", table.csv_by_name());
  const Json expected = json_of({folder.write("t.svm", table.libsvm())});
  CHECK(expected["rows"] == 200);
  CHECK(expected["cols"] == 3);
  CHECK(expected["test_rows"].is_null());
  CHECK(expected["test_metric"].is_null());
  CHECK(expected["test_metric_name"].is_null());
  CHECK(expected["excess"].get<double>() >= 0.0);
  const auto same = [&](const Arguments& arguments, const std::string& input = {}) {
    const Json got = json_of(arguments, input);
    INFO(joined(arguments));
    CHECK(got["train_loss"] == expected["train_loss"]);
    CHECK(got["optimum_loss"] == expected["optimum_loss"]);
  };
  same({folder.write("t.csv", table.csv())});
  same({folder / "t.csv", "--format", "csv", "--label", "4"});
  same({by_name, "--label", "price"});
  same({by_name, "--label", "2"});
  same({"-"}, table.csv());
  same({"-"}, table.libsvm());
  same({"-", "--format", "libsvm"}, table.libsvm());
  CHECK(json_of({by_name})["train_loss"] != expected["train_loss"]);  // another column is the label
  const Json tested = json_of({folder / "t.csv", "--test", "-"}, table.csv());
  CHECK(tested["test_rows"] == 200);
  CHECK(tested["test_metric"].get<double>() < 0.1);
}

TEST_CASE("train --loss ls-svm: says which label is which, reports accuracy, wants two classes") {
  const Folder folder;
  const std::string file = folder.write("classes.csv", Table(400, true).csv());
  const std::string test = folder.write("test.svm", Table(200, true, 2).libsvm());
  const Arguments arguments{file, "--loss", "ls-svm", "--test", test, "--json"};
  const Run run = train(arguments);
  CHECK(run.code == 0);
  CHECK(run.err == "train: classes: label 3 is -1, label 7 is +1\n");
  const Json json = Json::parse(run.out);
  CHECK(json["loss"] == "ls-svm");
  CHECK(json["test_rows"] == 200);
  CHECK(json["test_metric_name"] == "accuracy");
  CHECK(json["test_metric"].get<double>() > 0.9);
  CHECK(json["test_metric"].get<double>() <= 1.0);

  const Json generated = json_of(small + Arguments{"--loss", "ls-svm"});
  CHECK(generated["test_metric_name"] == "accuracy");
  CHECK(generated["test_metric"].get<double>() > 0.7);

  fails({folder.write("one.csv", "1,5\n2,5\n"), "--loss", "ls-svm"}, "one value");
  fails({folder.write("many.csv", "1,5\n2,6.5\n3,7\n"), "--loss", "ls-svm"}, "more than two");
  const Run third = train({file, "--loss", "ls-svm", "--test", folder.write("third.csv", "1,2,3,5\n")});
  CHECK(third.code == 1);
  CHECK(holds(third.err, "a label is of neither class"));
}

TEST_CASE(
    "train --loss softmax: several classes together, from text and packed, with penalties, bits and rows "
    "held out") {
  const Folder folder;
  const std::string file = folder.write("colours.csv", three_classes(900, 1));
  const std::string test = folder.write("test.csv", three_classes(600, 2));
  const Arguments softmax{"--label", "colour", "--loss", "softmax", "--json"};
  const auto colours = [&](const Arguments& more) { return json_of(Arguments{file} + softmax + more); };
  const Json together = colours({"--test", test, "--bits", "3", "--l2", "1e-3"});
  CHECK(together["loss"] == "softmax");
  CHECK(together["excess"].get<double>() < 0.02);
  CHECK(together["classes"]["labels"] == Json({"blue", "green", "red"}));
  CHECK(together["test"]["accuracy"].get<double>() > 0.7);
  const Json alone = json_of({file, "--label", "colour", "--loss", "logistic", "--bits", "3", "--l2", "1e-3",
                              "--test", test, "--json"});
  CHECK(together["test"]["log_loss"].get<double>() < alone["test"]["log_loss"].get<double>());
  const Json folds = colours({"--cv", "3", "--l2", "1e-4:1:3"});
  CHECK(folds["path"]["penalties"].size() == 3);
  CHECK(folds["path"]["penalties"][2]["loss"].get<double>() >
        folds["path"]["penalties"][0]["loss"].get<double>());
  const Json held_out = colours({"--validation", "0.2", "--l2", "1e-4:1:3"});
  CHECK(held_out["validation_rows"] == 180);
  CHECK(held_out["validation"]["accuracy"].get<double>() > 0.7);
  const Json chosen = colours({"--bits", "auto", "--excess", "0.02", "--l2", "1e-3"});
  CHECK(chosen["excess"].get<double>() < 0.024);

  // Two classes are classes too; numbers that are none are refused.
  CHECK(json_of({folder.write("two.csv", Table(300, true).csv()), "--loss", "softmax",
                 "--json"})["classes"]["labels"] == Json({"3", "7"}));
  fails({folder.write("fractions.csv", "1,5\n2,6.5\n3,7\n"), "--loss", "softmax"}, "softmax is of classes");
  const auto refused = [&](const Arguments& more, const char* reason) {
    const Run run = train(Arguments{file} + softmax + more);
    CHECK(run.code == 1);
    CHECK(holds(run.err, reason));
  };
  refused({"--estimator", "variance-corrected"}, "naive or full");
  refused({"--test", folder.write("odd.csv", "a,b,c,colour\n1,2,3,grey\n")}, "grey");
}

TEST_CASE("train --solver direct --l2 FROM:TO:COUNT: the penalty by leave-one-out, without epochs") {
  const Json json =
      json_of({"--rows", "3000", "--bits", "4", "--solver", "direct", "--l2", "1e-4:10:6", "--json"});
  CHECK(json["status"] == "solved");
  const Json& points = json["path"]["penalties"];
  REQUIRE(points.size() == 6);
  int chosen = 0;
  for (const Json& point : points) {
    chosen += point["chosen"].get<bool>() ? 1 : 0;
    if (point["chosen"].get<bool>()) CHECK(point["l2"] == json["l2"]);
    CHECK(point["loss"].get<double>() > 0.0);
  }
  CHECK(chosen == 1);
  CHECK(points[5]["loss"].get<double>() > points[0]["loss"].get<double>());
  CHECK(json["excess"].get<double>() < 1e-3);
  CHECK(train({"--rows", "3000", "--l2", "1e-4:10:6"}).code == 2);
}

TEST_CASE("train --refine: the exact optimum in a few readings, of every smooth loss and penalty") {
  const Json json = json_of({"--rows", "5000", "--bits", "2", "--refine", "--json"});
  CHECK(json["status"] == "converged");
  CHECK(json["excess"].get<double>() < 1e-6);
  CHECK(json["full_passes"].get<int>() >= 1);
  CHECK(json["full_passes"].get<int>() <= 20);
  CHECK(json["packed_passes"] == 1);
  CHECK(json["tolerance"] == 1e-6);
  CHECK(json["refinement"]["full_bytes"].get<double>() ==
        json["full_passes"].get<double>() * 4.0 * 5000.0 * 90.0);
  for (const char* loss : {"huber", "logistic", "squared-hinge", "poisson", "ls-svm"}) {
    INFO(loss);
    std::string file;
    const Folder folder;
    Arguments arguments{"--rows", "3000"};
    if (loss == std::string("poisson")) {
      std::string text = "a,b,y\n";
      for (int i = 0; i < 600; ++i)
        text += std::to_string(i % 7) + "," + std::to_string(i % 11) + "," +
                std::to_string((i % 7 + i % 5) / 2) + "\n";
      arguments = {folder.write("counts.csv", text)};
    }
    const Json of_loss = json_of(arguments + Arguments{"--loss", loss, "--bits", "3", "--l2", "1e-3",
                                                       "--refine", "--tolerance", "1e-7", "--json"});
    CHECK(of_loss["status"] == "converged");
    CHECK(of_loss["excess"].get<double>() < 1e-6);
  }
  const Json sparse = json_of({"--rows", "3000", "--bits", "2", "--l1", "0.02", "--refine", "--json"});
  CHECK(sparse["status"] == "converged");
  CHECK(sparse["excess"].get<double>() < 2e-6);
  const Json one = json_of({"--rows", "2000", "--refine", "1", "--tolerance", "0", "--json"});
  CHECK(one["full_passes"] == 1);
  const Run shown = train({"--rows", "2000", "--refine"});
  CHECK(shown.code == 0);
  CHECK(holds(shown.out, "readings in full precision"));
  for (const Arguments& wrong : {Arguments{"--epochs", "3"}, Arguments{"--bits", "32"},
                                 Arguments{"--loss", "hinge"}, Arguments{"--sweep"}})
    CHECK(train(Arguments{"--rows", "2000", "--refine"} + wrong).code == 2);
  CHECK(train({"--rows", "2000", "--tolerance", "1e-3"}).code == 2);
}

TEST_CASE("train --refine --l2 FROM:TO:COUNT: a path of exact optima, judged by rows that are held out") {
  const Arguments start{"--rows", "3000", "--bits", "2", "--refine", "--l2", "1e-4:10:6"};
  const Json json = json_of(start + Arguments{"--validation", "0.2"});
  const Json& points = json["path"]["penalties"];
  REQUIRE(points.size() == 6);
  CHECK(json["status"] == "converged");
  CHECK(json["excess"].get<double>() < 1e-6);
  double least = INFINITY, chosen = 0.0;
  for (const Json& point : points) {
    least = std::min(least, point["loss"].get<double>());
    if (!point["chosen"].get<bool>()) continue;
    chosen = point["loss"].get<double>();
    CHECK(point["l2"] == json["l2"]);
  }
  CHECK(chosen == least);
  // The chosen one is refined again, to the same weights but for its tolerance.
  CHECK(json["validation_loss"].get<double>() == Approx(chosen).epsilon(1e-4));
  CHECK(points[5]["loss"].get<double>() > 1.1 * least);
  refuses(start, "add --validation");
}

TEST_CASE("train --refine: the exact optima of several classes, by readings that serve all of them") {
  const Folder folder;
  const std::string file = folder.write("colours.csv", three_classes(900, 1));
  const std::string test = folder.write("test.csv", three_classes(600, 2));
  const Arguments start{file, "--label", "colour", "--bits", "2", "--l2", "1e-3", "--refine"};
  for (const char* loss : {"ls-svm", "logistic", "squared-hinge"}) {
    INFO(loss);
    const Json json = json_of(start + Arguments{"--loss", loss, "--tolerance", "2e-7", "--test", test,
                                                "--save-model", folder / "model"});
    CHECK(json["status"] == "converged");
    CHECK(json["excess"].get<double>() < 1e-6);
    CHECK(json["classes"]["labels"] == Json({"blue", "green", "red"}));
    CHECK(json["test"]["accuracy"].get<double>() > 0.7);
    CHECK(json["full_passes"].get<int>() >= 2);
    CHECK(json["packed_passes"].get<int>() >= (loss == std::string("ls-svm") ? 1 : 6));
    // Each reading is counted once.
    CHECK(json["refinement"]["full_bytes"].get<double>() ==
          Approx(json["full_passes"].get<double>() * 4.0 * 900.0 * 3.0));
    // The value has the penalty in it, as the loss has.
    CHECK(json["refinement"]["value"].get<double>() ==
          Approx(json["train_loss"].get<double>()).epsilon(1e-5));
    CHECK(load_class_model(folder / "model").classes() == 3);
  }
  // All classes together: the optimum of softmax.
  const Json together =
      json_of(start + Arguments{"--loss", "softmax", "--tolerance", "2e-7", "--test", test});
  CHECK(together["status"] == "converged");
  CHECK(together["excess"].get<double>() < 1e-6);
  CHECK(together["test"]["accuracy"].get<double>() > 0.7);
  CHECK(together["refinement"]["full_bytes"].get<double>() ==
        Approx(together["full_passes"].get<double>() * 4.0 * 900.0 * 3.0));
  const Run sparse_softmax = train(start + Arguments{"--loss", "softmax", "--l1", "0.01"});
  CHECK(sparse_softmax.code == 1);
  CHECK(holds(sparse_softmax.err, "smooth penalties"));
  const Arguments logistic = start + Arguments{"--loss", "logistic"};
  const Json held_out = json_of(logistic + Arguments{"--validation", "0.2"});
  CHECK(held_out["validation"]["accuracy"].get<double>() > 0.7);
  CHECK(held_out["validation_loss"].get<double>() > 0.1);
  const Json sparse = json_of(logistic + Arguments{"--l1", "0.02"});
  CHECK(sparse["status"] == "converged");
  const Run shown = train(logistic + Arguments{"--test", test});
  CHECK(shown.code == 0);
  CHECK(holds(shown.out, "reading   1"));
  CHECK_FALSE(holds(shown.out.substr(shown.out.find("reading   1") + 1), "reading   1"));
  CHECK(holds(shown.out, "readings in full precision"));
  CHECK(holds(shown.out, "test rows of each class"));
  const Json one = json_of(
      Arguments{file, "--label", "colour", "--loss", "logistic", "--refine", "1", "--tolerance", "0"});
  CHECK(one["full_passes"] == 1);
  CHECK(one["status"] == "completed");
}

TEST_CASE(
    "train --loss: every loss trains on few bits to near its optimum, and refuses what does not suit it") {
  const Arguments two_thousand{"--rows", "2000"};
  for (const char* loss : {"logistic", "squared-hinge", "huber"})
    for (const char* bits : {"3", "4"}) {
      INFO(loss << ", " << bits << " bits");
      const Json json = json_of(two_thousand + Arguments{"--loss", loss, "--bits", bits, "--l2", "1e-4"});
      CHECK(json["status"] == "completed");
      CHECK(json["estimator"] == "naive");
      CHECK(json["excess"].get<double>() < 0.02);
      CHECK(json["excess"].get<double>() > -1e-9);
    }
  const Json hinge = json_of(two_thousand + Arguments{"--loss", "hinge", "--bits", "4"});
  CHECK(hinge["excess"].is_null());
  CHECK(hinge["test"]["accuracy"].get<double>() > 0.7);
  CHECK(hinge["test"]["log_loss"].is_null());
  const Json corrected = json_of(two_thousand + Arguments{"--loss", "logistic", "--pilot", "off"});
  CHECK(corrected["estimator"] == "variance-corrected");
  CHECK(corrected["pilot"].is_null());
  // One bit is more noise than the corrected loss can undo, where one asks for it.
  const Run noisy = train(two_thousand + Arguments{"--loss", "logistic", "--pilot", "off", "--bits", "1",
                                                   "--estimator", "variance-corrected", "--outliers", "0"});
  CHECK(holds(noisy.err, "Lloyd-Max"));
  const Json chosen =
      json_of(two_thousand + Arguments{"--loss", "logistic", "--bits", "auto", "--excess", "0.02"});
  CHECK(chosen["excess"].get<double>() < 0.024);
  refuses(two_thousand + Arguments{"--loss", "logistic", "--estimator", "double-sampling"}, "unbiased for");
  refuses(two_thousand + Arguments{"--loss", "logistic", "--solver", "direct"}, "--solver direct is for");
  refuses(two_thousand + Arguments{"--loss", "hinge", "--solver", "exact"}, "no exact solver");
  CHECK(json_of(two_thousand + Arguments{"--loss", "logistic", "--solver", "exact"})["status"] == "solved");
}

TEST_CASE("train --save-model: the file predicts what the program measured") {
  const Folder folder;
  const std::string file = folder.write("train.csv", Table(300).csv());
  const std::string test = folder.write("test.csv", Table(100, false, 2).csv());
  const Json run = json_of({file, "--test", test, "--save-model", folder / "model"});
  const LinearModel model = load_model(folder / "model");
  const Dataset rows = zipml::load(test);
  REQUIRE(model.cols() == 3);
  CHECK_FALSE(model.classifies);
  CHECK(std::fabs(rmse(model, rows) - run["test_metric"].get<double>()) < 1e-12);
  const float sample[3] = {0.25f, -0.25f, 0.0f};
  CHECK(std::fabs(model.predict(sample) - 3.75) < 0.05);  // 2 a - b + 3

  const std::string classes = folder.write("classes.csv", Table(300, true).csv());
  const std::string labelled = folder.write("labelled.csv", Table(100, true, 2).csv());
  const Json svm =
      json_of({classes, "--loss", "ls-svm", "--test", labelled, "--save-model", folder / "classifier"});
  const LinearModel classifier = load_model(folder / "classifier");
  const Dataset labels = zipml::load(labelled);
  CHECK(classifier.classifies);
  CHECK(classifier.low_label == 3.0);
  CHECK(classifier.high_label == 7.0);
  CHECK(accuracy(classifier, labels) == svm["test_metric"].get<double>());
}

TEST_CASE("train: a step that is too large fails, with status and advice, and saves nothing") {
  const Folder folder;
  const Run run = train(small + Arguments{"--step", "1000", "--json", "--save-model", folder / "model"});
  CHECK(run.code == 1);
  const Json json = Json::parse(run.out);
  CHECK(json["status"] == "diverged");
  REQUIRE(json["advice"].is_string());
  CHECK(holds(run.err, json["advice"].get<std::string>()));
  CHECK(holds(run.err, "diverged"));
  CHECK(run.err_lines() == 1);
  CHECK_FALSE(std::filesystem::exists(folder / "model"));
}

TEST_CASE("train: odd but valid data trains") {
  const Folder folder;
  std::string constant_column, constant_label, all_constant;
  for (const Table::Row& row : Table(60).rows) {
    constant_column += "7," + row.features[0] + "," + row.label + "\n";
    constant_label += row.features[0] + "," + row.features[1] + ",5\n";
    all_constant += "1,2," + row.label + "\n";
  }
  const auto check = [&](const Arguments& arguments) {
    for (const char* bits : {"4", "32"}) {
      const Json run = json_of(arguments + Arguments{"--bits", bits});
      INFO(run.dump());
      CHECK(run["status"] == "completed");
      CHECK(run["train_loss"].is_number());
      // A loss of 0 leaves nothing to compare with.
      if (run["optimum_loss"] == 0.0) CHECK(run["excess"].is_null());
    }
  };
  check({folder.write("column.csv", constant_column)});
  check({folder.write("label.csv", constant_label)});
  check({folder.write("constant.csv", all_constant)});
  check({folder.write("row.csv", "1,2,3\n")});
  check({"--rows", "2"});
  check({"--rows", "2000", "--epochs", "1", "--batch", "1073741824"});
}

TEST_CASE("train: a reader that goes away kills nobody; a full disk is an error") {
  std::signal(SIGPIPE, SIG_IGN);
  const Arguments chatty{"--rows", "200",        "--epochs",
                         "3000",   "--rounding", "nearest"};  // more output than a pipe holds
  int ends[2];
  REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = start(ZIPML_TRAIN, chatty, {-1, ends[1], -1});
  close(ends[1]);
  char first = 0;
  CHECK(read(ends[0], &first, 1) == 1);  // `train ... | head -1`
  close(ends[0]);
  Run run;
  finish(child, run);
  CHECK(run.signal == 0);
  CHECK(run.code == 0);

  const int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
  if (full < 0) {
    WARN("no /dev/full here");
    return;
  }
  for (const Arguments& arguments : {small, small + Arguments{"--json"}, small + Arguments{"--sweep"}}) {
    Run on_full;
    finish(start(ZIPML_TRAIN, arguments, {-1, full, -1}), on_full);
    CHECK(on_full.code == 1);
  }
  close(full);
}

TEST_CASE("train: the progress bar is for terminals") {
  const Arguments quiet = small + Arguments{"--json"};
  const Run run = train(quiet);
  CHECK(run.code == 0);
  CHECK(run.err.empty());
  CHECK_FALSE(holds(run.out, "\r"));

  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
    WARN("no pseudo terminal here: the bar itself is not seen");
    return;
  }
  const int slave = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  REQUIRE(slave >= 0);
  Run shown;
  finish(start(ZIPML_TRAIN, quiet, {-1, -1, slave}), shown);
  CHECK(shown.code == 0);
  char text[4096] = {};
  CHECK(read(terminal, text, sizeof text - 1) > 0);
  CHECK(holds(text, "\r["));
  CHECK(holds(text, "epoch 3/3"));
  close(slave);
  close(terminal);
}
