#pragma once
// What the user asked `train` to do, checked as a whole.

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>
#include <zipml/base/buffer.hpp>
#include <zipml/estimators/representation.hpp>
#include <zipml/training/reducer.hpp>
#include <zipml/training/refetching.hpp>

#include "../table_options.hpp"

/// What --loss takes.
inline std::set<std::string> loss_names() {
  return {"least-squares", "huber", "poisson", "logistic", "hinge", "squared-hinge", "ls-svm", "softmax"};
}

struct Options {
  std::string file;     // empty: the generated set
  bool packed = false;  // it is what the program pack has written
  TableOptions table;
  std::string test_file;
  std::string validation;  // a file, or a share of the rows
  double held_out = 0.0;   // that share
  int patience = 0;        // epochs; 0: all epochs are run
  zipml::Index rows = 200'000;

  std::string loss = "least-squares";
  int bits = 4;
  bool choose = false;  // --bits auto
  double excess = 0.01;
  std::string levels = "uniform";
  std::string rounding = "stochastic";
  double outliers = 0.003;
  std::string estimator = "variance-corrected";
  std::string safety = "warn";
  bool fresh = false;
  /// --estimator refetch-...: how packed rows are known to lie on their side of the kink.
  std::optional<zipml::RefetchBound> refetch;
  double range = 0.0;                 // of a polynomial; 0: its own
  std::optional<zipml::Index> pilot;  // rows; 0: none; no value: as many as serve
  int model_bits = 0;                 // 0: integers where they can be had and batches are large enough
  int gradient_bits = 32;
  bool error_feedback = false;
  std::string channel_scaling = "max";
  std::string channel_levels = "uniform";
  int threads = 1;
  float l2 = 0.0f;                   // of a path the weakest
  std::vector<float> l2_path{0.0f};  // to choose from
  int folds = 0;                     // of cross-validation; 0: none
  bool simplest = false;             // the strongest penalty within a standard error of the best
  float l1 = 0.0f;
  std::string class_weights;  // "balanced", or LABEL:WEIGHT,...
  std::string solver = "sgd";
  bool refines = false;     // --refine: readings in full precision, with the packed samples as preconditioner
  int passes = 100;         // of them
  double tolerance = 1e-6;  // F - F* in shares of F that ends them; 0: after all passes
  std::string full;         // the rows that a packed FILE was packed from
  int epochs = 20;
  zipml::Index batch = 64;
  std::optional<float> step;
  std::uint64_t seed = 1;
  std::string isa;
  std::string start;  // a model file

  bool sweep = false;
  bool json = false;
  std::string save_model;
  std::string history;  // a file, .csv or .svg

  // Of several processes: train_distributed.
  bool distributed = false;
  double timeout = 0.0;  // seconds that an exchange waits for the others; 0: for ever
  int local_steps = 1;
  std::string exchange = "auto";      // how codes of few bits are added up
  zipml::Reducer* reducer = nullptr;  // where their gradients meet

  // For programs that run many experiments.
  bool quiet = false;           // no epoch is shown
  bool needs_optimum = true;    // else there is no excess
  bool records_losses = false;  // Result::losses

  /// Whether the loss takes labels of two classes.
  bool classifies() const { return loss != "least-squares" && loss != "huber" && loss != "poisson"; }
  /// Whether its derivative is affine in the margin, so that every estimator suits it.
  bool is_affine() const { return loss == "least-squares" || loss == "ls-svm"; }

  /// Whether the penalty is chosen, or judged, by rows that are held out.
  bool chooses_penalty() const { return folds > 0 || l2_path.size() > 1; }
  /// The same by leave-one-out, of the system that is solved.
  bool leaves_one_out() const { return l2_path.size() > 1 && folds == 0 && solver == "direct"; }

  /// Whether the representation follows from loss and width, since the user has not said it.
  bool by_loss = false;
  /// Whether estimator, levels and rounding are the program's choice.
  bool representation_is_free = false;

  /// How samples are represented at a width. Fitted levels that integers are to multiply are one table for all columns.
  zipml::Representation representation(int width, const std::string& kind) const {
    const auto named = [](std::string_view name, const auto& names) {
      return zipml::detail::index_of(name, names);
    };
    zipml::Representation result;
    result.estimator = static_cast<zipml::EstimatorKind>(named(kind, zipml::detail::estimator_names));
    result.bits = width;
    if (result.estimator == zipml::EstimatorKind::full) return result;
    result.outliers = outliers;
    if (result.estimator == zipml::EstimatorKind::naive)
      result.rounding = static_cast<zipml::RoundingKind>(named(rounding, zipml::detail::rounding_names));
    result.levels = static_cast<zipml::LevelsKind>(named(levels, zipml::detail::levels_names));
    const bool integers = model_bits != 0 && model_bits != 32;
    if (result.levels == zipml::LevelsKind::optimal && integers && result.summed() == 1 &&
        result.rounding == zipml::RoundingKind::stochastic)
      result.levels = zipml::LevelsKind::optimal_shared;
    return result;
  }
  /// Takes a representation apart into these options.
  void take(const zipml::Representation& chosen) {
    estimator = zipml::to_string(chosen.estimator);
    bits = chosen.bits;
    levels = zipml::to_string(chosen.levels);
    rounding = zipml::to_string(chosen.rounding);
    outliers = chosen.outliers;
  }
};

/// What a program is to end with, after what it has printed.
struct ExitWith {
  int code;
};

/// Parses the command line of `train`, or of `train_distributed`. Prints help or version and throws ExitWith 0, or a usage error
/// and throws ExitWith 2.
Options parse_options(int argc, char** argv, const char* program = "train");
