#include "options.hpp"

#include <CLI/CLI.hpp>
#include <zipml/base/config.hpp>

namespace {

/// What no single option can check: combinations that make no sense, and options that follow from others.
void reconcile(Options& options, const CLI::App& app, const std::string& representation) {
  const bool bits_given = app.count("--bits") > 0;
  const bool estimator_given = app.count("--estimator") > 0;
  const auto usage = [](const std::string& text) { throw CLI::ValidationError(text); };

  if (options.file.empty()) {
    for (const char* name : {"--format", "--label", "--test", "--memory-limit"})
      if (app.count(name) > 0) usage(std::string(name) + " needs a FILE");
  } else if (app.count("--rows") > 0) {
    usage("--rows sizes the generated set: leave out FILE");
  }
  if (options.file == "-" && options.test_file == "-") usage("FILE and --test cannot both be standard input");
  if (!representation.empty()) {
    for (const char* name : {"--bits", "--estimator", "--levels", "--rounding", "--outliers", "--sweep"})
      if (app.count(name) > 0) usage(std::string("--representation says it all: leave out ") + name);
    try {
      options.take(zipml::parse_representation(representation));
    } catch (const zipml::Error& error) {
      usage(std::string("--representation: ") + error.what());
    }
  }
  if (options.choose) {
    for (const char* name : {"--estimator", "--rounding", "--outliers", "--levels", "--fresh", "--sweep"})
      if (app.count(name) > 0)
        usage(std::string("--bits auto chooses the representation: leave out ") + name);
    if (options.solver == "direct") usage("--bits auto measures with SGD: leave out --solver direct");
    options.bits = 0;  // until the samples are there
    return;
  }
  if (app.count("--excess") > 0) usage("--excess says what is acceptable to --bits auto");
  if (options.sweep && (bits_given || options.estimator == "full"))
    usage("--sweep runs 32 bits and every width from 1 to 8: leave out --bits and --estimator full");
  if (options.levels == "lloyd-max") {
    if (app.count("--rounding") > 0 && options.rounding == "stochastic")
      usage(
          "Lloyd-Max levels end inside the data, where stochastic rounding is biased: use --levels optimal, "
          "or "
          "--rounding nearest");
    options.rounding = "nearest";
  }
  if (options.rounding == "nearest") {
    if (estimator_given && options.estimator != "naive")
      usage("--rounding nearest makes all draws equal, so " + options.estimator +
            " has nothing to work with: use --estimator naive or leave it out");
    options.estimator = "naive";
  }
  if (bits_given && options.bits == 32 && !estimator_given && options.rounding != "nearest")
    options.estimator = "full";
  if (estimator_given && options.estimator == "full" && !bits_given) options.bits = 32;
  if (options.estimator == "full" && options.bits != 32)
    usage("--estimator full reads float32 samples: leave out --bits, or use --bits 32");
  if (options.estimator != "full" && options.bits == 32)
    usage("--bits 32 means full precision: leave out --estimator " + options.estimator +
          (options.rounding == "nearest" ? " and --rounding nearest" : ""));
  if (options.estimator == "full" && app.count("--levels") > 0)
    usage("--levels needs packed samples: choose --bits 1 to 8");
  const bool channels = options.gradient_bits != 32 || (options.model_bits != 0 && options.model_bits != 32);
  for (const char* name : {"--error-feedback", "--channel-scaling", "--channel-levels"})
    if (app.count(name) > 0 && !channels)
      usage(std::string(name) + " needs a rounded channel: choose --model-bits or --gradient-bits 1 to 8");
  if (options.error_feedback && options.channel_scaling == "norm")
    usage(
        "--error-feedback rounds to nearest, which makes nothing of most vectors with --channel-scaling "
        "norm");
  if (options.error_feedback && options.channel_levels == "optimal")
    usage("--channel-levels optimal are those of stochastic rounding: leave out --error-feedback");
  if (options.estimator == "full" && app.count("--outliers") > 0)
    usage("--outliers needs packed samples: choose --bits 1 to 8");
  if (app.count("--pilot") > 0 && options.estimator == "full")
    usage("--pilot needs packed samples: choose --bits 1 to 8");
  if (app.count("--pilot") > 0 && options.fresh)
    usage("--fresh draws anew, and needs no pilot: leave out --pilot");
  if (options.estimator == "full" && options.fresh)
    usage("--fresh needs packed samples: choose --bits 1 to 8");
  if (options.solver == "direct") {
    for (const char* name : {"--epochs", "--batch", "--step", "--model-bits", "--gradient-bits", "--fresh",
                             "--safety", "--sweep", "--l1"})
      if (app.count(name) > 0) usage(std::string("--solver direct has no use for ") + name);
    if (options.estimator == "full" || options.pilot == zipml::Index{0})
      usage(
          "--solver direct starts at the pilot of packed samples: choose --bits 1 to 8, and no --pilot off");
  }
  if (options.fresh && options.rounding == "nearest")
    usage("--fresh draws anew: leave out --rounding nearest");
  if (options.sweep && !options.save_model.empty()) usage("--save-model saves one model: leave out --sweep");
}

}  // namespace

Options parse_options(int argc, char** argv) {
  Options options;
  float step = 0.0f;
  CLI::App app{
      "Trains a linear model on samples of 1 to 8 bits, or 32.\n"
      "Without FILE it trains on a generated set of 90 skewed, correlated columns."};
  app.set_version_flag("--version", std::string("train (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();

  app.add_option("FILE", options.file, "LIBSVM or CSV file, - for standard input")->capture_default_str();
  app.add_option("--format", options.format, "format of the files")
      ->check(CLI::IsMember({"auto", "libsvm", "csv"}));
  app.add_option("--label", options.label, "CSV: label column by name or number from 1 (the last one)");
  app.add_option("--test", options.test_file, "file of test rows");
  app.add_option("--memory-limit", options.memory_gib, "GiB that the samples may take in float32")
      ->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows, "training rows of the generated set, a ninth as many test rows")
      ->check(CLI::Range(zipml::Index{2}, zipml::Index{1} << 32));
  app.add_option("--loss", options.loss, "ls-svm: two classes, the lower label value is -1")
      ->check(CLI::IsMember({"least-squares", "ls-svm"}));
  std::string bits = std::to_string(options.bits);
  app.add_option("--bits", bits,
                 "bits of one draw of a sample's value: 1 to 8, 32 for float32, or auto: the fewest that do, "
                 "measured")
      ->check(CLI::IsMember({"1", "2", "3", "4", "5", "6", "7", "8", "32", "auto"}));
  std::string pilot = "auto";
  app.add_option(
         "--pilot", pilot,
         "rows that a model is fitted to in full precision, before packing sums the exact gradient of "
         "all rows there: few bits then end near the exact optimum; auto, or off")
      ->check([](const std::string& text) {
        const bool number =
            !text.empty() && text.size() < 16 && text.find_first_not_of("0123456789") == std::string::npos;
        return text == "auto" || text == "off" || number ? std::string() : "a number of rows, auto or off";
      });
  std::string representation;
  app.add_option("--representation", representation,
                 "in one text: NAME:BITS[,LEVELS][,ROUNDING][,outliers=SHARE], as in naive:2,lloyd-max")
      ->always_capture_default(false);
  app.add_option("--excess", options.excess, "acceptable excess for --bits auto")->check(CLI::PositiveNumber);
  app.add_option(
         "--levels", options.levels,
         "uniform, or fitted to each column: of least variance (with --model-bits one table for all), or "
         "of least squared error (implies --rounding nearest)")
      ->check(CLI::IsMember({"uniform", "optimal", "lloyd-max"}));
  app.add_option("--rounding", options.rounding, "nearest implies --estimator naive")
      ->check(CLI::IsMember({"stochastic", "nearest"}));
  app.add_option(
         "--estimator", options.estimator,
         "how samples become gradients; full means --bits 32. With less than some 50 rows for a column, or "
         "at 1 to "
         "2 bits without a pilot where the signal is low, --levels lloyd-max (nearest) is better than "
         "variance-corrected")
      ->check(CLI::IsMember(
          {"full", "naive", "double-sampling", "symmetrized", "sum-code", "variance-corrected"}));
  app.add_option("--outliers", options.outliers,
                 "share of each column's values, at most, that is kept exactly beside the codes")
      ->check(CLI::Range(0.0, 0.49));
  app.add_option("--safety", options.safety,
                 "without a pilot, when the rounded samples define no convex problem: warn, shrink the "
                 "correction, add a ridge")
      ->check(CLI::IsMember({"warn", "shrink", "ridge"}));
  app.add_flag("--fresh", options.fresh, "round the samples anew in every epoch instead of once");
  app.add_option(
         "--model-bits", options.model_bits,
         "1 to 8: rounded model and residuals, integer sums; 32: float (8 with uniform levels and batches of "
         "16 rows and 4,096 values or more, else 32)")
      ->check(CLI::IsMember({1, 2, 3, 4, 5, 6, 7, 8, 32}))
      ->always_capture_default(false);
  app.add_option("--gradient-bits", options.gradient_bits,
                 "1 to 8: rounded gradients, once a batch; 32: float")
      ->check(CLI::IsMember({1, 2, 3, 4, 5, 6, 7, 8, 32}));
  app.add_flag(
      "--error-feedback", options.error_feedback,
      "what rounding a gradient has lost is added to the next one, and of models the changes are sent; "
      "for the channels whose bits are given");
  app.add_option("--channel-scaling", options.channel_scaling,
                 "levels of model and gradient reach to the largest magnitude, the 2-norm, or the largest "
                 "magnitude of each block")
      ->check(CLI::IsMember({"max", "norm", "block"}));
  app.add_option("--channel-levels", options.channel_levels,
                 "optimal: fitted to model and gradient as they travel, and sent along")
      ->check(CLI::IsMember({"uniform", "optimal"}));
  app.add_option("--threads", options.threads,
                 "that read files, pack, and share large batches; 0: all. The result does not depend on it")
      ->check(CLI::Range(0, 1024));
  app.add_option("--l2", options.l2, "penalty LAMBDA/2 |x|^2 on standardised columns")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--l1", options.l1, "penalty MU |x|_1 on standardised columns")
      ->check(CLI::NonNegativeNumber);
  app.add_option(
         "--solver", options.solver,
         "sgd, or direct: no epochs, the system of the packed samples and their pilot is solved, O(n d^2)")
      ->check(CLI::IsMember({"sgd", "direct"}));
  app.add_option("--epochs", options.epochs, "passes over the samples")->check(CLI::Range(1, 1'000'000));
  app.add_option("--batch", options.batch, "rows of a minibatch")
      ->check(CLI::Range(zipml::Index{1}, zipml::Index{1} << 30));
  app.add_option("--step", step, "constant step size (a safe one, measured on the samples)")
      ->check(CLI::PositiveNumber)
      ->always_capture_default(false);
  app.add_option("--seed", options.seed, "of every random choice");
  app.add_option("--isa", options.isa,
                 "instruction set: scalar, avx2, avx-vnni, avx512 (ZIPML_ISA, else the best)")
      ->always_capture_default(false);
  app.add_flag("--sweep", options.sweep, "32 bits and every width from 1 to 8: the table to choose from");
  app.add_flag("--json", options.json, "one JSON object on standard output, nothing else");
  app.add_option("--save-model", options.save_model, "write the trained model to this file");

  try {
    app.parse(argc, argv);
    if (app.count("--step") > 0) options.step = step;
    options.choose = bits == "auto";
    if (pilot == "off")
      options.pilot = 0;
    else if (pilot != "auto")
      options.pilot = std::stoll(pilot);
    if (!options.choose) options.bits = std::stoi(bits);
    reconcile(options, app, representation);
  } catch (const CLI::ParseError& error) {
    const bool asked =
        error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);  // --help, --version
    if (asked) std::exit(app.exit(error));
    std::fprintf(stderr, "train: %s\nTry --help.\n", error.what());
    std::exit(2);
  }
  return options;
}
