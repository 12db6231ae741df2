#pragma once
/// \file
/// Room training: the training loop: minibatch stochastic (proximal) gradient descent on any samples, with any
/// estimator, loss, regularizer and step size.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <span>
#include <utility>

#include <zipml/estimators/requirements.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/model/step_sizes.hpp>
#include <zipml/training/curvature.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/original_units.hpp>
#include <zipml/training/safety.hpp>
#include <zipml/training/single_rows.hpp>
#include <zipml/training/tail_average.hpp>
#include <zipml/training/verdict.hpp>
#include <zipml/training/visiting_order.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// The kernels that a store brings, or all of them.
template <class Store>
KernelTable kernels_for_store(const Store& store, Isa isa) {
  if constexpr (requires { store.kernels(isa); })
    return store.kernels(isa);
  else
    return kernels_of(isa);
}

/// SingleRows, where an estimator has them.
template <class Estimator>
struct SingleRowsChoice {
  struct type {};
};
template <BilinearEstimator Estimator>
struct SingleRowsChoice<Estimator> {
  using type = SingleRows<Estimator>;
};
template <class Estimator>
using SingleRowsOf = typename SingleRowsChoice<Estimator>::type;

}  // namespace detail

/// x <- prox(x - step * (g + l)), c <- c - step * (mean residual + l_c), g the estimator's gradient of a batch, l the
/// linear term. The model store keeps x in float32 (ZipML 2017, section 2); batches are ranges of store rows, visited
/// in a fresh random order each epoch. One epoch costs one reading of the samples and O(d) float work per batch.
///
///     const auto fit = zipml::Sgd{zipml::SquaredLoss{}, zipml::L2{1e-4f}}.fit(store, {.epochs = 20});
template <Loss L = SquaredLoss, Regularizer R = NoRegularizer, class Step = AutomaticStep>
class Sgd {
  static_assert(StepSize<Step> || DerivedStepSize<Step>,
                "zipml: a step size is callable with (epoch, iteration)");
  static_assert(!DerivedStepSize<Step> || BoundedCurvature<L>,
                "zipml: a step that is derived from the samples needs the loss's `slope` or `curvature`");

 public:
  explicit Sgd(L loss = {}, R regularizer = R{}, Step step = Step{})
      : loss_(std::move(loss)), regularizer_(std::move(regularizer)), step_(std::move(step)) {}

  /// Trains with the estimator that the store was quantized for. Same seed, same bits, for any number of
  /// threads and, on the integer path, any instruction set. Throws Error for options out of range.
  template <SampleStore Store, class... Observers>
  requires(Observer<Observers>&&...) Fit
      fit(const Store& store, const FitOptions& options = {}, Observers&&... observers)
  const {
    static_assert(
        requires { typename Store::DefaultEstimator; },
        "zipml: this store names no estimator: pass one, fit(store, estimator, options)");
    return fit(store, typename Store::DefaultEstimator{}, options, std::forward<Observers>(observers)...);
  }

  /// Trains with a given estimator, chosen kernels at run time.
  template <SampleStore Store, GradientEstimator Estimator, class... Observers>
  Fit fit(const Store& store, Estimator estimator, const FitOptions& options = {},
          Observers&&... observers) const {
    check<Store, Estimator, Observers...>();
    return fit_on(detail::kernels_for_store(store, active_isa(options.isa)), store, estimator, options,
                  observers...);
  }

  /// Trains on given kernels: those of a policy of one's own, say.
  ///
  ///     sgd.fit_on(zipml::KernelTable(MyKernels{}), store, zipml::naive, {});
  template <SampleStore Store, GradientEstimator Estimator, class... Observers>
  Fit fit_on(const KernelTable& kernels, const Store& store, Estimator estimator, const FitOptions& options,
             Observers&&... observers) const {
    return std::move(train(kernels, store, store.targets(), estimator, options, observers...)[0]);
  }

  /// Trains a model for each target over one reading of the samples an epoch. Every model has the bits that it would
  /// have alone on the integer path, and on float paths within one instruction set.
  ///
  ///     const zipml::Targets both(store.placement(), {first, second});
  ///     const auto fits = zipml::Sgd{}.fit_models(store, both, zipml::variance_corrected);
  template <SampleStore Store, GradientEstimator Estimator, class... Observers>
  List<Fit> fit_models(const Store& store, const Targets& targets, Estimator estimator,
                       const FitOptions& options = {}, Observers&&... observers) const {
    return train(detail::kernels_for_store(store, active_isa(options.isa)), store, targets, estimator,
                 options, observers...);
  }

 private:
  template <class Store, class Estimator, class... Observers>
  static constexpr void check() {
    static_assert(EstimatorSuitsLoss<Estimator, L>,
                  "zipml: this estimator is unbiased only for an AffineLoss (least squares, ls-svm)");
    static_assert(StoreHasEnoughDraws<Estimator, Store>,
                  "zipml: the store holds too few draws for this estimator: quantize for it");
    static_assert(StoreHasBias<Estimator, Store>,
                  "zipml: the store holds no bias terms for this estimator: quantize for it");
    static_assert((Observer<Observers> && ...),
                  "zipml: an observer takes an EpochEvent, returns nothing or Flow");
  }

  /// Below here stores are views, and what trains on them is compiled once for all.
  template <class Store, class Estimator, class... Observers>
  List<Fit> train(const KernelTable& kernels, const Store& store, const Targets& targets,
                  const Estimator& estimator, const FitOptions& options, Observers&&... observers) const {
    check<Store, Estimator, Observers...>();
    const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
    const Problem problem{store.samples(), &targets, &store.standardization(), store.seed()};
    if constexpr (FreshStore<Store>) {
      const auto fresh = store.fresh();
      Problem drawn = problem;
      drawn.samples = fresh->samples();
      drawn.fresh = fresh.get();
      return Run<Estimator>(*this, kernels, drawn, estimator, options).train(watching);
    } else {
      return Run<Estimator>(*this, kernels, problem, estimator, options).train(watching);
    }
  }

  /// What is trained on.
  struct Problem {
    SampleView samples;
    const Targets* targets;
    const Standardization* standardization;
    std::uint64_t seed;
    FreshSamples* fresh = nullptr;  ///< redraws `samples` for each epoch, or null
  };

  template <class Estimator>
  class Run;

  L loss_;
  R regularizer_;
  Step step_;
};

template <Loss L, Regularizer R, class Step>
template <class Estimator>
class Sgd<L, R, Step>::Run {
  using Clock = std::chrono::steady_clock;

 public:
  Run(const Sgd& sgd, const KernelTable& kernels, const Problem& problem, const Estimator& estimator,
      const FitOptions& options)
      : sgd_(sgd),
        kernels_(kernels),
        problem_(problem),
        samples_(problem.samples),
        estimator_(estimator),
        options_(checked(options, problem)),
        seed_(options.seed.value_or(problem.seed)),
        team_(thread_count(options.threads)),
        label_maps_(maps_of(sgd.loss_, *problem.targets)),
        targets_(*problem.targets, label_maps_),
        device_(kernels, samples_, targets_,
                {.models = models(),
                 .channels = {options.model, options.gradient},
                 .seed = seed_,
                 .team = &team_,
                 .reducer = options.reducer}),
        measuring_(kernels, samples_, targets_,
                   {.models = models(), .team = &team_, .reducer = options.reducer}),
        batch_(std::min(options.batch, samples_.rows)),
        order_(samples_.rows, batch_, seed_),
        padded_(padded(samples_.cols)),
        x_(padded_ * models()),
        c_(models()),
        linear_(options.linear_term.empty() ? 0 : padded_ * models()),
        average_(static_cast<std::size_t>(models()), TailAverage(padded_)),
        trains_(static_cast<std::size_t>(models()), true) {
    require_samples_for(estimator, samples_);
    for (int m = 0; m < models(); ++m) {
      if (!options.start.empty()) {
        take(options.start, m, x_.data() + m * padded_);
        c_[m] = static_cast<float>(intercept_of(options.start, m));
      }
      if (!linear_.empty()) take(options.linear_term, m, linear_.data() + m * padded_);
    }
  }

  List<Fit> train(std::span<const detail::ObserverRef> observers) {
    List<Fit> fits(static_cast<std::size_t>(models()));
    const auto start = Clock::now();
    Clock::duration watching{};
    begin_epoch(0);
    make_safe();
    use_single_rows();
    const auto step = resolved_step();
    const auto ready = Clock::now();
    const List<double> losses_of_zero = losses(Buffer<float>(x_.size()), Buffer<float>(c_.size()));
    watching += Clock::now() - ready;
    List<Buffer<double>> before(fits.size(), Buffer<double>(samples_.cols));
    for (int epoch = 0; epoch < options_.epochs && any_trains(); ++epoch) {
      run_epoch(epoch, step);
      for (std::size_t m = 0; m < fits.size(); ++m)
        if (trains_[m]) close_epoch(fits[m], m, epoch, before[m]);
      const auto pause = Clock::now();
      const double seconds = std::chrono::duration<double>(pause - start - watching).count();
      for (std::size_t m = 0; m < fits.size(); ++m) notify(observers, fits[m], m, epoch, seconds);
      watching += Clock::now() - pause;
    }
    const auto end = Clock::now();
    const double seconds = std::chrono::duration<double>(end - start - watching).count();
    const double setup = std::chrono::duration<double>(ready - start).count();
    for (std::size_t m = 0; m < fits.size(); ++m) {
      Fit& fit = fits[m];
      fit.isa = kernels_.name;
      fit.step = static_cast<double>(step(0, 0));
      fit.seconds = seconds;
      fit.seconds_per_epoch = (seconds - setup) / std::max(1, fit.epochs);
      fit.model_moved = device_.model_traffic(static_cast<int>(m));
      fit.gradient_moved = device_.gradient_traffic(static_cast<int>(m));
      const auto codes = static_cast<double>(samples_.codes_bytes);
      fit.samples_moved = {fit.epochs * codes,
                           fit.epochs * (static_cast<double>(samples_.store_bytes) - codes)};
      fit.smallest_eigenvalue = safe_.smallest_eigenvalue;
      fit.kept_correction = safe_.kept;
      fit.added_ridge = safe_.added_ridge;
      if (fit.weights.empty()) fit.weights = Buffer<double>(samples_.cols);
    }
    give_verdicts(fits, losses_of_zero);
    return fits;
  }

 private:
  int models() const { return problem_.targets->models(); }

  static const FitOptions& checked(const FitOptions& options, const Problem& problem) {
    if (options.epochs < 0)
      throw Error("the number of epochs is out of range", "at least 0", std::to_string(options.epochs));
    if (options.batch < 1)
      throw Error("the batch is out of range", "at least 1 row", std::to_string(options.batch));
    (void)thread_count(options.threads);
    if (!(options.tolerance >= 0.0))
      throw Error("the tolerance is out of range", "at least 0", number_text(options.tolerance));
    const Targets& targets = *problem.targets;
    if (targets.models() < 1 || targets.rows() != problem.samples.rows)
      throw Error("samples and targets differ in number",
                  std::to_string(problem.samples.rows) + " targets of each model",
                  std::to_string(targets.rows()) + " of " + std::to_string(targets.models()));
    check_vector("start", options.start, problem);
    check_vector("linear term", options.linear_term, problem);
    return options;
  }
  static void check_vector(const char* name, std::span<const double> vector, const Problem& problem) {
    const Index size = (problem.samples.cols + 1) * problem.targets->models();
    if (vector.empty()) return;
    if (static_cast<Index>(vector.size()) != size)
      throw Error(std::string("the ") + name + " has another number of entries",
                  std::to_string(size) + ", the intercept's last for each model",
                  std::to_string(vector.size()));
    if (!detail::all_finite(vector.data(), size))
      throw Error(std::string("the ") + name + " has an entry that is not finite", "finite numbers", "others");
  }
  static List<LabelMap> maps_of(const L& loss, const Targets& targets) {
    List<LabelMap> maps;
    for (int m = 0; m < targets.models(); ++m) maps.push_back(loss.label_map(targets.statistics(m)));
    return maps;
  }
  void take(std::span<const double> vector, int m, float* out) const {
    const double* from = vector.data() + m * (samples_.cols + 1);
    for (Index j = 0; j < samples_.cols; ++j) out[j] = static_cast<float>(from[j]);
  }
  double intercept_of(std::span<const double> vector, int m) const {
    return vector[static_cast<std::size_t>(m * (samples_.cols + 1) + samples_.cols)];
  }

  static constexpr double slope() {
    if constexpr (AffineLoss<L>) return static_cast<double>(L::slope);
    return 1.0;
  }
  double penalty() const {
    if constexpr (requires { sgd_.regularizer_.lambda(); })
      return static_cast<double>(sgd_.regularizer_.lambda());
    else
      return 0.0;
  }
  bool any_trains() const { return std::find(trains_.begin(), trains_.end(), true) != trains_.end(); }

  /// Fresh samples are rounded anew.
  void begin_epoch(int epoch) const {
    if (problem_.fresh != nullptr) problem_.fresh->draw(epoch);
  }

  void make_safe() {
    safe_ = zipml::make_safe(measuring_, samples_, estimator_, options_.safety, penalty(), slope(),
                             problem_.seed);
    device_.set_correction(safe_.correction);
  }

  /// Batches of one row do without the device where everything but the samples is float32.
  void use_single_rows() {
    if constexpr (BilinearEstimator<Estimator>) {
      if (batch_ != 1 || !device_.is_exact() || !linear_.empty() || options_.reducer != nullptr) return;
      Buffer<float> correction = safe_.correction;
      for (float& v : correction) v *= static_cast<float>(slope());
      for (int m = 0; m < models(); ++m)
        single_rows_.push_back(std::make_unique<SingleRows<Estimator>>(kernels_, samples_, targets_.of(m),
                                                                       correction));
    }
  }

  auto resolved_step() const {
    if constexpr (DerivedStepSize<Step>) {
      Curvature curvature = measure_curvature(samples_);
      curvature.loss = static_cast<double>(curvature_bound<L>());
      curvature.noise_gain = safe_.noise_gain;
      curvature.model_noise = options_.model.relative_variance(samples_.cols);
      curvature.gradient_noise = options_.gradient.relative_variance(samples_.cols);
      if (curvature.model_noise > 0.0 && curvature.gradient_noise > 0.0) {
        const double steps = static_cast<double>(options_.epochs) * static_cast<double>(samples_.rows) /
                             (curvature.top_eigenvalue * static_cast<double>(batch_));
        curvature.mean_inverse =
            measure_mean_inverse(samples_, problem_.seed, 1.0 / std::max(1.0, steps));
      }
      return sgd_.step_.resolve(curvature, batch_);
    } else {
      return sgd_.step_;
    }
  }

  /// One reading of the samples. A model that diverges trains no more.
  template <class S>
  void run_epoch(int epoch, const S& step) {
    begin_epoch(epoch);
    order_.shuffle(epoch);
    for (TailAverage& average : average_) average.begin_epoch(epoch + 1);
    for (Index r = 0; r < order_.size(); ++r) {
      if (!single_rows_.empty())
        visit_rows(order_.run(r), order_.run(r + 1), epoch, step);
      else
        visit_batches(order_.run(r), order_.run(r + 1), epoch, step);
      if (!any_trains()) return;
      for (std::size_t m = 0; m < average_.size(); ++m)
        if (trains_[m]) average_[m].add(kernels_, x_of(m), c_[static_cast<Index>(m)]);
    }
    for (std::size_t m = 0; m < average_.size(); ++m)
      if (!detail::all_finite(x_of(m), samples_.cols) || !detail::all_finite(&c_[static_cast<Index>(m)], 1))
        diverge(m);
  }

  /// The batches of a run; `next` is the run after it.
  template <class S>
  void visit_batches(RowRange run, RowRange next, int epoch, const S& step) {
    device_.announce(next.first, next.count);
    const Index end = run.first + run.count;
    for (Index first = run.first; first < end; first += batch_) {
      const Index count = std::min(batch_, end - first);
      device_.begin_batch(first, count, x_.data(), c_.data(), static_cast<std::uint64_t>(iteration_));
      while (device_.next_pass()) device_.add_pass(estimator_, sgd_.loss_);
      // The last batch may be short: its rows weigh what other rows weigh, or a single one could break the
      // step's bound.
      const float s = step(epoch, iteration_) * (static_cast<float>(count) / static_cast<float>(batch_));
      for (std::size_t m = 0; m < trains_.size(); ++m) {
        const float residual = device_.descend(static_cast<int>(m), s, x_of(m));
        if (has_diverged(residual, device_.largest())) diverge(m);
        follow(m, residual, s);
      }
      ++iteration_;
      if (!any_trains()) return;
    }
  }

  /// The same where a batch is one row: every model in turn, while the rows of the run are in cache.
  template <class S>
  void visit_rows(RowRange run, RowRange next, int epoch, const S& step) {
    if constexpr (BilinearEstimator<Estimator>) {
      device_.count_batches(run.count);
      const Index before = iteration_;
      for (std::size_t m = 0; m < trains_.size(); ++m) {
        if (!trains_[m]) continue;
        SingleRows<Estimator>& rows = *single_rows_[m];
        rows.begin_run(run.first, run.count, next.first, next.count);
        iteration_ = before;
        for (Index i = run.first; i < run.first + run.count; ++i, ++iteration_) {
          const float residual = rows.residual(i, sgd_.loss_, x_of(m), c_[static_cast<Index>(m)]);
          if (!(std::fabs(residual) < runaway) || !(rows.largest() < runaway)) {
            diverge(m);
            break;
          }
          const float s = step(epoch, iteration_);
          rows.descend(s);
          if constexpr (!std::is_same_v<R, NoRegularizer>) rows.settle(x_of(m));
          follow(m, residual, s);
        }
        rows.settle(x_of(m));
      }
      iteration_ = before + run.count;
    }
  }

  /// What comes after the step of a batch along its gradient: the linear term, the penalty, and the intercept, which
  /// the mean residual moves.
  void follow(std::size_t m, float residual, float s) {
    if (!trains_[m]) {
      forget(m);
      return;
    }
    float& c = c_[static_cast<Index>(m)];
    if (!linear_.empty()) {
      const float* term = linear_.data() + static_cast<Index>(m) * padded_;
      kernels_.descend_row(RowStep{term, s}, x_of(m), padded_);
      c -= pinned(s * static_cast<float>(intercept_of(options_.linear_term, static_cast<int>(m))));
    }
    sgd_.regularizer_.prox(std::span(x_of(m), static_cast<std::size_t>(samples_.cols)), s);
    c -= pinned(s * residual);
  }

  float* x_of(std::size_t m) { return x_.data() + static_cast<Index>(m) * padded_; }
  void diverge(std::size_t m) {
    if (trains_[m]) diverged_.push_back(m);
    trains_[m] = false;
    if (trains_.size() > 1) forget(m);
  }
  /// A model that trains no more stays finite.
  void forget(std::size_t m) {
    std::fill_n(x_of(m), padded_, 0.0f);
    c_[static_cast<Index>(m)] = 0.0f;
  }

  void close_epoch(Fit& fit, std::size_t m, int epoch, Buffer<double>& before) {
    take_weights(fit, m);
    fit.epochs = epoch + 1;
    if (options_.tolerance > 0.0 && epoch > 0 && moved(before, fit.weights) <= options_.tolerance)
      end_model(fit, m, Status::converged);
    before = fit.weights;
  }
  void end_model(Fit& fit, std::size_t m, Status status) {
    fit.status = status;
    trains_[m] = false;
  }

  void notify(std::span<const detail::ObserverRef> observers, Fit& fit, std::size_t m, int epoch,
              double seconds) {
    if (fit.epochs != epoch + 1) return;  // it trains no more
    const EpochEvent event{epoch + 1,     options_.epochs, fit.weights.span(),
                           fit.intercept, seconds,         static_cast<int>(m)};
    bool stop = false;
    for (const detail::ObserverRef& observer : observers) stop = (observer(event) == Flow::stop) || stop;
    if (stop && fit.status == Status::completed) end_model(fit, m, Status::stopped);
  }

  void take_weights(Fit& fit, std::size_t m) {
    const Index d = samples_.cols;
    if (options_.average) {
      fit.weights = average_[m].weights(d);
      fit.intercept = average_[m].intercept();
      return;
    }
    fit.weights = Buffer<double>(d);
    for (Index j = 0; j < d; ++j) fit.weights[j] = static_cast<double>(x_of(m)[j]);
    fit.intercept = static_cast<double>(c_[static_cast<Index>(m)]);
  }

  static double moved(const Buffer<double>& a, const Buffer<double>& b) {
    double largest = 0.0;
    for (Index j = 0; j < a.size(); ++j) largest = std::max(largest, std::fabs(a[j] - b[j]));
    return largest;
  }

  /// Of the models as they are, not as channels would bring them; x padded.
  List<double> losses(const Buffer<float>& x, const Buffer<float>& c) {
    List<double> result = losses_on(measuring_, samples_, estimator_, sgd_.loss_, slope(), safe_.correction,
                                    x.data(), c.data(), options_.reducer);
    for (std::size_t m = 0; m < result.size() && !linear_.empty(); ++m) {
      const Index at = static_cast<Index>(m) * padded_;
      for (Index j = 0; j < samples_.cols; ++j)
        result[m] += static_cast<double>(linear_[at + j]) * static_cast<double>(x[at + j]);
      result[m] += intercept_of(options_.linear_term, static_cast<int>(m)) *
                   static_cast<double>(c[static_cast<Index>(m)]);
    }
    return result;
  }

  void give_verdicts(List<Fit>& fits, const List<double>& losses_of_zero) {
    Buffer<float> x(x_.size()), c(c_.size());
    for (std::size_t m = 0; m < fits.size(); ++m) {
      const Index at = static_cast<Index>(m) * padded_;
      for (Index j = 0; j < samples_.cols; ++j) x[at + j] = static_cast<float>(fits[m].weights[j]);
      c[static_cast<Index>(m)] = static_cast<float>(fits[m].intercept);
    }
    const List<double> values = losses(x, c);
    for (const std::size_t m : diverged_) fits[m].status = Status::diverged;
    for (std::size_t m = 0; m < fits.size(); ++m) {
      Fit& fit = fits[m];
      fit.quantized_loss = values[m];
      judge(fit, values[m], losses_of_zero[m], !linear_.empty(), safe_.indefinite);
      const auto model = static_cast<int>(m);
      fit.model = in_original_units<L>(fit.weights.span(), fit.intercept, *problem_.standardization,
                                       problem_.targets->statistics(model), label_maps_[m]);
    }
  }

  const Sgd& sgd_;
  const KernelTable& kernels_;
  const Problem& problem_;
  const SampleView& samples_;
  const Estimator& estimator_;
  const FitOptions& options_;
  std::uint64_t seed_;
  ThreadTeam team_;
  List<LabelMap> label_maps_;
  MappedTargets targets_;
  GradientDevice device_;
  GradientDevice measuring_;  // with exact channels, for what is told of the samples
  Index batch_;
  VisitingOrder order_;
  Index padded_;
  Buffer<float> x_;       // the model store, m x padded
  Buffer<float> c_;       // m
  Buffer<float> linear_;  // m x padded, or empty
  List<TailAverage> average_;
  List<bool> trains_;
  List<std::size_t> diverged_;
  List<std::unique_ptr<detail::SingleRowsOf<Estimator>>> single_rows_;  // where batches are single rows
  SafeCorrection safe_;
  Index iteration_ = 0;
};

}  // namespace zipml::inline ZIPML_ABI
