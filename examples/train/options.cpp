#include "options.hpp"

#include <CLI/CLI.hpp>
#include <cmath>
#include <zipml/base/config.hpp>
#include <zipml/io/packed_file.hpp>
#include <zipml/training/penalty_path.hpp>

namespace {

/// --l2: a number, or FROM:TO:COUNT.
void take_penalties(Options& options, const std::string& text) {
  const std::string wanted =
      "--l2 takes a number >= 0, or FROM:TO:COUNT with 0 < FROM <= TO and 2 to 1000 of them";
  const std::vector<std::string> parts = CLI::detail::split(text, ':');
  std::vector<double> numbers(parts.size());
  for (std::size_t k = 0; k < parts.size(); ++k)
    if (!CLI::detail::lexical_cast(parts[k], numbers[k])) throw CLI::ValidationError(wanted + ": " + text);
  if (numbers.size() == 1 && numbers[0] >= 0.0 && std::isfinite(static_cast<float>(numbers[0]))) {
    options.l2_path = {static_cast<float>(numbers[0])};
  } else if (numbers.size() == 3 && static_cast<float>(numbers[0]) > 0.0f &&
             numbers[2] == std::floor(numbers[2]) && numbers[2] >= 2.0 && numbers[2] <= 1000.0) {
    options.l2_path.clear();
    try {
      for (const double l2 : zipml::geometric_strengths(numbers[0], numbers[1], static_cast<int>(numbers[2])))
        options.l2_path.push_back(zipml::detail::checked_strength(static_cast<float>(l2), "--l2"));
    } catch (const zipml::Error& error) {
      throw CLI::ValidationError(wanted + ": " + text);
    }
  } else {
    throw CLI::ValidationError(wanted + ": " + text);
  }
  options.l2 = options.l2_path.front();
}

/// What no single option can check: combinations that make no sense, and options that follow from others.
void reconcile(Options& options, const CLI::App& app, const std::string& representation) {
  const bool bits_given = app.count("--bits") > 0;
  const bool estimator_given = app.count("--estimator") > 0;
  options.refines = app.count("--refine") > 0;
  options.representation_is_free = !estimator_given && app.count("--levels") == 0 &&
                                   app.count("--rounding") == 0 && representation.empty();
  const auto usage = [](const std::string& text) { throw CLI::ValidationError(text); };

  if (options.file.empty()) {
    for (const char* name :
         {"--format", "--label", "--test", "--memory-limit", "--columns", "--ignore", "--categorical",
          "--missing", "--weights", "--header", "--separator", "--decimal", "--first-index"})
      if (app.count(name) > 0) usage(std::string(name) + " needs a FILE");
  } else if (app.count("--rows") > 0) {
    usage("--rows sizes the generated set: leave out FILE");
  }
  if ((options.file == "-") + (options.test_file == "-") + (options.validation == "-") > 1)
    usage("only one of FILE, --test and --validation can be standard input");
  if (options.save_model == "-" || options.history == "-")
    usage("standard output is for the results: name a file for the model and the history");
  if (!options.validation.empty()) {
    double share = 0.0;
    if (CLI::detail::lexical_cast(options.validation, share)) {
      if (!(share > 0.0 && share < 1.0))
        usage("--validation holds out a share of the rows between 0 and 1, or names a file");
      options.held_out = share;
    } else if (options.file.empty()) {
      usage("--validation FILE needs a FILE to train on");
    }
    if (options.patience == 0 && app.count("--patience") == 0) options.patience = 5;
  } else if (app.count("--patience") > 0) {
    usage("--patience waits for the validation rows: add --validation");
  }
  const auto reconcile_refinement = [&] {
    if (!options.refines) {
      for (const char* name : {"--tolerance", "--full"})
        if (app.count(name) > 0) usage(std::string(name) + " is about --refine: add it");
      return;
    }
    for (const char* name : {"--epochs", "--batch", "--step", "--model-bits", "--gradient-bits", "--fresh",
                             "--safety", "--sweep", "--start", "--patience", "--solver", "--history", "--cv"})
      if (app.count(name) > 0) usage(std::string("--refine has no use for ") + name);
    if (options.l2_path.size() > 1 && options.validation.empty())
      usage("--refine chooses among penalties by rows that are held out: add --validation");
    if (options.loss == "hinge") usage("--refine is for smooth losses: all others than hinge");
    if (options.estimator == "full" || options.bits == 32 || options.estimator.starts_with("refetch") ||
        options.estimator.starts_with("polynomial"))
      usage("--refine takes packed samples to float32's optimum: choose --bits 1 to 8");
  };
  if (options.distributed) {
    for (const char* name : {"--solver", "--sweep"})
      if (app.count(name) > 0)
        usage(std::string("several processes train by SGD, or refine: leave out ") + name);
    if (options.choose) usage("--bits auto measures times, which differ: let train choose, or name the bits");
    if (options.file == "-") usage("every process reads FILE: name one");
  }
  options.packed = !options.file.empty() && options.file != "-" && zipml::is_packed_file(options.file);
  if (options.packed) {
    for (const char* name :
         {"--format", "--label", "--columns", "--ignore", "--categorical", "--missing", "--bits",
          "--estimator", "--levels", "--rounding", "--outliers", "--pilot", "--representation", "--fresh",
          "--sweep", "--solver", "--history", "--rows", "--class-weights"})
      if (app.count(name) > 0)
        usage(std::string("FILE is packed: leave out ") + name +
              ", of which it says all (or needs the rows themselves)");
    if (options.held_out > 0.0 || options.validation == options.file)
      usage("FILE is packed: --validation takes a file of rows");
    if (options.refines && options.full.empty())
      usage("FILE is packed: --refine reads the rows that it was packed from: add --full ROWS");
    reconcile_refinement();
    options.take(
        zipml::parse_representation(zipml::PackedFile(options.file, {.verify = false}).representation()));
    return;
  }
  if (!options.full.empty()) usage("--full is about a packed FILE: leave it out");
  reconcile_refinement();
  if (options.l2_path.size() > 1 && options.folds == 0 && options.validation.empty() &&
      options.solver != "direct")
    usage(
        "--l2 FROM:TO:COUNT is to choose from: add --cv FOLDS, --validation, or (by leave-one-out) --solver "
        "direct");
  if (options.simplest && options.folds == 0) usage("--simplest is about --cv: add it");
  if (options.folds > 0 && !options.validation.empty())
    usage("--cv holds out rows of its own: leave out --validation");
  if (options.chooses_penalty() && !options.leaves_one_out())
    for (const char* name : {"--sweep", "--history", "--start", "--solver", "--fresh"})
      if (app.count(name) > 0) usage(std::string("a penalty is chosen among fits by SGD: leave out ") + name);
  if (!options.class_weights.empty() && !options.classifies())
    usage("--class-weights are of classes: --loss softmax, logistic, hinge, squared-hinge or ls-svm");
  if (options.sweep)
    for (const char* name : {"--history", "--start"})
      if (app.count(name) > 0) usage(std::string(name) + " is of one run: leave out --sweep");
  if (!options.history.empty() && !options.history.ends_with(".csv") && !options.history.ends_with(".svg"))
    usage("--history is a table, .csv, or a picture, .svg: " + options.history);
  if (!options.history.empty() && options.solver != "sgd")
    usage("--history is of epochs: leave out --solver");
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
    if (options.refines && app.count("--excess") > 0)
      usage("--bits auto with --refine measures bytes moved: --tolerance says how near to the optimum");
    if (options.solver != "sgd") usage("--bits auto measures with SGD: leave out --solver " + options.solver);
    options.bits = 0;  // until the samples are there
    return;
  }
  if (options.estimator.starts_with("polynomial") &&
      (options.is_affine() || !options.classifies() || options.loss == "softmax"))
    usage("--estimator " + options.estimator + " is for --loss logistic, hinge and squared-hinge");
  if (options.estimator.starts_with("polynomial")) options.pilot = 0;  // it serves one draw
  if (app.count("--range") > 0 && !options.estimator.starts_with("polynomial"))
    usage("--range is of --estimator polynomial-3 and polynomial-7");
  if (options.estimator.starts_with("refetch")) {
    if (options.loss != "hinge" && options.loss != "squared-hinge")
      usage("--estimator " + options.estimator + " decides at the kink of --loss hinge and squared-hinge");
    for (const char* name : {"--fresh", "--pilot", "--levels", "--rounding", "--cv", "--sweep"})
      if (app.count(name) > 0) usage(std::string("--estimator refetch-... has no use for ") + name);
    if (options.chooses_penalty()) usage("--estimator refetch-... is for one penalty");
    options.refetch = options.estimator == "refetch-l1"     ? zipml::RefetchBound::l1
                      : options.estimator == "refetch-norm" ? zipml::RefetchBound::norm
                                                            : zipml::RefetchBound::sketch;
    options.estimator = "variance-corrected";
    options.pilot = 0;
  }
  if (!options.is_affine()) {
    if (options.solver == "direct") usage("--solver direct is for --loss least-squares and ls-svm");
    if (options.solver == "exact" && options.loss == "hinge")
      usage("there is no exact solver for --loss hinge");
    if (options.estimator == "double-sampling" || options.estimator == "symmetrized")
      usage("--estimator " + options.estimator +
            " is unbiased for --loss least-squares and ls-svm: use naive or "
            "variance-corrected");
    options.by_loss = options.representation_is_free;
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
  if (options.solver == "exact") {
    for (const char* name :
         {"--epochs", "--batch", "--step", "--bits", "--estimator", "--levels", "--rounding", "--outliers",
          "--representation", "--pilot", "--model-bits", "--gradient-bits", "--fresh", "--safety", "--sweep",
          "--error-feedback", "--start", "--patience"})
      if (app.count(name) > 0) usage(std::string("--solver exact has no use for ") + name);
    options.bits = 32;
    options.estimator = "full";
    return;
  }
  if (options.solver == "direct") {
    for (const char* name : {"--epochs", "--batch", "--step", "--model-bits", "--gradient-bits", "--fresh",
                             "--safety", "--sweep", "--l1", "--start", "--patience"})
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

Options parse_options(int argc, char** argv, const char* program) {
  Options options;
  float step = 0.0f;
  CLI::App app{
      "Trains a linear model on samples of 1 to 8 bits, or 32.\n"
      "Without FILE it trains on a generated set of 90 skewed, correlated columns."};
  app.set_version_flag("--version", std::string(program) + " (zipml " + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();

  app.add_option("FILE", options.file, "LIBSVM or CSV file, what pack has written, - for standard input")
      ->capture_default_str();
  options.table.streams = true;
  options.table.add_to(app, true);
  app.add_option("--test", options.test_file, "file of test rows, whose columns are matched by name");
  app.add_option("--validation", options.validation,
                 "rows to stop on: a file, or a share of the training rows, held out at random");
  app.add_option(
         "--patience", options.patience,
         "epochs to wait for a better loss of the validation rows, whose best weights are kept (5; 0: "
         "run all)")
      ->check(CLI::Range(0, 1'000'000))
      ->default_str("");
  app.add_option("--rows", options.rows, "training rows of the generated set, a ninth as many test rows")
      ->check(CLI::Range(zipml::Index{2}, zipml::Index{1} << 32));
  app.add_option(
         "--loss", options.loss,
         "numbers: least-squares, huber; counts: poisson (log link). Two classes, of which the lower label "
         "value is -1: logistic "
         "(probabilities), hinge, squared-hinge, ls-svm; of more classes a model for each against the rest, "
         "or with "
         "softmax all of them together. huber, poisson, logistic and the hinges are trained "
         "on nearest "
         "Lloyd-Max levels unless --estimator, --levels or --representation say otherwise")
      ->check(CLI::IsMember(loss_names()));
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
      ->check(
          CLI::IsMember({"full", "naive", "double-sampling", "symmetrized", "sum-code", "variance-corrected",
                         "polynomial-3", "polynomial-7", "refetch-l1", "refetch-norm", "refetch-jl"}));
  app.add_option(
         "--range", options.range,
         "margins up to which --estimator polynomial-3 (4) and polynomial-7 (8) hold; one that fits the data "
         "makes less error")
      ->check(CLI::PositiveNumber)
      ->default_str("");
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
      ->default_str("");
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
  app.add_option("--class-weights", options.class_weights,
                 "how much the rows of each class count in training: balanced, all classes the same, or "
                 "LABEL:WEIGHT,... "
                 "(others 1)")
      ->always_capture_default(false);
  std::string l2 = "0";
  app.add_option("--l2", l2,
                 "penalty LAMBDA/2 |x|^2 on standardised columns; FROM:TO:COUNT, as in 1e-6:1:20: so many in "
                 "equal ratios, "
                 "trained together, of which --cv or --validation takes the best");
  app.add_option("--cv", options.folds,
                 "cross-validation of so many folds: the loss of rows that were not trained on, for each "
                 "penalty; then "
                 "the fit to all rows with the best")
      ->check(CLI::Range(2, 1000))
      ->default_str("");
  app.add_flag("--simplest", options.simplest,
               "of --cv the strongest penalty within one standard error of the least loss");
  app.add_option("--l1", options.l1, "penalty MU |x|_1 on standardised columns")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--solver", options.solver,
                 "sgd; direct: no epochs, the system of the packed samples and their pilot is solved, O(n "
                 "d^2); exact: "
                 "the optimum itself, in double precision")
      ->check(CLI::IsMember({"sgd", "direct", "exact"}));
  app.add_option(
         "--refine", options.passes,
         "to the exact optimum: readings of the rows in full precision, at most PASSES, with the packed "
         "samples as preconditioner; no epochs")
      ->expected(0, 1)
      ->check(CLI::Range(0, 1'000'000))
      ->type_name("[PASSES]")
      ->default_str("100");
  app.add_option("--tolerance", options.tolerance,
                 "of --refine: ends when the loss is within this share of the optimum's; 0: after PASSES")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--full", options.full, "of --refine: the rows that a packed FILE was packed from");
  app.add_option("--start", options.start,
                 "model file to begin with; the exact gradient at the pilot is used all the same");
  app.add_option("--epochs", options.epochs, "passes over the samples")->check(CLI::Range(1, 1'000'000));
  app.add_option("--batch", options.batch, "rows of a minibatch")
      ->check(CLI::Range(zipml::Index{1}, zipml::Index{1} << 30));
  app.add_option("--step", step, "constant step size (a safe one, measured on the samples)")
      ->check(CLI::PositiveNumber)
      ->default_str("");
  app.add_option("--seed", options.seed, "of every random choice")->check(check_seed);
  app.add_option("--isa", options.isa,
                 "instruction set: scalar, avx2, avx-vnni, avx512 (ZIPML_ISA, else the best)")
      ->always_capture_default(false);
  app.add_flag("--sweep", options.sweep, "32 bits and every width from 1 to 8: the table to choose from");
  app.add_flag("--json", options.json, "one JSON object on standard output, nothing else");
  app.add_option("--save-model", options.save_model, "write the trained model to this file");
  app.add_option("--history", options.history, "write what each epoch reached to this file: .csv, or .svg");

  options.distributed = std::string_view(program) == "train_distributed";
  if (options.distributed) {
    app.add_option("--timeout", options.timeout,
                   "seconds that a process waits for the others before all end with an error; 0: for ever")
        ->check(CLI::NonNegativeNumber);
    app.add_option("--local-steps", options.local_steps,
                   "batches that a process takes steps on by itself before all agree on the mean of their "
                   "models, whose changes "
                   "have --gradient-bits; 1: gradients are added up in every batch")
        ->check(CLI::Range(1, 1'000'000));
    app.add_option(
           "--exchange", options.exchange,
           "how gradients of few bits are added up: gather, each process gets all of them; "
           "reduce-scatter, each adds up a part; auto: gather what is short, else what moves fewer bytes")
        ->check(CLI::IsMember({"auto", "gather", "reduce-scatter"}));
  }

  try {
    app.parse(argc, argv);
    if (app.count("--step") > 0) options.step = step;
    options.choose = bits == "auto";
    if (pilot == "off")
      options.pilot = 0;
    else if (pilot != "auto")
      options.pilot = std::stoll(pilot);
    if (!options.choose) options.bits = std::stoi(bits);
    options.table.threads = options.threads;
    take_penalties(options, l2);
    reconcile(options, app, representation);
  } catch (const CLI::ParseError& error) {
    const bool asked =
        error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success);  // --help, --version
    if (asked) throw ExitWith{app.exit(error)};
    std::fprintf(stderr, "%s: %s\nTry --help.\n", program, error.what());
    throw ExitWith{2};
  } catch (const zipml::Error& error) {  // a packed file that is none
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    throw ExitWith{1};
  }
  return options;
}
