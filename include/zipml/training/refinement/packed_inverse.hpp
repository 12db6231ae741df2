#pragma once
/// \file
/// Room training: what refinement divides by: the second derivatives that packed samples tell, formed and factorised, or of many
/// columns multiplied with.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include <zipml/analysis/clipped_inverse.hpp>
#include <zipml/analysis/realised_system.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/targets.hpp>
#include <zipml/training/definiteness.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/refinement/refined.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// w_i l''(q_i'x + c) of the packed rows, for labels in store order.
template <class L>
Buffer<float> curvatures_at(const SampleView& samples, const L& loss, std::span<const float> labels,
                            const LabelMap& map, const Eigen::VectorXd& x, Collective* workers) {
  Buffer<float> curvatures(samples.rows), row(samples.cols);
  SharedRows{{0, samples.rows}, workers}.for_pieces(4096, [&](Index, RowRange rows) {
    for (Index i = rows.first; i < rows.first + rows.count; ++i) {
      samples.decode_row(i, 0, row.data());
      double z = x(samples.cols);
      for (Index j = 0; j < samples.cols; ++j) z += static_cast<double>(row[j]) * x(j);
      const auto label = static_cast<double>(map.apply(labels[static_cast<std::size_t>(i)]));
      const double weight = samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0;
      curvatures[i] = static_cast<float>(weight * loss.derivatives(z, label).second);
    }
  });
  if (workers != nullptr) workers->sum(curvatures.span());  // 0 where others have read
  return curvatures;
}

/// P^-1 r to a tenth, by conjugate gradients on P = slope M + l2 I, M the realised matrix of an estimator with a share of its
/// correction and a ridge of 10^-6: a reading of the packed samples an iteration, at most 20 of them. Ends where M has no positive curvature.
template <BilinearEstimator Estimator>
class PackedSolver {
 public:
  /// `weights` stand for those of the samples; empty: these. `keep` is the share of the correction.
  PackedSolver(const KernelTable& kernels, const SampleView& samples, Buffer<float> weights, double slope,
               double l2, double keep, int threads, Reducer* reducer)
      : weights_(std::move(weights)),
        samples_(weighted(samples, weights_)),
        targets_(samples.rows),
        team_(thread_count(threads)),
        device_(kernels, samples_, targets_, {.team = &team_, .reducer = reducer}),
        matrix_(device_, samples.cols),
        slope_(slope),
        l2_(l2) {
    Buffer<float> correction(Estimator::corrected && samples.bias != nullptr ? samples.cols : 0);
    for (Index j = 0; j < correction.size(); ++j)
      correction[j] = static_cast<float>(keep * static_cast<double>(samples.bias[j]));
    matrix_.set_correction(correction);
  }
  PackedSolver(const PackedSolver&) = delete;
  PackedSolver& operator=(const PackedSolver&) = delete;

  /// Readings so far.
  int passes() const { return passes_; }

  Eigen::VectorXd operator()(const Eigen::VectorXd& r) {
    const Index size = r.size();
    constexpr int most = 20;
    Eigen::VectorXd x = Eigen::VectorXd::Zero(size), residual = r, direction = r, product(size);
    const double enough = 0.01 * r.squaredNorm();
    double length = r.squaredNorm();
    for (int k = 0; k < most && length > enough; ++k) {
      matrix_.apply(samples_.rows, direction.data(), product.data());
      ++passes_;
      product *= slope_;
      for (Index j = 0; j + 1 < size; ++j) product(j) += (l2_ + 1e-6 * slope_) * direction(j);
      const double curvature = direction.dot(product);
      largest_ = (std::max)(largest_, curvature / (std::max)(direction.squaredNorm(), 1e-300));
      if (!(curvature > 1e-7 * largest_ * direction.squaredNorm())) break;
      const double alpha = length / curvature;
      x += alpha * direction;
      residual -= alpha * product;
      const double now = residual.squaredNorm();
      direction = residual + (now / length) * direction;
      length = now;
    }
    return x.squaredNorm() > 0.0 ? x : r;
  }

 private:
  static SampleView weighted(SampleView samples, const Buffer<float>& weights) {
    if (!weights.empty()) samples.weights = weights.data();
    return samples;
  }

  Buffer<float> weights_;
  SampleView samples_;
  MappedTargets targets_;  // of zeros
  ThreadTeam team_;
  GradientDevice device_;
  RealisedMatrix<Estimator> matrix_;
  double slope_, l2_;
  double largest_ = 0.0;
  int passes_ = 0;
};

/// What the inverses of models on the same rows have in common: of an affine loss the matrix that packed samples make, without a
/// penalty, and its inverse for each l2.
class SharedInverses {
 public:
  bool has_matrix() const { return matrix_.size() > 0; }
  void set_matrix(Eigen::MatrixXd matrix, Eigen::VectorXd variance, double clip) {
    matrix_ = std::move(matrix);
    diagonal_ = matrix_.diagonal();
    variance_ = std::move(variance);
    clip_ = clip;
  }
  /// Factorised when it is first asked for.
  std::shared_ptr<const ClippedInverse> with(double l2);

 private:
  Eigen::MatrixXd matrix_;
  Eigen::VectorXd diagonal_, variance_;
  double clip_ = 0.0;
  List<std::pair<double, std::shared_ptr<const ClippedInverse>>> inverses_;
};

/// P^-1 at a point: P is the matrix of second derivatives that an estimator makes of packed samples, slope M + l2 I of an affine
/// loss, else that of rows times their second derivatives at the point. Up to RefineOptions::direct_columns it is a
/// ClippedInverse, beyond them a PackedSolver. Of an affine loss it is taken from those that models share, where it is formed.
/// Readings, bytes and seconds are added to a result, which must outlive it, as must samples and targets; `target` is the model's.
template <BilinearEstimator Estimator>
class PackedInverse {
 public:
  template <class L>
  PackedInverse(const KernelTable& kernels, const SampleView& samples, const L& loss, const Targets& targets,
                int target, double l2, const Eigen::VectorXd& x, const RefineOptions& options,
                SharedInverses& shared, Refined& result)
      : PackedInverse(samples, options, result) {
    const auto timed = time();
    if constexpr (AffineLoss<L>) {
      form(kernels, samples, {}, static_cast<double>(L::slope), l2, options, shared);
    } else {
      Buffer<float> curvatures = curvatures_at(
          samples, loss, targets.of(target), loss.label_map(targets.statistics(target)), x, options.reducer);
      count(1);
      SharedInverses own;
      form(kernels, samples, std::move(curvatures), 1.0, l2, options, own);
    }
  }
  /// Of second derivatives that are known, those of the packed rows times their weights.
  PackedInverse(const KernelTable& kernels, const SampleView& samples, Buffer<float> curvatures, double l2,
                const RefineOptions& options, Refined& result)
      : PackedInverse(samples, options, result) {
    const auto timed = time();
    SharedInverses own;
    form(kernels, samples, std::move(curvatures), 1.0, l2, options, own);
  }

  /// P^-1 r. Of workers that of the first: Eigen's factors depend on the caches of a processor, and steps that differ in a last
  /// bit may end at different readings.
  Eigen::VectorXd operator()(const Eigen::VectorXd& r) {
    if (formed_) return taken_first((*formed_)(r));
    const auto timed = time();
    const int before = solver_->passes();
    Eigen::VectorXd z = (*solver_)(r);
    count(solver_->passes() - before);
    return taken_first(std::move(z));
  }
  /// P itself. Throws Error where it is not formed.
  Eigen::MatrixXd matrix() const {
    if (!formed_)
      throw Error("a penalty that is not smooth needs the matrix of the packed samples",
                  "at most " + std::to_string(most_) + " columns (RefineOptions::direct_columns)",
                  std::to_string(cols_));
    return taken_first(formed_->matrix());
  }

 private:
  /// Adds the seconds until its end.
  class Timer {
   public:
    explicit Timer(double& seconds) : seconds_(seconds) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;
    ~Timer() { seconds_ += std::chrono::duration<double>(Clock::now() - start_).count(); }

   private:
    using Clock = std::chrono::steady_clock;
    double& seconds_;
    Clock::time_point start_ = Clock::now();
  };
  PackedInverse(const SampleView& samples, const RefineOptions& options, Refined& result)
      : cols_(samples.cols),
        most_(options.direct_columns),
        bytes_(static_cast<double>(samples.store_bytes)),
        reducer_(options.reducer),
        result_(&result) {}

  /// Takes P from those that are shared, or makes it; no curvatures: 1.
  void form(const KernelTable& kernels, const SampleView& samples, Buffer<float> curvatures, double slope,
            double l2, const RefineOptions& options, SharedInverses& shared) {
    const Index n = samples.rows, d = samples.cols;
    const double clip = 2.0 * std::sqrt(static_cast<double>(d) / static_cast<double>(n));
    if (d > options.direct_columns) {
      const double keep = curvatures.empty() ? (std::max)(0.0, 1.0 - clip) : 0.0;
      solver_ = std::make_unique<PackedSolver<Estimator>>(kernels, samples, std::move(curvatures), slope, l2,
                                                          keep, options.threads, options.reducer);
      return;
    }
    if (!shared.has_matrix()) {
      SampleView weighted = samples;
      if (!curvatures.empty()) weighted.weights = curvatures.data();
      Eigen::MatrixXd matrix;
      Eigen::VectorXd right, variance = Eigen::VectorXd::Zero(d + 1);
      realised_system(weighted, Estimator::pairs, false, Buffer<float>(n), matrix, right, options.threads,
                      active_isa(options.isa), options.reducer);
      count(1);
      matrix *= slope;
      // The intercept's entry is the mean curvature, which rounding's variance is multiplied with.
      const double mean = matrix(d, d);
      if (Estimator::corrected)
        for (Index j = 0; j < d; ++j) variance(j) = mean * static_cast<double>(samples.bias[j]);
      shared.set_matrix(std::move(matrix), std::move(variance), clip);
    }
    formed_ = shared.with(l2);
  }
  template <class Values>
  Values taken_first(Values values) const {
    if (reducer_ != nullptr) reducer_->take_first({values.data(), static_cast<std::size_t>(values.size())});
    return values;
  }
  Timer time() { return Timer(result_->seconds_packed); }
  void count(int passes) {
    result_->packed_passes += passes;
    result_->packed_bytes += passes * bytes_;
  }

  Index cols_, most_;
  double bytes_;
  Reducer* reducer_;
  Refined* result_;
  std::shared_ptr<const ClippedInverse> formed_;
  std::unique_ptr<PackedSolver<Estimator>> solver_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION std::shared_ptr<const ClippedInverse> SharedInverses::with(double l2) {
  for (const auto& [strength, inverse] : inverses_)
    if (strength == l2) return inverse;
  for (Index j = 0; j + 1 < diagonal_.size(); ++j) matrix_(j, j) = diagonal_(j) + l2;
  inverses_.emplace_back(l2, std::make_shared<const ClippedInverse>(matrix_, variance_, clip_));
  return inverses_.back().second;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
