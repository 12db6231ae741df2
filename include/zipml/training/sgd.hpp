#pragma once
/// \file
/// Room training: the training loop: minibatch stochastic (proximal) gradient descent on any samples, with
/// any estimator, loss, regularizer and step size.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include <zipml/base/rounded.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/corrected_loss.hpp>
#include <zipml/estimators/polynomial.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/model/step_sizes.hpp>
#include <zipml/training/curvature.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/loop.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/original_units.hpp>
#include <zipml/training/safety.hpp>
#include <zipml/training/single_rows.hpp>
#include <zipml/training/verdict.hpp>

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

/// The step rule that a fit uses: a step size itself, or what a derived one resolves to.
template <class Step>
struct StepRule {
  using type = Step;
};
template <DerivedStepSize Step>
struct StepRule<Step> {
  using type = decltype(std::declval<const Step&>().resolve(std::declval<const Curvature&>(), Index{}));
};

/// The weighted mean of f over the first 65,536 rows, a random sample where there are more.
template <class F>
double mean_over_rows(const SampleView& samples, const F& f) {
  const Index rows = (std::min)(samples.rows, Index{1} << 16);
  double sum = 0.0;
  for (Index i = 0; i < rows; ++i)
    sum += (samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0) * f(i);
  return sum / static_cast<double>(rows);
}

/// What a derived step rests on, but for the loss and the noise of a correction, from what measure_curvature() has told.
inline Curvature curvature_for(Curvature curvature, const KernelTable& kernels, const SampleView& samples,
                               const FitOptions& options, std::uint64_t seed, Index batch) {
  curvature.model_noise = options.model.relative_variance(samples.cols);
  curvature.gradient_noise = options.gradient.relative_variance(samples.cols);
  if (curvature.model_noise > 0.0 && curvature.gradient_noise > 0.0) {
    const double steps = static_cast<double>(options.epochs) * static_cast<double>(samples.rows) /
                         (curvature.top_eigenvalue * static_cast<double>(batch));
    curvature.mean_inverse = measure_mean_inverse(kernels, samples, seed, 1.0 / (std::max)(1.0, steps));
  }
  return curvature;
}

}  // namespace detail

/// One of several models that are trained over one reading of the samples: its penalty, whose labels, and which rows of
/// the store it does not see.
///
///     const zipml::Variant<zipml::L2> variant{zipml::L2{1e-3f}};
template <Regularizer R>
struct Variant {
  R regularizer{};
  int target = 0;
  RowRange held_out = {};
  /// What the held-out rows bring to the gradient at the pilot of the store, as a mean over them, d + 1 entries in
  /// standardised units, which is taken from the pilot's; empty: of these rows as they are packed, whose labels a model then sees a little of.
  std::span<const double> held_out_gradient = {};
};

/// x <- prox(x - step * (g + l)), c <- c - step * (mean residual + l_c), g the estimator's gradient of a
/// batch, l the linear term. The model store keeps x in float32 (ZipML 2017, section 2); batches are ranges
/// of store rows, visited in a fresh random order each epoch. One epoch costs one reading of the samples and
/// O(d) float work per batch.
///
///     const auto fit = zipml::Sgd{zipml::SquaredLoss{}, zipml::L2{1e-4f}}.fit(store, {.epochs = 20});
template <class L = SquaredLoss, Regularizer R = NoRegularizer, class Step = AutomaticStep>
class Sgd {
  static_assert(Loss<L> || JointLoss<L>,
                "zipml: the first argument of Sgd is a Loss, or a JointLoss of classes");
  static_assert(StepSize<Step> || DerivedStepSize<Step>,
                "zipml: a step size is callable with (epoch, iteration)");

 public:
  explicit Sgd(L loss = {}, R regularizer = R{}, Step step = Step{})
      : loss_(std::move(loss)), regularizer_(std::move(regularizer)), step_(std::move(step)) {}

  const L& loss() const { return loss_; }
  const R& regularizer() const { return regularizer_; }
  /// The same with another penalty.
  Sgd with(R regularizer) const { return Sgd(loss_, std::move(regularizer), step_); }

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
    const Variant<R> variant{regularizer_};
    return std::move(
        train(kernels, store, store.targets(), std::span(&variant, 1), estimator, options, observers...)[0]);
  }

  /// Trains a model for each target over one reading of the samples an epoch. Every model has the bits that
  /// it would have alone on the integer path, and on float paths within one instruction set.
  ///
  ///     const zipml::Targets both(store.placement(), {first, second});
  ///     const auto fits = zipml::Sgd{}.fit_models(store, both, zipml::variance_corrected);
  template <SampleStore Store, GradientEstimator Estimator, class... Observers>
  List<Fit> fit_models(const Store& store, const Targets& targets, Estimator estimator,
                       const FitOptions& options = {}, Observers&&... observers) const {
    List<Variant<R>> variants;
    for (int m = 0; m < targets.models(); ++m) variants.push_back({regularizer_, m});
    return fit_variants(store, targets, variants, estimator, options, observers...);
  }

  /// Trains a model for each variant over one reading of the samples an epoch: penalties, targets, rows that are held
  /// out. Step and correction are those that are safe for the weakest penalty. The pilot of the store serves all of them
  /// where all have the labels that it was fitted to. `start` and `linear_term` have d + 1 entries for each variant.
  template <SampleStore Store, GradientEstimator Estimator, class... Observers>
  List<Fit> fit_variants(const Store& store, const Targets& targets,
                         std::type_identity_t<std::span<const Variant<R>>> variants, Estimator estimator,
                         const FitOptions& options = {}, Observers&&... observers) const {
    return train(detail::kernels_for_store(store, active_isa(options.isa)), store, targets, variants,
                 estimator, options, observers...);
  }

 private:
  template <class Store, class Estimator, class... Observers>
  static constexpr void check() {
    static_assert(pairs_name_draws<Estimator>(),
                  "zipml: a pair of the estimator's table names a draw beyond its `draws`");
    static_assert(!JointLoss<L> || EstimatorSuitsJointLoss<Estimator, L>,
                  "zipml: a loss of several classes together reads one draw and corrects nothing: naive");
    static_assert(JointLoss<L> || EstimatorSuitsLoss<Estimator, L>,
                  "zipml: this estimator is unbiased only for an AffineLoss (least squares, ls-svm)");
    static_assert(StoreHasEnoughDraws<Estimator, Store>,
                  "zipml: the store holds too few draws for this estimator: quantize for it");
    static_assert(StoreHasBias<Estimator, Store>,
                  "zipml: the store holds no bias terms for this estimator: quantize for it");
    static_assert(!DerivedStepSize<Step> || BoundedCurvature<L>,
                  "zipml: a step that is derived from the samples needs the loss's `slope` or `curvature`");
    static_assert((Observer<Observers> && ...),
                  "zipml: an observer takes an EpochEvent, returns nothing or Flow");
  }

  /// Below here stores are views, and what trains on them is compiled once for all.
  template <class Store, class Estimator, class... Observers>
  List<Fit> train(const KernelTable& kernels, const Store& store, const Targets& targets,
                  std::span<const Variant<R>> variants, const Estimator& estimator, const FitOptions& options,
                  Observers&&... observers) const {
    check<Store, Estimator, Observers...>();
    const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
    List<ModelPlan> plans;
    for (const Variant<R>& variant : variants)
      plans.push_back({variant.target, variant.held_out, variant.held_out_gradient});
    Problem problem{store.samples(), &targets, plans, &store.standardization(), store.seed()};
    // Of samples in a file: what was read of a part that was lost is no result.
    const auto checked = [&](List<Fit> fits) {
      if constexpr (requires { store.require_intact(); }) store.require_intact();
      return fits;
    };
    if constexpr (FreshStore<Store>) {
      if (const auto fresh = store.fresh()) {  // null: the draws of this store are frozen
        Problem drawn = problem;
        drawn.samples = fresh->samples();
        drawn.fresh = fresh.get();
        return checked(Run<Estimator>(*this, variants, kernels, drawn, estimator, options).train(watching));
      }
    }
    if constexpr (!JointLoss<L>) {
      if (options.pilot && options.refetcher == nullptr)
        problem.anchor = anchor_for<Estimator>(problem.samples.pilot, loss_, targets);
      refuse_far_pilot(problem, variants);
    }
    return checked(Run<Estimator>(*this, variants, kernels, problem, estimator, options).train(watching));
  }

  /// A pilot of a loss that is not affine helps where second derivatives are those of the optimum, about. One that is
  /// worse than no weights with the least of the penalties, since none is in it, is far from there: no anchor then.
  void refuse_far_pilot(Problem& problem, std::span<const Variant<R>> variants) const {
    if (!problem.anchor.keeps_labels) return;
    const Index d = problem.samples.cols;
    Buffer<double> weights(d), none(d);
    for (Index j = 0; j < d; ++j) weights[j] = problem.anchor.weight(j);
    const std::span<const float> labels = problem.targets->of(0);
    const LabelMap map = loss_.label_map(problem.targets->statistics(0));
    const double of_rows = detail::mean_over_rows(problem.samples, [&](Index i) {
      return loss_.value(0.0, static_cast<double>(map.apply(labels[static_cast<std::size_t>(i)])));
    });
    for (const Variant<R>& variant : variants)
      if (problem.anchor.loss() + variant.regularizer.value(weights.span()) <
          of_rows + variant.regularizer.value(none.span()))
        return;
    problem.anchor = Anchor{.reason = "the pilot, with the penalty, is worse than no weights"};
  }

  template <class Estimator>
  class Run;

  L loss_;
  R regularizer_;
  Step step_;
};

template <class L, Regularizer R, class Step>
template <class Estimator>
class Sgd<L, R, Step>::Run final : public TrainingLoop {
 public:
  Run(const Sgd& sgd, std::span<const Variant<R>> variants, const KernelTable& kernels,
      const Problem& problem, const Estimator& estimator, const FitOptions& options)
      : TrainingLoop(kernels, problem, options, maps_of(sgd.loss_, *problem.targets)),
        sgd_(sgd),
        variants_(variants),
        estimator_(estimator),
        noise_(variants.size()) {
    require_samples_for(estimator, problem.samples);
    if constexpr (JointLoss<L>) require_all_classes();
    if (options.refetcher == nullptr) return;
    if (!refetches)
      throw Error("refetching decides at the kink of a loss, for estimators that read one draw",
                  "hinge or squared-hinge, with naive or variance-corrected",
                  std::string(L::name) + " with " + Estimator::name);
    if (options.refetcher->rows() != problem.samples.rows ||
        options.refetcher->cols() != problem.samples.cols)
      throw Error(
          "the refetcher is of other samples",
          std::to_string(problem.samples.rows) + " x " + std::to_string(problem.samples.cols),
          std::to_string(options.refetcher->rows()) + " x " + std::to_string(options.refetcher->cols()));
  }

 private:
  static List<LabelMap> maps_of(const L& loss, const Targets& targets) {
    List<LabelMap> maps;
    for (int m = 0; m < targets.models(); ++m) maps.push_back(loss.label_map(targets.statistics(m)));
    return maps;
  }
  static constexpr double slope() {
    if constexpr (AffineLoss<L>) return static_cast<double>(L::slope);
    return 1.0;
  }
  /// Whether the variance of rounding is subtracted from a loss that is not affine.
  static constexpr bool corrects_loss = CorrectsLoss<Estimator, L>;
  /// Whether differences from a pilot of such a loss can be trained.
  static constexpr bool anchors_loss = !AffineLoss<L> && ConvexLoss<L> && OneDrawEstimator<Estimator>;

  /// A JointLoss wants the models of all targets side by side, trained on the same rows.
  void require_all_classes() const {
    const auto classes = static_cast<std::size_t>(problem_.targets->models());
    bool complete = variants_.size() % classes == 0;
    for (std::size_t m = 0; m < variants_.size() && complete; ++m) {
      const Variant<R>&here = variants_[m], &first = variants_[m / classes * classes];
      complete = here.target == static_cast<int>(m % classes) &&
                 here.held_out.first == first.held_out.first && here.held_out.count == first.held_out.count;
    }
    if (!complete)
      throw Error(std::string(L::name) + " is of all classes together",
                  "a model of each target, in their order, with the same rows held out", "others");
  }
  int models_together() const override { return JointLoss<L> ? problem_.targets->models() : 1; }

  /// Whether rows may be fetched in full precision.
  static constexpr bool refetches = KinkedLoss<L> && OneDrawEstimator<Estimator>;

  SafeCorrection make_safe(GradientDevice& measuring) override {
    if constexpr (refetches && !ConvexLoss<L>)
      if (options_.refetcher != nullptr) return {};  // a loss of lines has nothing to correct
    const double penalty = least_ridge();
    const Safety safety = this->trains_differences() ? Safety::shrink : options_.safety;
    if constexpr (anchors_loss)
      if (this->keeps_labels()) return correction_of_differences();
    // At x = 0, where noise is 0, the second derivatives of a corrected loss are its bound times M.
    if constexpr (corrects_loss && BoundedCurvature<L>)
      return zipml::make_safe(measuring, samples_, estimator_, safety, penalty,
                              static_cast<double>(curvature_bound<L>()), problem_.seed);
    return zipml::make_safe(measuring, samples_, estimator_, safety, penalty, slope(), problem_.seed);
  }

  /// The weakest of the quadratic penalties.
  double least_ridge() const {
    double least = (std::numeric_limits<double>::max)();
    for (const Variant<R>& variant : variants_)
      least = (std::min)(least, strengths_of(variant.regularizer).value_or(PenaltyStrengths{}).l2);
    return least;
  }

  const Curvature& measured() {
    if (!measured_)
      measured_ = measure_curvature(kernels_, samples_, active_isa(options_.isa), &mean_squares_);
    return *measured_;
  }

  SafeCorrection correction_of_differences() {
    mean_curvature_ = detail::mean_over_rows(samples_, [&](Index i) {
      return sgd_.loss_
          .derivatives(static_cast<double>(targets_.anchors()[i]), static_cast<double>(targets_.of(0)[i]))
          .second;
    });
    (void)measured();
    return correction_of_lost_variance(mean_squares_, *problem_.standardization);
  }

  void resolve_step(double noise_gain) override {
    if constexpr (DerivedStepSize<Step>) {
      const auto rows = (std::max)(Index{1}, static_cast<Index>(this->step_rows()));
      Curvature curvature =
          detail::curvature_for(measured(), kernels_, samples_, options_, problem_.seed, rows);
      curvature.loss = static_cast<double>(curvature_bound<L>());
      if constexpr (RangedEstimator<Estimator>)
        curvature.loss = (std::max)(curvature.loss, estimator_.steepest(sgd_.loss_));
      curvature.noise_gain = noise_gain;
      if constexpr (!AffineLoss<L>) curvature.falling_epochs = options_.epochs;
      curvature.has_pilot = this->trains_differences();
      if constexpr (requires { L::bounded_slope; }) curvature.bounded_slope = L::bounded_slope;
      step_.emplace(sgd_.step_.resolve(curvature, rows));
    } else {
      step_.emplace(sgd_.step_);
      (void)noise_gain;
    }
  }
  float step_of(int epoch, Index iteration) const override { return (*step_)(epoch, iteration); }

  /// f with the loss that the device sees: of differences from a pilot, one without targets.
  template <class F>
  auto with_loss(const F& f) const {
    if constexpr (AffineLoss<L> && BilinearEstimator<Estimator>)
      if (this->trains_differences()) return f(detail::QuadraticForm<L>{});
    return f(sgd_.loss_);
  }

  /// l_v of a model for the batch of a device.
  auto corrected_loss(GradientDevice& device, int m) {
    const double variance = noise_[static_cast<std::size_t>(m)] = device.margin_variance(m);
    return detail::corrected_loss(sgd_.loss_, variance);
  }
  double noise_beyond(int m) const override {
    if constexpr (corrects_loss) {
      const double noise = noise_[static_cast<std::size_t>(m)];
      if (noise > L::most_noise) return noise;
    }
    (void)m;
    return 0.0;
  }

  double share_out_of_range(int m) const override {
    if constexpr (RangedEstimator<Estimator>) return outside_[static_cast<std::size_t>(m)];
    (void)m;
    return 0.0;
  }
  double range() const override {
    if constexpr (RangedEstimator<Estimator>) return estimator_.range;
    return 0.0;
  }

  void add_pass(GradientDevice& device) override {
    if constexpr (JointLoss<L>)
      return device.add_joint_pass(sgd_.loss_, models_together());
    else
      add_pass_of_margins(device);
  }
  /// The same of a loss of one margin.
  void add_pass_of_margins(GradientDevice& device) {
    if constexpr (refetches)
      if (options_.refetcher != nullptr) return device.add_refetched_pass(sgd_.loss_);
    if constexpr (anchors_loss)
      if (this->keeps_labels())
        return device.add_rowwise_pass([&](int) {
          return detail::AnchoredLoss<L>{sgd_.loss_, mean_curvature_};
        });
    if constexpr (corrects_loss) {
      device.add_rowwise_pass([&](int m) { return corrected_loss(device, m); });
    } else
      with_loss([&](const auto& loss) { device.add_pass(estimator_, loss); });
  }
  void add_pass_without_anchor(GradientDevice& device) override {
    if constexpr (corrects_loss)
      device.add_rowwise_pass([&](int m) { return corrected_loss(device, m); });
    else if constexpr (!JointLoss<L>)
      device.add_pass(estimator_, sgd_.loss_);
  }
  std::string kind() const override {
    std::string names(L::name);
    names += ", ";
    names += R::name;
    names += ", ";
    return names + Estimator::name;
  }
  std::uint64_t strengths() const override {
    Fingerprint all;
    for (const Variant<R>& variant : variants_)
      all.add(penalty_fingerprint(variant.regularizer, samples_.cols));
    return all.value();
  }
  bool has_penalty() const override { return !std::is_same_v<R, NoRegularizer>; }
  double penalty_of(std::size_t m, std::span<const double> x) const override {
    return variants_[m].regularizer.value(x);
  }
  void prox(std::size_t m, std::span<float> x, float step) const override {
    variants_[m].regularizer.prox(x, step);
  }
  std::optional<Shrinkage> shrinkage([[maybe_unused]] std::size_t m,
                                     [[maybe_unused]] float step) const override {
    if constexpr (is_elastic_net<R>)
      return Shrinkage{variants_[m].regularizer.threshold(step), variants_[m].regularizer.divisor(step)};
    else
      return std::nullopt;
  }
  SharedRows all_rows() const { return {{0, samples_.rows}, options_.reducer}; }

  List<double> losses(GradientDevice& measuring, const Buffer<float>& correction, const float* x,
                      const float* intercepts) override {
    if constexpr (JointLoss<L>)
      return joint_losses_on(measuring, samples_.cols, all_rows(), sgd_.loss_, models_together(), x,
                             intercepts);
    else
      return losses_of_margins(measuring, correction, x, intercepts);
  }
  List<double> losses_of_margins(GradientDevice& measuring, const Buffer<float>& correction, const float* x,
                                 const float* intercepts) {
    if constexpr (refetches)
      if (options_.refetcher != nullptr)
        return rowwise_losses_on(measuring, samples_.cols, all_rows(), 0.0, Buffer<float>(), x, intercepts,
                                 [&](int m) { return measuring.decide(sgd_.loss_, m); });
    if constexpr (RangedEstimator<Estimator>)
      outside_ = detail::mean_losses(
          measuring, samples_.cols, all_rows(), 1u, 0.0, Buffer<float>(), x, intercepts, [&](int m) {
            const std::span<const float> z = measuring.margins_of(m)[0];
            return static_cast<double>(std::count_if(z.begin(), z.end(), [&](float v) {
              return std::fabs(static_cast<double>(v)) > estimator_.range;
            }));
          });
    if constexpr (anchors_loss)
      if (this->keeps_labels())
        return rowwise_losses_on(measuring, samples_.cols, all_rows(), mean_curvature_, correction, x,
                                 intercepts, [&](int) {
                                   return detail::AnchoredLoss<L>{sgd_.loss_, mean_curvature_};
                                 });
    if constexpr (corrects_loss) {
      measuring.set_correction(correction);
      std::fill(noise_.begin(), noise_.end(), 0.0);
      List<double> found = rowwise_losses_on(measuring, samples_.cols, all_rows(), 0.0, Buffer<float>(), x,
                                             intercepts, [&](int m) { return corrected_loss(measuring, m); });
      if (options_.reducer != nullptr)  // a worker may have read none of the rows
        for (double& noise : noise_)
          noise = static_cast<double>(options_.reducer->largest(static_cast<float>(noise)));
      return found;
    } else
      return with_loss([&](const auto& loss) {
        return losses_on(measuring, samples_.cols, all_rows(), estimator_, loss, slope(), correction, x,
                         intercepts);
      });
  }
  LinearModel in_original_units(const Fit& fit, int m) const override {
    LinearModel model = zipml::in_original_units<L>(
        fit.weights.span(), fit.intercept, *problem_.standardization,
        problem_.targets->statistics(plan(m).target), label_maps_[static_cast<std::size_t>(plan(m).target)]);
    model.rows = samples_.rows - plan(m).held_out.count;
    model.representation = std::string(Estimator::name) + ":" + std::to_string(samples_.bits);
    return model;
  }

  bool use_single_rows(const Buffer<float>& correction) override {
    if (this->keeps_labels() || corrects_loss || options_.refetcher != nullptr) return false;
    if constexpr (BilinearEstimator<Estimator> && !JointLoss<L>) {
      Buffer<float> scaled = correction;
      for (float& v : scaled) v *= static_cast<float>(slope());
      for (int m = 0; m < models(); ++m)
        single_rows_.push_back(
            std::make_unique<SingleRows<Estimator>>(kernels_, samples_, targets_.of(m), scaled));
    }
    return !single_rows_.empty();
  }
  /// Every model in turn, while the rows of the run are in cache.
  void visit_rows(RowRange run, RowRange next, int epoch) override {
    if constexpr (BilinearEstimator<Estimator> && !JointLoss<L>) {
      device_.count_batches(run.count);
      const Index before = iteration_;
      for (std::size_t m = 0; m < single_rows_.size(); ++m) {
        if (!this->trains(m)) continue;
        SingleRows<Estimator>& rows = *single_rows_[m];
        rows.begin_run(run.first, run.count, next.first, next.count);
        iteration_ = before;
        for (Index i = run.first; i < run.first + run.count; ++i, ++iteration_) {
          const float residual = with_loss(
              [&](const auto& loss) { return rows.residual(i, loss, x_of(m), c_[static_cast<Index>(m)]); });
          if (!(std::fabs(residual) < runaway) || !(rows.largest() < runaway)) {
            diverge(m);
            break;
          }
          const float s = (*step_)(epoch, iteration_);
          rows.descend(s);
          if (has_penalty() || this->has_linear_term()) {
            rows.settle(x_of(m));
            this->follow(m, residual, s);
          } else {  // the step stays due until the next row is read
            c_[static_cast<Index>(m)] -= pinned(s * residual);
          }
        }
        rows.settle(x_of(m));
      }
      iteration_ = before + run.count;
    }
  }

  using ResolvedStep = typename detail::StepRule<Step>::type;

  const Sgd& sgd_;
  std::span<const Variant<R>> variants_;
  const Estimator& estimator_;
  std::optional<ResolvedStep> step_;
  std::optional<Curvature> measured_;
  Buffer<double> mean_squares_;  // of the columns as they are stored, once measured
  double mean_curvature_ = 0.0;  // of the loss at a pilot
  List<double> outside_;         // share of margins out of the estimator's range, of each model
  List<double> noise_;           // variance of rounding in the margins of each model, of a corrected loss
  List<std::unique_ptr<detail::SingleRowsOf<Estimator>>> single_rows_;  // where batches are single rows
};

}  // namespace zipml::inline ZIPML_ABI
