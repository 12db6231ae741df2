#pragma once
/// \file
/// Room training: the matrix of packed samples divided by, without forming it: what refinement does where d^2 numbers are too
/// many. Part of training/refinement.hpp.

#include <algorithm>
#include <cmath>
#include <utility>

#include <zipml/base/thread_team.hpp>
#include <zipml/eigen.hpp>
#include <zipml/training/definiteness.hpp>
#include <zipml/training/gradient_device.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// P^-1 r to a tenth, by conjugate gradients on P = slope M + l2 I, M the realised matrix of an estimator with a share of its
/// correction and a ridge of 10^-6: a reading of the packed samples an iteration, at most 20 of them. Ends where M has no positive curvature.
template <BilinearEstimator Estimator>
class PackedSolver {
 public:
  /// `weights` stand for those of the samples; empty: these. `keep` is the share of the correction.
  PackedSolver(const KernelTable& kernels, const SampleView& samples, Buffer<float> weights, double slope,
               double l2, double keep, int threads)
      : weights_(std::move(weights)),
        samples_(weighted(samples, weights_)),
        targets_(samples.rows),
        team_(thread_count(threads)),
        device_(kernels, samples_, targets_, {.team = &team_}),
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

}  // namespace zipml::inline ZIPML_ABI::detail
