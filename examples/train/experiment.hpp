#pragma once
// One data set, trained on at one width or at many.

#include <optional>
#include <string>
#include <vector>
#include <zipml/analysis/predict.hpp>
#include <zipml/estimators/any_store.hpp>
#include <zipml/io/generated.hpp>
#include <zipml/model/class_model.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/recommend.hpp>
#include <zipml/training/recommend_refinement.hpp>

#include "options.hpp"

/// What an epoch has reached, where --history asks for it.
struct EpochRecord {
  int epoch = 0;
  double seconds = 0.0;
  double loss = 0.0;
  std::optional<double> excess;
  std::optional<double> validation_loss;
  std::optional<double> test_metric;
};

/// One penalty of a path, and the loss of rows that its models have not seen.
struct PathPoint {
  float l2 = 0.0f;
  double loss = 0.0;                     // mean over the folds; infinite where a model diverged
  std::optional<double> standard_error;  // of that mean
  int failed = 0;                        // models that diverged
  bool chosen = false;
};

/// What --refine took.
struct Refinement {
  int full_passes = 0;
  int packed_passes = 0;
  double full_bytes = 0.0;
  double packed_bytes = 0.0;
  double seconds_full = 0.0;
  double seconds_packed = 0.0;
  double value = 0.0;  // of the objective, with the penalty
  double gap = 0.0;    // estimate of what is left
};

/// What several processes have exchanged.
struct Exchange {
  int processes = 1;
  double bytes_sent = 0.0;  // by one of them
  double bytes_per_step = 0.0;
  double seconds_waiting = 0.0;  // in exchanges
};

/// Everything that is known after a run; the keys of --json. Not a number where something does not apply.
struct Result {
  int bits = 0;
  double stored_bits = 0.0;
  std::string estimator;
  std::string levels;
  std::string rounding;
  int model_bits = 32;
  int gradient_bits = 32;
  zipml::Traffic samples_moved;
  zipml::Traffic model_moved;
  zipml::Traffic gradient_moved;
  std::optional<int> residual_levels;
  std::string isa;
  double step = 0.0;
  int epochs = 0;
  zipml::Index store_bytes = 0;
  zipml::Index label_bytes = 0;
  double compression = 0.0;
  std::vector<double> losses;  // after each epoch, where Options::records_losses
  double train_loss = 0.0;
  bool loss_of_store = false;  // as the packed samples tell it, corrected where their estimator can
  std::optional<double> optimum_loss;
  std::optional<double> excess;
  std::optional<double> optimum_test_metric;  // of the exact optimum's model
  std::optional<double> test_metric;
  std::optional<zipml::Metrics> test;
  std::optional<zipml::Metrics> validation;
  std::optional<double> validation_loss;
  int kept_epoch = 0;  // whose weights are the result, where that is not the last one
  std::vector<EpochRecord> history;
  double seconds_quantize = 0.0;
  double seconds_train = 0.0;
  double seconds_per_epoch = 0.0;
  zipml::Index pilot_rows = 0;  // 0: trained without a pilot
  std::optional<double> pilot_excess;
  std::vector<double> refetched;  // share of the rows that were fetched in full precision, of each epoch
  double refetch_bits = 0.0;      // of what decides which, for each value
  std::optional<double> speedup;
  std::optional<Refinement> refinement;
  std::optional<Exchange> exchange;
  float l2 = 0.0f;
  std::vector<PathPoint> path;  // of --cv and --l2 FROM:TO:COUNT
  double seconds_path = 0.0;
  std::string status;
  std::string advice;
  bool success = false;
  bool interrupted = false;  // by the user, with what was reached
  std::optional<zipml::LinearModel> model;
  // Of more than two classes instead:
  std::optional<zipml::ClassModel> classes;
  std::vector<zipml::Index> confusion;  // of the test rows: those of class a taken for class b, row after row
};

/// The samples of a run and how long they took to load.
struct Samples {
  zipml::TrainTest sets;
  zipml::Dataset validation;  // no rows: none
  zipml::Dataset full;        // the rows of a packed file, for --refine
  /// Samples of a packed file: then the training set has names and shape, and no rows.
  std::optional<zipml::AnyStore> store;
  bool several_classes = false;  // more than two, for a loss that classifies
  double seconds_load = 0.0;
};

/// Loads the user's files, or generates the default set. Says on stderr what a person should know of them.
Samples load_samples(const Options& options);

/// --class-weights, "balanced" or LABEL:WEIGHT,...: the weights of the training rows, and of rows that are held out, times those of
/// their classes. Throws Error for labels that are no classes, and for a text that is neither.
void take_class_weights(const std::string& text, zipml::Dataset& train, zipml::Dataset* held_out = nullptr);

/// How a run trains on samples of so many columns; `integers` where their levels allow integer sums, which are
/// the fast path, with the same excess, from batches of 16 rows and 4,096 values on: smaller ones would pay more
/// for rounding model and residuals than integers save (epoch_bench, short/...).
zipml::FitOptions fit_options_of(const Options& options, zipml::Index columns, bool integers);

/// --bits auto: replaces bits, estimator, rounding and outliers by those that the samples want, and says so
/// on stderr.
void choose_representation(Options& options, const Samples& samples);

const char* test_metric_name(const Options& options);

/// What metrics of a test or validation set say first: accuracy, or rmse.
double metric_of(const zipml::Metrics& metrics);

/// Throws the Error that saving would end with after the training: a model or history that cannot be written,
/// or that would replace one of the files that are read.
void check_outputs(const Options& options);

/// Writes the history of a run as CSV, or as a picture.
void write_history(const Options& options, const Result& result);

/// Prints what held-out rows say of the penalties of a path.
void show_path(const Options& options, const std::vector<PathPoint>& points);

/// Trains once, or at every width of a sweep, 32 bits first. Prints a line per epoch of a single run unless
/// --json.
std::vector<Result> run(const Options& options, const Samples& samples);

/// What programs do for one loss; each is compiled in a file of its own.
struct LossProgram {
  const char* name;
  std::vector<Result> (*run)(const Options&, const Samples&);
  zipml::Recommendation (*recommend)(const zipml::Dataset&, bool several_classes, const zipml::ElasticNet&,
                                     const zipml::RecommendOptions&);
  /// Null where refinement cannot serve the loss.
  zipml::RefinementRecommendation (*recommend_refinement)(const zipml::Dataset&, const zipml::ElasticNet&,
                                                          const zipml::RefinementSearch&);
  zipml::Representation (*representation)(int bits, bool with_pilot);
  zipml::PilotLoss pilot_loss;
  bool has_pilot;
  bool classifies;
};
LossProgram least_squares_program();
LossProgram ls_svm_program();
LossProgram logistic_program();
LossProgram hinge_program();
LossProgram squared_hinge_program();
LossProgram huber_program();
LossProgram poisson_program();
LossProgram softmax_program();
/// That of a --loss.
LossProgram loss_program(const std::string& name);
