#pragma once
/// \file
/// Room training: whether the problem that rounded samples define is convex.
///
/// The realised matrix of an estimator is M = sum_p w_p (1/n) sum_i q_s(p) q_m(p)' - diag(bias), with a 1
/// appended to each row for the intercept and each row times its weight. Naive and nearest give a matrix Q'Q, which cannot be indefinite;
/// the unbiased ones can, at few bits or with few rows for a column: then SGD follows a direction of negative
/// curvature.

#include <algorithm>
#include <cmath>

#include <zipml/base/buffer.hpp>
#include <zipml/base/random.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/lanczos.hpp>

namespace zipml::inline ZIPML_ABI {

/// The realised matrix of a bilinear estimator, M = sum_p w_p (1/n) sum_i q_s(p) q_m(p)' - diag(correction)
/// with the intercept as column d, by one reading of the samples of a device for each product. The device has
/// exact channels and must outlive this; its correction is that of the matrix.
template <BilinearEstimator Estimator>
class RealisedMatrix {
 public:
  RealisedMatrix(GradientDevice& device, Index cols)
      : device_(device), cols_(cols), x_(padded(cols) * device.models()), g_(padded(cols)) {
    intercepts_.resize(static_cast<std::size_t>(device.models()));
  }

  /// The diagonal that is subtracted, d entries or none.
  void set_correction(const Buffer<float>& correction) { device_.set_correction(correction); }
  /// Of x and y: d + 1, the intercept last.
  Index size() const { return cols_ + 1; }

  /// y = M x over the first `rows` rows. O(rows d), sums in float32.
  void apply(Index rows, const double* x, double* y) {
    for (Index j = 0; j < cols_; ++j) x_[j] = static_cast<float>(x[j]);
    intercepts_[0] = static_cast<float>(x[cols_]);
    std::fill_n(y, cols_ + 1, 0.0);
    constexpr Index piece = 4096;
    for (Index first = 0; first < rows; first += piece) {
      const Index count = (std::min)(piece, rows - first);
      device_.begin_batch(first, count, x_.data(), intercepts_.data(), 0);
      while (device_.next_pass()) device_.add_pass(Estimator{}, detail::QuadraticForm<SquaredLoss>{});
      const auto share = static_cast<double>(count) / static_cast<double>(rows);
      y[cols_] += pinned(share * static_cast<double>(device_.end_batch(g_.data())));
      for (Index j = 0; j < cols_; ++j) y[j] += pinned(share * static_cast<double>(g_[j]));
      for (int m = 1; m < device_.models(); ++m) device_.end_batch(g_.data(), m);
    }
  }

 private:
  GradientDevice& device_;
  Index cols_;
  Buffer<float> x_;  // of the first model; the others are 0
  List<float> intercepts_;
  Buffer<float> g_;
};

/// Definiteness of the problem that an estimator defines on samples.
struct Definiteness {
  double smallest_eigenvalue = 0.0;  ///< of M + penalty, an estimate from above
  double scale = 1.0;                ///< of the largest eigenvalue; float sums leave an error of 1e-5 of it
  /// Factor by which rounding makes the noise of a gradient more dangerous than the norms of the stored rows
  /// say. The error of SGD in eigendirection u of M shrinks like 2 s lambda_u and is fed by s^2 / B (lambda_u
  /// + d_u) times the whole noise, d_u the variance of the rounding; it stays bounded while s < 2 B / sum_u
  /// (lambda_u + d_u)^2 / lambda_u, where without rounding s < 2 B / sum_u lambda_u. The factor is that sum
  /// over sum_u (lambda_u + d_u).
  double noise_gain = 1.0;
  bool indefinite() const { return smallest_eigenvalue < -1e-5 * scale; }
};

namespace detail {

/// Mean variance of the rounding of one draw, column by column: the store's bias terms, or half the mean
/// squared difference of two draws on the first rows.
Buffer<double> rounding_variance(const SampleView& samples);

/// `value` > 0, up to six significant bits. Float sums differ in their last bits between instruction sets;
/// steps and ridges that rest on them are then the same on all, unless a value lies that near to where the
/// rounding jumps.
inline double rounded_up(double value) {
  int exponent = 0;
  const double mantissa = std::frexp(value, &exponent);
  return std::ldexp(std::ceil(std::ldexp(mantissa, 6)), exponent - 6);
}

}  // namespace detail

/// Measures the definiteness of one estimator on the samples that a device reads, which has exact channels
/// and must outlive this.
template <BilinearEstimator Estimator>
class DefinitenessTest {
 public:
  DefinitenessTest(GradientDevice& device, const SampleView& samples, std::uint64_t seed)
      : rows_(samples.rows),
        matrix_(device, samples.cols),
        variance_(detail::rounding_variance(samples)),
        random_(seed) {}

  /// Estimates the smallest eigenvalue of the symmetric part of M + penalty I: at most 24 steps of Lanczos,
  /// nine or more of a matrix that is plainly definite, on the first rows (a random sample; at least 32 for a column), and on all rows only when these are indefinite,
  /// since fewer rows are the harder case. `correction` is the diagonal that the estimator subtracts;
  /// `to_the_end` asks for the eigenvalue itself where its sign would do. O(24 rows d).
  ZIPML_NOINLINE Definiteness measure(const Buffer<float>& correction, double penalty,
                                      bool to_the_end = false) {
    matrix_.set_correction(correction);
    // The start vector D e with random signs e makes v' M^-1 v an estimate of tr(D M^-1 D) = sum_u d_u^2 /
    // lambda_u.
    Buffer<double> start(matrix_.size());
    double trace = 0.0;
    double length = 0.0;
    for (Index j = 0; j < variance_.size(); ++j) {
      const bool negative =
          (random_.word(Stream::batch_order, 1, static_cast<std::uint32_t>(j), 0) >> 31) != 0;
      start[j] = negative ? -variance_[j] : variance_[j];
      trace += variance_[j];
      length += std::fabs(start[j]);
    }
    if (!(length > 0.0)) std::fill(start.begin(), start.end(), 1.0);
    Index rows = (std::min)(rows_, std::max<Index>(8192, 32 * matrix_.size()));
    for (;;) {
      const auto apply = [&](const double* x, double* y) {
        matrix_.apply(rows, x, y);
        for (Index j = 0; j + 1 < matrix_.size(); ++j) y[j] += pinned(penalty * x[j]);
      };
      const double enough = rows < rows_ ? 0.0 : to_the_end ? -1e300 : -0.01;
      const detail::Spectrum spectrum = detail::lanczos(
          start, 24, {.enough = enough, .when_settled = !to_the_end}, detail::LinearMap(apply));
      Definiteness result;
      result.smallest_eigenvalue = spectrum.smallest;
      result.scale = (std::max)(spectrum.scale, 1.0);
      if (length > 0.0) {
        const double norm = static_cast<double>(matrix_.size()) + trace;  // standardised columns have trace d
        result.noise_gain = detail::rounded_up(1.0 + (trace + spectrum.inverse) / norm);
      }
      if (rows == rows_ || !result.indefinite()) return result;
      rows = rows_;
    }
  }

  /// The largest share t in [0, 1] of a correction that leaves M + penalty I positive semidefinite, 0.9 of it
  /// to be on the safe side: by bisection on t, a measurement each.
  double safe_share(const Buffer<float>& correction, double penalty) {
    double low = 0.0;
    double high = 1.0;
    for (int step = 0; step < 7; ++step) {
      const double middle = 0.5 * (low + high);
      Buffer<float> part = correction;
      for (float& v : part) v *= static_cast<float>(middle);
      (measure(part, penalty).indefinite() ? high : low) = middle;
    }
    return 0.9 * low;
  }

 private:
  Index rows_;
  RealisedMatrix<typename detail::SymmetricPart<Estimator>::type> matrix_;
  Buffer<double> variance_;
  Random random_;
};

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION Buffer<double> rounding_variance(const SampleView& samples) {
  const Index d = samples.cols;
  Buffer<double> variance(d);
  if (samples.bias != nullptr) {
    for (Index j = 0; j < d; ++j) variance[j] = static_cast<double>(samples.bias[j]);
  } else if (samples.draws > 1) {
    const Index rows = std::min<Index>(samples.rows, 2048);
    Buffer<float> first(d);
    Buffer<float> second(d);
    for (Index i = 0; i < rows; ++i) {
      samples.decode_row(i, 0, first.data());
      samples.decode_row(i, 1, second.data());
      const double weight = samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0;
      for (Index j = 0; j < d; ++j) {
        const double difference = static_cast<double>(first[j]) - static_cast<double>(second[j]);
        variance[j] += pinned(0.5 * weight * difference * difference) / static_cast<double>(rows);
      }
    }
  }
  return variance;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
