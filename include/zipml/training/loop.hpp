#pragma once
/// \file
/// Room training: the loop of a fit without its types: what visits rows, takes steps, notifies observers and
/// judges. Loss, estimator, penalty and step rule come in through a few functions that are called once a
/// batch or less (sgd.hpp), so that all of this is compiled once.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/fingerprint.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/storage/sample_store.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/local_steps.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/safety.hpp>
#include <zipml/training/tail_average.hpp>
#include <zipml/training/verdict.hpp>
#include <zipml/training/visiting_order.hpp>

namespace zipml::inline ZIPML_ABI {

/// One of the models that are trained over one reading of the samples.
struct ModelPlan {
  int target = 0;                                  ///< whose labels
  RowRange held_out = {};                          ///< rows of the store that it is not trained on
  std::span<const double> held_out_gradient = {};  ///< Variant::held_out_gradient
};

/// Samples, targets and units of a fit. All of it must outlive the fit.
struct Problem {
  SampleView samples;
  const Targets* targets;
  std::span<const ModelPlan> plans;  ///< of each model
  const Standardization* standardization;
  std::uint64_t seed;             ///< of the store
  FreshSamples* fresh = nullptr;  ///< redraws `samples` for each epoch, or null
  Anchor anchor = {};             ///< where a pilot is used
};

/// One fit of a model for each target.
class TrainingLoop {
  using Clock = std::chrono::steady_clock;

 public:
  /// `label_maps` has an entry for each target. Throws Error for options out of range.
  TrainingLoop(const KernelTable& kernels, const Problem& problem, const FitOptions& options,
               List<LabelMap> label_maps);
  virtual ~TrainingLoop() = default;
  TrainingLoop(const TrainingLoop&) = delete;
  TrainingLoop& operator=(const TrainingLoop&) = delete;

  List<Fit> train(std::span<const detail::ObserverRef> observers);

 protected:
  /// The correction of the estimator, measured on a device with exact channels.
  virtual SafeCorrection make_safe(GradientDevice& measuring) = 0;
  /// Derives the step rule, where it is derived.
  virtual void resolve_step(double noise_gain) = 0;
  virtual float step_of(int epoch, Index iteration) const = 0;
  /// Residuals of the estimator for a pass of a device, and their accumulation.
  virtual void add_pass(GradientDevice& device) = 0;
  /// The same on the labels themselves, where differences from a pilot are trained: for the device's only model.
  virtual void add_pass_without_anchor(GradientDevice& device) = 0;
  /// Applies the penalty of a model to its d weights after a step.
  virtual void prox(std::size_t m, std::span<float> x, float step) const = 0;
  /// The same as a kernel does it, where one can.
  virtual std::optional<Shrinkage> shrinkage(std::size_t m, float step) const = 0;
  /// Whether prox does anything.
  virtual bool has_penalty() const = 0;
  /// The penalty of a model, of d weights.
  virtual double penalty_of(std::size_t m, std::span<const double> x) const = 0;
  /// Losses as the estimator tells them, see losses_on.
  virtual List<double> losses(GradientDevice& measuring, const Buffer<float>& correction, const float* x,
                              const float* intercepts) = 0;
  /// Gets ready for visit_rows: batches of one row without the device. False where the estimator has no such
  /// way.
  virtual bool use_single_rows(const Buffer<float>& /*correction*/) { return false; }
  /// The rows of a run, one a batch; `next` is the run after it.
  virtual void visit_rows(RowRange /*run*/, RowRange /*next*/, int /*epoch*/) {}
  /// Variance of the rounding in the margins of a model, as it was when losses() was asked last, where it is more than
  /// a corrected loss can undo; else 0.
  virtual double noise_beyond(int /*m*/) const { return 0.0; }
  /// Share of the margins of a model, as losses() was asked last, that its estimator does not hold for, and their bound.
  virtual double share_out_of_range(int /*m*/) const { return 0.0; }
  virtual double range() const { return 0.0; }
  virtual LinearModel in_original_units(const Fit& fit, int m) const = 0;
  /// The names of loss, penalty and estimator.
  virtual std::string kind() const = 0;
  /// Tells the penalties of all models from others (penalty_fingerprint).
  virtual std::uint64_t strengths() const = 0;
  /// How many models that stand side by side share a loss: they converge, stop and diverge together.
  virtual int models_together() const { return 1; }

  int models() const { return static_cast<int>(problem_.plans.size()); }
  bool steps_alone() const { return options_.reducer != nullptr && options_.local_steps > 1; }
  /// Rows of a batch that a step is made from: of one worker where they step alone.
  float step_rows() const {
    return static_cast<float>(batch_) / static_cast<float>(steps_alone() ? options_.reducer->workers() : 1);
  }
  const ModelPlan& plan(int m) const { return problem_.plans[static_cast<std::size_t>(m)]; }
  bool holds_out() const { return !held_out_.empty(); }
  bool trains(std::size_t m) const { return trains_[m] != 0; }
  /// Whether x_of() is a difference from a pilot. Labels are then 0, unless the anchor keeps them.
  bool trains_differences() const { return problem_.anchor.used(); }
  bool keeps_labels() const { return trains_differences() && problem_.anchor.keeps_labels; }
  bool has_linear_term() const { return !linear_.empty(); }
  /// What comes after the step of a batch along its gradient: the linear term, the penalty, and the
  /// intercept, which the mean residual moves.
  void follow(std::size_t m, float residual, float s);

  float* x_of(std::size_t m) { return x_.data() + static_cast<Index>(m) * padded_; }
  void diverge(std::size_t m) {
    for (const std::size_t other : sharing(m)) {
      if (trains(other)) diverged_.push_back(other);
      trains_[other] = 0;
      if (trains_.size() > 1) forget(other);
    }
  }
  /// The models that share a loss with model m, itself among them.
  List<std::size_t> sharing(std::size_t m) const {
    const auto together = static_cast<std::size_t>(models_together());
    List<std::size_t> models(together);
    for (std::size_t k = 0; k < together; ++k) models[k] = m / together * together + k;
    return models;
  }
  /// A model that trains no more stays finite.
  void forget(std::size_t m) {
    std::fill_n(x_of(m), padded_, 0.0f);
    c_[static_cast<Index>(m)] = 0.0f;
  }

  const KernelTable& kernels_;
  const Problem& problem_;
  const SampleView& samples_;
  const FitOptions& options_;
  std::uint64_t seed_;
  List<LabelMap> label_maps_;  // of each target
  List<RowRange> held_out_;    // of each model, or empty
  ThreadTeam team_;
  MappedTargets targets_;
  GradientDevice device_;
  // With exact channels, for what is measured on the samples. Every worker measures all of them, so that
  // steps and corrections have the same bits for any number of workers.
  GradientDevice measuring_;
  Index batch_;
  VisitingOrder order_;
  Index padded_;
  Buffer<float> x_;  // the model store, m x padded
  Buffer<float> c_;  // m
  Index iteration_ = 0;

 private:
  static const FitOptions& checked(const FitOptions& options, const Problem& problem);
  static void check_vector(const char* name, std::span<const double> vector, Index size);
  /// Throws Error on all workers unless all of them run the same fit.
  void require_same_fit(Reducer& reducer) const;
  MappedTargets mapped_targets() const;
  List<RowRange> held_out_rows() const;
  void set_anchor();
  /// Takes the gradient that the rows of a model's `held_out` have at the pilot, as they are packed, out of that of all
  /// rows.
  void take_held_out_terms();
  /// The margins of the pilot in all rows as they are packed, in one reading.
  void take_anchor_margins();
  void take(std::span<const double> vector, int m, float* out) const {
    const double* from = vector.data() + m * (samples_.cols + 1);
    for (Index j = 0; j < samples_.cols; ++j) out[j] = static_cast<float>(from[j]);
  }
  double intercept_of(std::span<const double> vector, int m) const {
    return vector[static_cast<std::size_t>(m * (samples_.cols + 1) + samples_.cols)];
  }

  bool any_trains() const { return std::find(trains_.begin(), trains_.end(), 1) != trains_.end(); }

  /// Fresh samples are rounded anew.
  void begin_epoch(int epoch) const {
    if (problem_.fresh != nullptr) problem_.fresh->draw(epoch);
  }

  /// One reading of the samples. A model that diverges trains no more.
  void run_epoch(int epoch);

  /// The batches of a run; `next` is the run after it.
  void visit_batches(RowRange run, RowRange next, int epoch);

  /// The models of all workers become their mean, where they step alone.
  void meet();

  /// Takes weights, and ends models that move no more.
  void close_epoch(List<Fit>& fits, int epoch, List<Buffer<double>>& before);
  /// With the models that share its loss.
  void end_model(List<Fit>& fits, std::size_t m, FitStatus status) {
    for (const std::size_t other : sharing(m)) {
      fits[other].status = status;
      trains_[other] = 0;
    }
  }

  void notify(std::span<const detail::ObserverRef> observers, List<Fit>& fits, std::size_t m, int epoch,
              double seconds);

  void take_weights(Fit& fit, std::size_t m);
  /// From differences to weights.
  void add_anchor(Fit& fit) const {
    if (!trains_differences()) return;
    for (Index j = 0; j < samples_.cols; ++j) fit.weights[j] += static_cast<double>(anchor_[j]);
    fit.intercept += anchor_of_c_;
  }

  /// The weights of a model that no epoch has changed, or none that went well.
  void take_start(Fit& fit, int m) const;

  static double moved(const Buffer<double>& a, const Buffer<double>& b) {
    double largest = 0.0;
    for (Index j = 0; j < a.size(); ++j) largest = (std::max)(largest, std::fabs(a[j] - b[j]));
    return largest;
  }

  /// Of the models as they are, not as channels would bring them; x padded.
  List<double> losses_with_term(const Buffer<float>& x, const Buffer<float>& c);

  void give_verdicts(List<Fit>& fits, const List<double>& losses_of_zero);

  Buffer<float> linear_;        // m x padded, or empty
  Buffer<double> linear_of_c_;  // m, or empty
  // Where a pilot is used, x_ and c_ are differences from these.
  Buffer<float> anchor_;  // padded, or empty
  double anchor_of_c_ = 0.0;
  List<TailAverage> average_;
  List<char> trains_;  // of each model: whether it still does
  std::optional<LocalSteps> local_;
  List<char> ran_away_;  // of each model, on this worker, since they met
  List<std::size_t> diverged_;
  bool has_single_rows_ = false;
  List<double> refetched_;
  SafeCorrection safe_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION TrainingLoop::TrainingLoop(const KernelTable& kernels, const Problem& problem,
                                          const FitOptions& options, List<LabelMap> label_maps)
    : kernels_(kernels),
      problem_(problem),
      samples_(problem.samples),
      options_(checked(options, problem)),
      seed_(options.seed.value_or(problem.seed)),
      label_maps_(std::move(label_maps)),
      held_out_(held_out_rows()),
      team_(thread_count(options.threads)),
      targets_(problem.anchor.used() && !problem.anchor.keeps_labels ? MappedTargets(problem.samples.rows)
                                                                     : mapped_targets()),
      device_(kernels, samples_, targets_,
              {.models = models(),
               .channels = {options.model, steps_alone() ? Channel{} : options.gradient},
               .seed = seed_,
               .team = &team_,
               .reducer = options.reducer,
               .alone = steps_alone(),
               .held_out = held_out_,
               .refetcher = options.refetcher}),
      measuring_(kernels, samples_, targets_,
                 {.models = models(), .team = &team_, .refetcher = options.refetcher}),
      batch_((std::min)(options.batch, samples_.rows)),
      order_(samples_.rows, batch_, seed_),
      padded_(padded(samples_.cols)),
      x_(padded_ * models()),
      c_(models()),
      linear_(options.linear_term.empty() && !problem.anchor.used() ? 0 : padded_ * models()),
      linear_of_c_(linear_.empty() ? 0 : models()),
      average_(static_cast<std::size_t>(models()), TailAverage(padded_)),
      trains_(static_cast<std::size_t>(models()), 1) {
  for (int m = 0; m < models(); ++m) {
    if (!options.start.empty()) {
      take(options.start, m, x_.data() + m * padded_);
      c_[m] = static_cast<float>(intercept_of(options.start, m));
    }
    if (!options.linear_term.empty()) {
      take(options.linear_term, m, linear_.data() + m * padded_);
      linear_of_c_[m] = intercept_of(options.linear_term, m);
    }
  }
  if (problem.anchor.used()) set_anchor();
  if (options.reducer != nullptr) require_same_fit(*options.reducer);
  if (steps_alone()) {
    local_.emplace(*options.reducer, kernels_, options.gradient, samples_.cols, models(), seed_);
    local_->begin(x_.data(), c_.data());
    ran_away_ = List<char>(static_cast<std::size_t>(models()), 0);
  }
}

ZIPML_FUNCTION void TrainingLoop::require_same_fit(Reducer& reducer) const {
  const auto count = [](auto value) { return static_cast<std::uint64_t>(value); };
  const auto bits = [](double value) { return std::bit_cast<std::uint64_t>(value); };
  const auto channel = [&](const Channel& c) {
    return count(c.bits) | count(c.scaling) << 8 | count(c.levels) << 12 | count(c.nearest) << 16 |
           count(c.error_feedback) << 17 | count(c.block) << 20 | count(c.refit) << 48;
  };
  Fingerprint held_out;
  for (const ModelPlan& plan : problem_.plans)
    held_out.add(count(plan.target)).add(count(plan.held_out.first)).add(count(plan.held_out.count));
  const std::span<const float> weights_of_rows(
      samples_.weights, samples_.weights != nullptr ? static_cast<std::size_t>(samples_.rows) : 0);
  constexpr std::uint64_t version =
      ZIPML_VERSION_MAJOR * 1'000'000 + ZIPML_VERSION_MINOR * 1'000 + ZIPML_VERSION_PATCH;
  require_agreement(reducer, {{"versions of the library", version},
                              {"numbers of rows", count(samples_.rows)},
                              {"numbers of columns", count(samples_.cols)},
                              {"stored bits", bits(samples_.stored_bits)},
                              {"seeds of the store", problem_.seed},
                              {"labels", label_fingerprint(problem_.targets->values())},
                              {"weights of the rows", Fingerprint().add(weights_of_rows).value()},
                              {"rows held out", held_out.value()},
                              {"starts", Fingerprint().add(options_.start).value()},
                              {"linear terms", Fingerprint().add(options_.linear_term).value()},
                              {"numbers of models", count(models())},
                              {"pilots", count(trains_differences() ? problem_.anchor.pilot->rows : 0)},
                              {"seeds", seed_},
                              {"numbers of epochs", count(options_.epochs)},
                              {"batches", count(options_.batch)},
                              {"local steps", count(options_.local_steps)},
                              {"ways to average", count(options_.average)},
                              {"tolerances", bits(options_.tolerance)},
                              {"model channels", channel(options_.model)},
                              {"gradient channels", channel(options_.gradient)}});
}

ZIPML_FUNCTION MappedTargets TrainingLoop::mapped_targets() const {
  List<int> of_models;
  for (const ModelPlan& plan : problem_.plans) of_models.push_back(plan.target);
  return MappedTargets(*problem_.targets, label_maps_, of_models);
}

ZIPML_FUNCTION List<RowRange> TrainingLoop::held_out_rows() const {
  List<RowRange> rows;
  bool any = false;
  for (const ModelPlan& plan : problem_.plans) {
    rows.push_back(plan.held_out);
    any = any || plan.held_out.count > 0;
  }
  return any ? rows : List<RowRange>();
}

ZIPML_FUNCTION void TrainingLoop::set_anchor() {
  const Anchor& anchor = problem_.anchor;
  const Index d = samples_.cols;
  anchor_ = Buffer<float>(padded_);
  anchor_of_c_ = anchor.intercept();
  for (Index j = 0; j < d; ++j) anchor_[j] = static_cast<float>(anchor.weight(j));
  for (int m = 0; m < models(); ++m) {
    float* const linear = linear_.data() + m * padded_;
    for (Index j = 0; j < d; ++j) linear[j] += static_cast<float>(anchor.gradient(j));
    linear_of_c_[m] += anchor.gradient(d);
    if (options_.start.empty()) continue;  // begins at the pilot
    for (Index j = 0; j < d; ++j) x_of(static_cast<std::size_t>(m))[j] -= anchor_[j];
    c_[m] = static_cast<float>(intercept_of(options_.start, m) - anchor_of_c_);
  }
}

ZIPML_FUNCTION void TrainingLoop::take_held_out_terms() {
  const MappedTargets labels = mapped_targets();
  GradientDevice device(kernels_, samples_, labels, {.team = &team_});
  Buffer<float> correction(samples_.bias != nullptr ? samples_.cols : 0);
  std::copy_n(samples_.bias, correction.size(), correction.data());
  device.set_correction(correction);
  Buffer<float> gradient(padded_);
  double of_c = 0.0;
  RowRange known;  // models of one fold stand side by side
  for (int m = 0; m < models(); ++m) {
    const RowRange rows = held_out_[static_cast<std::size_t>(m)];
    if (rows.count == 0) continue;
    const std::span<const double> exact = plan(m).held_out_gradient;
    if (exact.empty() && (rows.first != known.first || rows.count != known.count)) {
      device.begin_batch(rows.first, rows.count, anchor_.data(), static_cast<float>(anchor_of_c_), 0);
      while (device.next_pass()) add_pass_without_anchor(device);
      of_c = static_cast<double>(device.end_batch(gradient.data()));
      known = rows;
    }
    const double share = static_cast<double>(rows.count) / static_cast<double>(samples_.rows);
    float* const linear = linear_.data() + m * padded_;
    // (g - share h) / (1 - share) in the place of the pilot's g; a linear term of the user's stays.
    const auto change = [&](double all, double held_out) { return share * (all - held_out) / (1.0 - share); };
    for (Index j = 0; j < samples_.cols; ++j)
      linear[j] += static_cast<float>(
          change(problem_.anchor.gradient(j),
                 exact.empty() ? static_cast<double>(gradient[j]) : exact[static_cast<std::size_t>(j)]));
    linear_of_c_[m] += change(problem_.anchor.gradient(samples_.cols), exact.empty() ? of_c : exact.back());
  }
}

ZIPML_FUNCTION void TrainingLoop::take_anchor_margins() {
  Buffer<float> margins(samples_.rows);
  GradientDevice device(kernels_, samples_, targets_, {.team = &team_});  // for one model
  const auto intercept = static_cast<float>(anchor_of_c_);
  const SharedRows all{{0, samples_.rows}, options_.reducer};
  all.for_pieces(4096, [&](Index, RowRange rows) {
    device.begin_batch(rows.first, rows.count, anchor_.data(), intercept, 0);
    for (Index at = rows.first; device.next_pass(); at += device.rows()) {
      device.margins(1u);
      std::copy_n(device.margins_of()[0].data(), device.rows(), margins.data() + at);
    }
  });
  if (options_.reducer != nullptr) options_.reducer->sum(margins.span());  // 0 where others have read
  targets_.set_anchors(std::move(margins));
}

ZIPML_FUNCTION List<Fit> TrainingLoop::train(std::span<const detail::ObserverRef> observers) {
  List<Fit> fits(static_cast<std::size_t>(models()));
  const auto start = Clock::now();
  Clock::duration watching{};
  if (options_.reducer != nullptr)
    require_agreement(*options_.reducer, {{"losses, estimators or penalties",
                                           Fingerprint().add(std::string_view(kind())).value()},
                                          {"strengths of penalties", strengths()}});
  begin_epoch(0);
  if (keeps_labels()) take_anchor_margins();
  if (trains_differences() && holds_out()) take_held_out_terms();
  safe_ = make_safe(measuring_);
  device_.set_correction(safe_.correction);
  has_single_rows_ = batch_ == 1 && device_.is_exact() && options_.reducer == nullptr && !holds_out() &&
                     use_single_rows(safe_.correction);
  resolve_step(safe_.noise_gain);
  if (options_.reducer != nullptr)
    require_agreement(*options_.reducer,
                      {{"steps", Fingerprint().add(static_cast<double>(step_of(0, 0))).value()},
                       {"corrections", Fingerprint().add(std::as_const(safe_.correction).span()).value()}});
  const auto ready = Clock::now();
  Buffer<float> zero(x_.size()), zero_of_c(c_.size());
  for (int m = 0; m < models() && trains_differences(); ++m) {
    for (Index j = 0; j < samples_.cols; ++j) zero[m * padded_ + j] = -anchor_[j];
    zero_of_c[m] = static_cast<float>(-anchor_of_c_);
  }
  const List<double> losses_of_zero = losses_with_term(zero, zero_of_c);
  watching += Clock::now() - ready;
  List<Buffer<double>> before(fits.size(), Buffer<double>(samples_.cols));
  for (int epoch = 0; epoch < options_.epochs && any_trains(); ++epoch) {
    run_epoch(epoch);
    if (options_.refetcher != nullptr) {
      auto fetched = static_cast<double>(device_.take_fetched());
      if (options_.reducer != nullptr) options_.reducer->sum(std::span<double>(&fetched, 1));
      refetched_.push_back(fetched / static_cast<double>(samples_.rows * models()));
    }
    close_epoch(fits, epoch, before);
    const auto pause = Clock::now();
    const double seconds = std::chrono::duration<double>(pause - start - watching).count();
    for (std::size_t m = 0; m < fits.size(); ++m) notify(observers, fits, m, epoch, seconds);
    watching += Clock::now() - pause;
  }
  const auto end = Clock::now();
  const double seconds = std::chrono::duration<double>(end - start - watching).count();
  const double setup = std::chrono::duration<double>(ready - start).count();
  for (std::size_t m = 0; m < fits.size(); ++m) {
    Fit& fit = fits[m];
    fit.isa = kernels_.name;
    fit.step = static_cast<double>(step_of(0, 0));
    fit.seconds = seconds;
    fit.seconds_per_epoch = (seconds - setup) / (std::max)(1, fit.epochs);
    fit.model_moved = device_.model_traffic(static_cast<int>(m));
    fit.gradient_moved =
        local_ ? local_->traffic(static_cast<int>(m)) : device_.gradient_traffic(static_cast<int>(m));
    const auto codes = static_cast<double>(samples_.codes_bytes);
    fit.samples_moved = {fit.epochs * codes,
                         fit.epochs * (static_cast<double>(samples_.store_bytes) - codes)};
    fit.smallest_eigenvalue = safe_.smallest_eigenvalue;
    fit.kept_correction = safe_.kept;
    fit.added_ridge = safe_.added_ridge;
    fit.refetched = refetched_;
    fit.pilot_rows = trains_differences() ? problem_.anchor.pilot->rows : 0;
    fit.without_pilot = problem_.anchor.reason;
    if (fit.epochs == 0) take_start(fit, static_cast<int>(m));
  }
  give_verdicts(fits, losses_of_zero);
  return fits;
}

ZIPML_FUNCTION void TrainingLoop::follow(std::size_t m, float residual, float s) {
  if (!trains(m)) {
    forget(m);
    return;
  }
  float& c = c_[static_cast<Index>(m)];
  if (!linear_.empty()) {
    const float* term = linear_.data() + static_cast<Index>(m) * padded_;
    kernels_.descend_row(RowStep{term, s}, x_of(m), padded_);
    c -= pinned(s * static_cast<float>(linear_of_c_[static_cast<Index>(m)]));
  }
  // The penalty is one of the weights themselves.
  if (std::optional<Shrinkage> by = shrinkage(m, s)) {
    if (trains_differences()) by->anchor = anchor_.data();
    kernels_.shrink(*by, x_of(m), padded_);
  } else if (has_penalty()) {
    const auto d = static_cast<std::size_t>(samples_.cols);
    if (trains_differences())
      for (Index j = 0; j < samples_.cols; ++j) x_of(m)[j] += anchor_[j];
    prox(m, std::span(x_of(m), d), s);
    if (trains_differences())
      for (Index j = 0; j < samples_.cols; ++j) x_of(m)[j] -= anchor_[j];
  }
  c -= pinned(s * residual);
}

ZIPML_FUNCTION const FitOptions& TrainingLoop::checked(const FitOptions& options, const Problem& problem) {
  if (options.epochs < 0)
    throw Error("the number of epochs is out of range", "at least 0", std::to_string(options.epochs));
  if (options.local_steps < 1)
    throw Error("the number of local steps is out of range", "at least 1",
                std::to_string(options.local_steps));
  if (options.batch < 1)
    throw Error("the batch is out of range", "at least 1 row", std::to_string(options.batch));
  (void)thread_count(options.threads);
  if (!(options.tolerance >= 0.0))
    throw Error("the tolerance is out of range", "at least 0", number_text(options.tolerance));
  const Targets& targets = *problem.targets;
  for (const ModelPlan& plan : problem.plans) {
    const RowRange& rows = plan.held_out;
    if (rows.first < 0 || rows.count < 0 || rows.first > targets.rows() - rows.count ||
        rows.count == targets.rows())
      throw Error("rows that a model is not trained on are out of range",
                  "a part of " + std::to_string(targets.rows()) + " rows",
                  std::to_string(rows.count) + " rows from " + std::to_string(rows.first) + " on");
    check_vector("gradient of held-out rows", plan.held_out_gradient, problem.samples.cols + 1);
    if (plan.target < 0 || plan.target >= targets.models())
      throw Error("there is no such target", "one of " + std::to_string(targets.models()),
                  std::to_string(plan.target));
  }
  if (problem.plans.empty() || targets.models() < 1 || targets.rows() != problem.samples.rows)
    throw Error("samples and targets differ in number",
                std::to_string(problem.samples.rows) + " targets of each model",
                std::to_string(targets.rows()) + " of " + std::to_string(targets.models()));
  const Index of_all = (problem.samples.cols + 1) * static_cast<Index>(problem.plans.size());
  check_vector("start", options.start, of_all);
  check_vector("linear term", options.linear_term, of_all);
  return options;
}

ZIPML_FUNCTION void TrainingLoop::check_vector(const char* name, std::span<const double> vector, Index size) {
  if (vector.empty()) return;
  if (static_cast<Index>(vector.size()) != size)
    throw Error(std::string("the ") + name + " has another number of entries",
                std::to_string(size) + ", the intercept's last for each model",
                std::to_string(vector.size()));
  if (!detail::all_finite(vector.data(), size))
    throw Error(std::string("the ") + name + " has an entry that is not finite", "finite numbers", "others");
}

ZIPML_FUNCTION void TrainingLoop::run_epoch(int epoch) {
  begin_epoch(epoch);
  order_.shuffle(epoch);
  for (TailAverage& average : average_) average.begin_epoch(epoch + 1);
  for (Index r = 0; r < order_.size(); ++r) {
    if (has_single_rows_)
      visit_rows(order_.run(r), order_.run(r + 1), epoch);
    else
      visit_batches(order_.run(r), order_.run(r + 1), epoch);
    if (!any_trains()) return;
    for (std::size_t m = 0; m < average_.size(); ++m)
      if (trains(m)) average_[m].add(kernels_, x_of(m), c_[static_cast<Index>(m)]);
  }
  if (local_ && iteration_ % options_.local_steps != 0) meet();
  for (std::size_t m = 0; m < average_.size(); ++m)
    if (!detail::all_finite(x_of(m), samples_.cols) || !detail::all_finite(&c_[static_cast<Index>(m)], 1))
      diverge(m);
}

ZIPML_FUNCTION void TrainingLoop::visit_batches(RowRange run, RowRange next, int epoch) {
  device_.announce(next.first, next.count);
  const Index end = run.first + run.count;
  for (Index first = run.first; first < end; first += batch_) {
    const Index count = (std::min)(batch_, end - first);
    device_.begin_batch(first, count, x_.data(), c_.data(), static_cast<std::uint64_t>(iteration_));
    while (device_.next_pass()) add_pass(device_);
    // The last batch may be short: its rows weigh what other rows weigh, or a single one could break the
    // step's bound.
    const float step = step_of(epoch, iteration_);
    for (std::size_t m = 0; m < trains_.size(); ++m) {
      const Index seen = device_.seen_rows(static_cast<int>(m));
      const float s = step * (static_cast<float>(seen) / step_rows());
      const float residual = device_.descend(static_cast<int>(m), s, x_of(m));
      if (has_diverged(residual, device_.largest())) {
        if (local_)
          ran_away_[m] = 1;  // all of them are told when they meet
        else
          diverge(m);
      }
      if (seen > 0) follow(m, residual, s);
    }
    ++iteration_;
    if (local_ && iteration_ % options_.local_steps == 0) meet();
    if (!any_trains()) return;
  }
}

ZIPML_FUNCTION void TrainingLoop::meet() {
  for (std::size_t m = 0; m < trains_.size(); ++m) {
    if (!trains(m)) continue;
    local_->meet(static_cast<int>(m), x_of(m), c_[static_cast<Index>(m)]);
    if (options_.reducer->any(ran_away_[m] != 0)) diverge(m);
  }
}

ZIPML_FUNCTION void TrainingLoop::close_epoch(List<Fit>& fits, int epoch, List<Buffer<double>>& before) {
  const bool may_end = options_.tolerance > 0.0 && epoch > 0;
  for (std::size_t first = 0; first < fits.size(); first += static_cast<std::size_t>(models_together())) {
    if (!trains(first)) continue;
    double most = 0.0;
    for (const std::size_t m : sharing(first)) {
      take_weights(fits[m], m);
      fits[m].epochs = epoch + 1;
      if (may_end) most = (std::max)(most, moved(before[m], fits[m].weights));
      before[m] = fits[m].weights;
    }
    if (may_end && most <= options_.tolerance) end_model(fits, first, FitStatus::converged);
  }
}

ZIPML_FUNCTION void TrainingLoop::notify(std::span<const detail::ObserverRef> observers, List<Fit>& fits,
                                         std::size_t m, int epoch, double seconds) {
  const Fit& fit = fits[m];
  if (fit.epochs != epoch + 1) return;  // it trains no more
  const EpochEvent event{epoch + 1,     options_.epochs, fit.weights.span(),
                         fit.intercept, seconds,         static_cast<int>(m)};
  bool stop = false;
  for (const detail::ObserverRef& observer : observers) stop = (observer(event) == Flow::stop) || stop;
  if (options_.reducer != nullptr) stop = options_.reducer->any(stop);
  if (stop && fit.status == FitStatus::completed) end_model(fits, m, FitStatus::stopped);
}

ZIPML_FUNCTION void TrainingLoop::take_weights(Fit& fit, std::size_t m) {
  const Index d = samples_.cols;
  if (options_.average) {
    fit.weights = average_[m].weights(d);
    fit.intercept = average_[m].intercept();
  } else {
    fit.weights = Buffer<double>(d);
    for (Index j = 0; j < d; ++j) fit.weights[j] = static_cast<double>(x_of(m)[j]);
    fit.intercept = static_cast<double>(c_[static_cast<Index>(m)]);
  }
  if (local_ && options_.average) local_->mean(fit.weights.span(), fit.intercept);
  add_anchor(fit);
}

ZIPML_FUNCTION void TrainingLoop::take_start(Fit& fit, int m) const {
  fit.weights = Buffer<double>(samples_.cols);
  if (options_.start.empty()) return add_anchor(fit);
  std::copy_n(options_.start.data() + m * (samples_.cols + 1), samples_.cols, fit.weights.data());
  fit.intercept = intercept_of(options_.start, m);
}

ZIPML_FUNCTION List<double> TrainingLoop::losses_with_term(const Buffer<float>& x, const Buffer<float>& c) {
  List<double> result = losses(measuring_, safe_.correction, x.data(), c.data());
  for (std::size_t m = 0; m < result.size() && !linear_.empty(); ++m) {
    const Index at = static_cast<Index>(m) * padded_;
    for (Index j = 0; j < samples_.cols; ++j)
      result[m] += static_cast<double>(linear_[at + j]) * static_cast<double>(x[at + j]);
    result[m] += linear_of_c_[static_cast<Index>(m)] * static_cast<double>(c[static_cast<Index>(m)]);
  }
  for (double& loss : result)
    if (trains_differences()) loss += problem_.anchor.loss();
  return result;
}

ZIPML_FUNCTION void TrainingLoop::give_verdicts(List<Fit>& fits, const List<double>& losses_of_zero) {
  Buffer<float> x(x_.size()), c(c_.size());
  for (std::size_t m = 0; m < fits.size(); ++m) {
    const Index at = static_cast<Index>(m) * padded_;
    const auto anchor = [&](Index j) { return trains_differences() ? static_cast<double>(anchor_[j]) : 0.0; };
    for (Index j = 0; j < samples_.cols; ++j) x[at + j] = static_cast<float>(fits[m].weights[j] - anchor(j));
    c[static_cast<Index>(m)] =
        static_cast<float>(fits[m].intercept - (trains_differences() ? anchor_of_c_ : 0.0));
  }
  const List<double> values = losses_with_term(x, c);
  for (const std::size_t m : diverged_) fits[m].status = FitStatus::diverged;
  for (std::size_t m = 0; m < fits.size(); ++m) {
    Fit& fit = fits[m];
    fit.quantized_loss = values[m];
    const Buffer<double> none(samples_.cols);
    judge(fit, values[m] + penalty_of(m, fit.weights.span()), losses_of_zero[m] + penalty_of(m, none.span()),
          !options_.linear_term.empty(), safe_.indefinite);
    if (const double noise = noise_beyond(static_cast<int>(m)); noise > 0.0 && fit.success()) {
      fit.status = FitStatus::indefinite;
      fit.advice = detail::advice_for_noise(noise);
    }
    constexpr double most_outside = 0.01;
    if (const double share = share_out_of_range(static_cast<int>(m)); share > most_outside && fit.success()) {
      fit.status = FitStatus::out_of_range;
      fit.advice = detail::advice_for_range(share, range());
    }
    fit.model = in_original_units(fit, static_cast<int>(m));
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
