#pragma once
/// \file
/// Room training: the training loop: minibatch stochastic (proximal) gradient descent over any store,
/// estimator, loss, regularizer and step size.

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/model/step_sizes.hpp>
#include <zipml/training/curvature.hpp>
#include <zipml/training/definiteness.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/original_units.hpp>
#include <zipml/training/single_rows.hpp>
#include <zipml/training/tail_average.hpp>

namespace zipml::inline ZIPML_ABI {

/// x <- prox(x - step * g), c <- c - step * mean residual, g the estimator's gradient of a batch. The model
/// store keeps x in float32 (ZipML 2017, section 2); batches are ranges of store rows, visited in a fresh
/// random order each epoch. One epoch costs one reading of the store and O(d) float work per batch.
///
///     const auto fit = zipml::Sgd{zipml::SquaredLoss{}, zipml::L2{1e-4f}}.fit(store, {.epochs = 20});
template <Loss L = SquaredLoss, Regularizer R = NoRegularizer, class Step = AutomaticStep>
class Sgd {
  static_assert(StepSize<Step> || DerivedStepSize<Step>,
                "zipml: a step size is callable with (epoch, iteration)");

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
    return fit_on(kernels_of(active_isa(options.isa)), store, estimator, options, observers...);
  }

  /// Trains on given kernels: those of a policy of one's own, say.
  ///
  ///     sgd.fit_on(zipml::KernelTable(MyKernels{}), store, zipml::naive, {});
  template <SampleStore Store, GradientEstimator Estimator, class... Observers>
  Fit fit_on(const KernelTable& kernels, const Store& store, Estimator estimator, const FitOptions& options,
             Observers&&... observers) const {
    check<Store, Estimator, Observers...>();
    check(options);
    const auto& plain =
        detail::without_estimator(store);  // stores that differ by it alone are one type below
    const std::array<detail::ObserverRef, sizeof...(Observers)> watching{detail::ObserverRef(observers)...};
    return Run<std::remove_cvref_t<decltype(plain)>, Estimator>(*this, kernels, plain, estimator, options)
        .train(watching);
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

  static void check(const FitOptions& options) {
    if (options.epochs < 0)
      throw Error("the number of epochs is out of range", "at least 0", std::to_string(options.epochs));
    if (options.batch < 1)
      throw Error("the batch is out of range", "at least 1 row", std::to_string(options.batch));
    (void)thread_count(options.threads);
    if (!(options.tolerance >= 0.0))
      throw Error("the tolerance is out of range", "at least 0", number_text(options.tolerance));
  }

  template <class Store, class Estimator>
  class Run;

  L loss_;
  R regularizer_;
  Step step_;
};

template <Loss L, Regularizer R, class Step>
template <class Store, class Estimator>
class Sgd<L, R, Step>::Run {
  using Clock = std::chrono::steady_clock;
  static constexpr float runaway = 1e12f;  // standardised labels are of size 1

 public:
  Run(const Sgd& sgd, const KernelTable& kernels, const Store& store, Estimator estimator,
      const FitOptions& options)
      : sgd_(sgd),
        kernels_(kernels),
        store_(store),
        estimator_(estimator),
        options_(options),
        label_map_(sgd.loss_.label_map(store.label_statistics())),
        seed_(options.seed.value_or(store.seed())),
        team_(thread_count(options.threads)),
        device_(kernels, store, label_map_, Channels{options.model, options.gradient}, seed_, &team_),
        batch_(std::min(options.batch, store.rows())),
        run_rows_(run_of(store.rows(), batch_)),
        x_(padded(store.cols())),
        average_(x_.size()),
        order_((store.rows() + run_rows_ - 1) / run_rows_) {}

  Fit train(std::span<const detail::ObserverRef> observers) {
    Fit fit;
    fit.isa = kernels_.name;
    const auto start = Clock::now();
    Clock::duration watching{};
    begin_epoch(0);
    make_safe(fit);
    if (batch_ == 1 && device_.is_exact())
      single_rows_.emplace(kernels_, store_, device_.mapped_labels(), correction_);
    const auto step = resolved_step();
    fit.step = static_cast<double>(step(0, 0));
    const auto ready = Clock::now();
    const double loss_of_zero = loss_on_store(Buffer<float>(x_.size()), 0.0f);
    watching += Clock::now() - ready;
    Buffer<double> before(store_.cols());
    for (int epoch = 0; epoch < options_.epochs && fit.status == Status::completed; ++epoch) {
      if (!run_epoch(epoch, step)) {
        fit.status = Status::diverged;
        break;
      }
      take_weights(fit);
      fit.epochs = epoch + 1;
      if (options_.tolerance > 0.0 && epoch > 0 && moved(before, fit.weights) <= options_.tolerance)
        fit.status = Status::converged;
      before = fit.weights;
      const auto pause = Clock::now();
      fit.seconds = std::chrono::duration<double>(pause - start - watching).count();
      const EpochEvent event{epoch + 1, options_.epochs, fit.weights.span(), fit.intercept, fit.seconds};
      bool stop = false;
      for (const detail::ObserverRef& observer : observers) stop = (observer(event) == Flow::stop) || stop;
      if (stop && fit.status == Status::completed) fit.status = Status::stopped;
      watching += Clock::now() - pause;
    }
    const auto end = Clock::now();
    fit.seconds = std::chrono::duration<double>(end - start - watching).count();
    const double setup = std::chrono::duration<double>(ready - start).count();
    fit.seconds_per_epoch = (fit.seconds - setup) / std::max(1, fit.epochs);
    fit.model_moved = device_.model_traffic();
    fit.gradient_moved = device_.gradient_traffic();
    fit.samples_moved = samples_of_an_epoch();
    fit.samples_moved.payload_bytes *= fit.epochs;
    fit.samples_moved.scale_bytes *= fit.epochs;
    if (fit.weights.empty()) fit.weights = Buffer<double>(store_.cols());
    judge(fit, loss_of_zero);
    fit.model = in_original_units<L>(fit.weights.span(), fit.intercept, store_, label_map_);
    return fit;
  }

 private:
  Traffic samples_of_an_epoch() const {
    const auto codes = static_cast<double>(store_.codes_bytes());
    return {codes, static_cast<double>(store_.store_bytes()) - codes};
  }

  /// A store of fresh draws rounds its samples anew.
  void begin_epoch(int epoch) const {
    if constexpr (requires { store_.begin_epoch(epoch); }) store_.begin_epoch(epoch);
  }

  double penalty() const {
    if constexpr (requires { sgd_.regularizer_.lambda(); })
      return static_cast<double>(sgd_.regularizer_.lambda());
    else
      return 0.0;
  }

  /// Hands the store's bias terms to the device, after a look at whether the problem that they leave is
  /// convex.
  void make_safe(Fit& fit) {
    if constexpr (Estimator::needs_affine_loss && !std::is_base_of_v<DenseStore, Store>) {
      Buffer<float> correction;
      if constexpr (Estimator::corrected) correction = store_.bias;
      const auto measure = [&](bool to_the_end) {
        return measure_definiteness(kernels_, store_, estimator_, correction, penalty(), to_the_end);
      };
      Definiteness found = measure(options_.safety == Safety::ridge);
      fit.smallest_eigenvalue = found.smallest_eigenvalue;
      if (found.indefinite() && options_.safety != Safety::warn) {
        if (options_.safety == Safety::shrink && Estimator::corrected) {
          fit.kept_correction = safe_share(kernels_, store_, estimator_, penalty());
          for (float& v : correction) v *= static_cast<float>(fit.kept_correction);
        } else {  // two draws subtract nothing that could be shrunk: they take the ridge
          fit.added_ridge = -1.1 * measure(true).smallest_eigenvalue + 1e-3 * found.scale;
          if (correction.empty()) correction = Buffer<float>(store_.cols());
          for (float& v : correction) v -= static_cast<float>(fit.added_ridge);
        }
        found = measure(false);
      }
      indefinite_ = found.indefinite();
      noise_gain_ = found.noise_gain;
      device_.set_correction(correction);
      correction_ = std::move(correction);
    }
  }

  auto resolved_step() const {
    if constexpr (DerivedStepSize<Step>) {
      Curvature curvature = measure_curvature(store_);
      curvature.noise_gain = noise_gain_;
      curvature.model_noise = options_.model.relative_variance(store_.cols());
      curvature.gradient_noise = options_.gradient.relative_variance(store_.cols());
      if (curvature.model_noise > 0.0 && curvature.gradient_noise > 0.0) {
        const double steps = static_cast<double>(options_.epochs) * static_cast<double>(store_.rows()) /
                             (curvature.top_eigenvalue * static_cast<double>(batch_));
        curvature.mean_inverse = measure_mean_inverse(store_, 1.0 / std::max(1.0, steps));
      }
      return sgd_.step_.resolve(curvature, batch_);
    } else {
      return sgd_.step_;
    }
  }

  /// False when the weights run away.
  template <class S>
  bool run_epoch(int epoch, const S& step) {
    begin_epoch(epoch);
    shuffle(epoch);
    average_.begin_epoch(epoch + 1);
    for (Index r = 0; r < order_.size(); ++r) {
      const Rows rows = run_at(r);
      const Rows next = r + 1 < order_.size() ? run_at(r + 1) : Rows{};
      if (!(single_rows_ ? visit_rows(rows, next, epoch, step) : visit_batches(rows, next, epoch, step)))
        return false;
      average_.add(kernels_, x_.data(), c_);
    }
    return detail::all_finite(x_.data(), store_.cols()) && detail::all_finite(&c_, 1);
  }

  /// Rows [first, first + count) of the store.
  struct Rows {
    Index first = 0;
    Index count = 0;
  };
  /// The run that an epoch visits at place r.
  Rows run_at(Index r) const {
    const Index first = order_[r] * run_rows_;
    return {first, std::min(run_rows_, store_.rows() - first)};
  }

  /// The batches of a run; `next` is the run after it.
  template <class S>
  bool visit_batches(Rows run, Rows next, int epoch, const S& step) {
    device_.announce(next.first, next.count);
    const Index end = run.first + run.count;
    for (Index first = run.first; first < end; first += batch_) {
      const Index count = std::min(batch_, end - first);
      device_.begin_batch(first, count, x_.data(), c_, static_cast<std::uint64_t>(iteration_));
      while (device_.next_pass()) estimator_(device_, sgd_.loss_);
      // The last batch may be short: its rows weigh what other rows weigh, or a single one could break the
      // step's bound.
      const float s = step(epoch, iteration_) * (static_cast<float>(count) / static_cast<float>(batch_));
      const float residual = device_.descend(s, x_.data());
      if (!(std::fabs(residual) < runaway) || !(device_.largest() < runaway * runaway)) return false;
      follow(residual, s);
    }
    return true;
  }

  /// The same where a batch is one row.
  template <class S>
  bool visit_rows(Rows run, Rows next, int epoch, const S& step) {
    device_.count_batches(run.count);
    single_rows_->begin_run(run.first, run.count, next.first, next.count);
    for (Index i = run.first; i < run.first + run.count; ++i) {
      const float residual = single_rows_->residual(i, sgd_.loss_, x_.data(), c_);
      if (!(std::fabs(residual) < runaway) || !(single_rows_->largest() < runaway)) return false;
      const float s = step(epoch, iteration_);
      single_rows_->descend(s);
      if constexpr (!std::is_same_v<R, NoRegularizer>) single_rows_->settle(x_.data());
      follow(residual, s);
    }
    single_rows_->settle(x_.data());
    return true;
  }

  /// What comes after the step of a batch, whose mean residual moves the intercept.
  void follow(float residual, float s) {
    sgd_.regularizer_.prox(x_.span().first(static_cast<std::size_t>(store_.cols())), s);
    c_ -= pinned(s * residual);
    ++iteration_;
  }

  /// Epochs visit runs of rows in random order: batches, and of batches below 64 rows as many as make 64, one
  /// after the other. Rows of a store are in random order already; a processor fetches ahead what is read in
  /// line, and waits for every row that is not. The average takes the model at the end of a run. At least 64
  /// runs make an epoch.
  static Index run_of(Index rows, Index batch) {
    const Index most = rows / batch / 64;
    return batch * std::max<Index>(1, std::min(block_rows / batch, most));
  }

  /// Fisher and Yates, from counters of the stream batch_order.
  void shuffle(int epoch) {
    const Random random(seed_);
    for (Index k = 0; k < order_.size(); ++k) order_[k] = k;
    PhiloxWords words{};
    for (Index k = order_.size() - 1; k > 0; --k) {
      const auto place = static_cast<std::uint32_t>(k);
      words = random.words(Stream::batch_order, 0, static_cast<std::uint32_t>(epoch), place / 4);
      const auto pick = std::uint64_t{words[place % 4]} * static_cast<std::uint64_t>(k + 1) >> 32;
      std::swap(order_[k], order_[static_cast<Index>(pick)]);
    }
  }

  void take_weights(Fit& fit) const {
    if (options_.average) {
      fit.weights = average_.weights(store_.cols());
      fit.intercept = average_.intercept();
      return;
    }
    fit.weights = Buffer<double>(store_.cols());
    for (Index j = 0; j < store_.cols(); ++j) fit.weights[j] = static_cast<double>(x_[j]);
    fit.intercept = static_cast<double>(c_);
  }

  static double moved(const Buffer<double>& a, const Buffer<double>& b) {
    double largest = 0.0;
    for (Index j = 0; j < a.size(); ++j) largest = std::max(largest, std::fabs(a[j] - b[j]));
    return largest;
  }

  /// Mean loss as the estimator can tell it from the store, x padded: one reading.
  /// It is that of the model as it is, not as channels would bring it.
  double loss_on_store(const Buffer<float>& x, float c) {
    GradientDevice<Store> device(kernels_, store_, label_map_, Channels{}, seed_, &team_);
    double total = 0.0;
    const Index piece = 4096;
    for (Index first = 0; first < store_.rows(); first += piece) {
      device.begin_batch(first, std::min(piece, store_.rows() - first), x.data(), c, 0);
      while (device.next_pass()) total += Estimator::loss(device, sgd_.loss_);
    }
    double surplus = 0.0;  // x' diag(correction) x
    for (Index j = 0; j < correction_.size(); ++j)
      surplus += static_cast<double>(correction_[j]) * static_cast<double>(x[j]) * static_cast<double>(x[j]);
    return total / static_cast<double>(store_.rows()) - 0.5 * surplus;
  }

  /// A model that is worse than none, on the very samples that it was trained on, is no success, nor is one
  /// whose corrected loss is far below zero: it has followed a direction of negative curvature.
  void judge(Fit& fit, double loss_of_zero) {
    Buffer<float> x(x_.size());
    for (Index j = 0; j < store_.cols(); ++j) x[j] = static_cast<float>(fit.weights[j]);
    fit.quantized_loss = loss_on_store(x, static_cast<float>(fit.intercept));
    const bool useless =
        !(fit.quantized_loss <= 1.5 * loss_of_zero + 1e-12) || fit.quantized_loss < -0.1 * loss_of_zero;
    if (fit.epochs > 0 && useless) fit.status = Status::diverged;
    if (indefinite_ && fit.status != Status::diverged) fit.status = Status::indefinite;
    fit.advice = detail::advice_for(fit, indefinite_);
  }

  const Sgd& sgd_;
  const KernelTable& kernels_;
  const Store& store_;
  Estimator estimator_;
  const FitOptions& options_;
  LabelMap label_map_;
  std::uint64_t seed_;
  ThreadTeam team_;
  GradientDevice<Store> device_;
  std::optional<SingleRows<Store, Estimator>> single_rows_;  // for batches of one row
  Index batch_;
  Index run_rows_;   // see run_of
  Buffer<float> x_;  // the model store, padded as kernels want it
  float c_ = 0.0f;
  TailAverage average_;
  Buffer<Index> order_;
  Index iteration_ = 0;
  Buffer<float> correction_;  // that the device subtracts
  bool indefinite_ = false;
  double noise_gain_ = 1.0;
};

}  // namespace zipml::inline ZIPML_ABI
