#pragma once
/// \file
/// Room training: whether the problem that rounded samples define is convex.
///
/// The realised matrix of an estimator is M = sum_p w_p (1/n) sum_i q_s(p) q_m(p)' - diag(bias), with a 1
/// appended to each row for the intercept. Naive and nearest give a matrix Q'Q, which cannot be indefinite;
/// the unbiased ones can, at few bits or with few rows for a column: then SGD follows a direction of negative
/// curvature.

#include <algorithm>
#include <cmath>

#include <zipml/base/buffer.hpp>
#include <zipml/base/random.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/training/gradient_device.hpp>
#include <zipml/training/lanczos.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// l = z^2 / 2 without labels: its gradient is M x.
struct QuadraticForm {
  static constexpr const char* name = "quadratic-form";
  static constexpr bool classifies = false;
  static constexpr float slope = 1.0f;
  double value(double z, double) const { return 0.5 * z * z; }
  float derivative(float z, float) const { return z; }
  LabelMap label_map(const LabelStatistics&) const { return {}; }
};

/// The estimator whose matrix is the symmetric part of another's.
template <class Estimator>
struct SymmetricPart {
  using type = Estimator;
};
template <>
struct SymmetricPart<DoubleSampling> {
  using type = Symmetrized;
};

/// y = M x over the first `rows` rows of a store; x and y have d + 1 entries, the intercept last.
template <class Store, class Estimator>
class RealisedMatrix {
 public:
  RealisedMatrix(const KernelTable& kernels, const Store& store, const Buffer<float>& correction)
      : store_(store),
        device_(kernels, store, LabelMap{}, Channels{}, store.seed()),
        x_(padded(store.cols())),
        g_(padded(store.cols())) {
    device_.set_correction(correction);
  }
  Index size() const { return store_.cols() + 1; }

  void apply(Index rows, const double* x, double* y) {
    const Index d = store_.cols();
    for (Index j = 0; j < d; ++j) x_[j] = static_cast<float>(x[j]);
    std::fill_n(y, d + 1, 0.0);
    constexpr Index piece = 4096;
    for (Index first = 0; first < rows; first += piece) {
      const Index count = std::min(piece, rows - first);
      device_.begin_batch(first, count, x_.data(), static_cast<float>(x[d]), 0);
      while (device_.next_pass()) Estimator{}(device_, QuadraticForm{});
      const auto share = static_cast<double>(count) / static_cast<double>(rows);
      y[d] += pinned(share * static_cast<double>(device_.end_batch(g_.data())));
      for (Index j = 0; j < d; ++j) y[j] += pinned(share * static_cast<double>(g_[j]));
    }
  }

 private:
  const Store& store_;
  GradientDevice<Store> device_;
  Buffer<float> x_;
  Buffer<float> g_;
};

}  // namespace detail

/// What is known of the problem that an estimator defines on a store.
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
template <class Store>
Buffer<double> rounding_variance(const Store& store) {
  const Index d = store.cols();
  Buffer<double> variance(d);
  if constexpr (Store::EncodingType::has_bias) {
    for (Index j = 0; j < d; ++j) variance[j] = static_cast<double>(store.bias[j]);
  } else if constexpr (Store::draws > 1) {
    const Index rows = std::min<Index>(store.rows(), 2048);
    Buffer<float> first(d);
    Buffer<float> second(d);
    for (Index i = 0; i < rows; ++i) {
      store.decode_row(i, 0, first.data());
      store.decode_row(i, 1, second.data());
      for (Index j = 0; j < d; ++j) {
        const double difference = static_cast<double>(first[j]) - static_cast<double>(second[j]);
        variance[j] += pinned(0.5 * difference * difference) / static_cast<double>(rows);
      }
    }
  }
  return variance;
}

}  // namespace detail

/// Estimates the smallest eigenvalue of the symmetric part of M + penalty I: 24 steps of Lanczos on the first
/// rows (a random sample; at least 32 for a column), and on all rows only when these are indefinite, since
/// fewer rows are the harder case. `correction` is the diagonal that the estimator subtracts; `to_the_end`
/// asks for the eigenvalue itself where its sign would do. O(24 rows d).
template <class Store, class Estimator>
ZIPML_NOINLINE Definiteness measure_definiteness(const KernelTable& kernels, const Store& store, Estimator,
                                                 const Buffer<float>& correction, double penalty,
                                                 bool to_the_end = false) {
  using Symmetric = typename detail::SymmetricPart<Estimator>::type;
  detail::RealisedMatrix<Store, Symmetric> matrix(kernels, store, correction);
  const Buffer<double> variance = detail::rounding_variance(store);
  // The start vector D e with random signs e makes v' M^-1 v an estimate of tr(D M^-1 D) = sum_u d_u^2 /
  // lambda_u.
  Buffer<double> start(matrix.size());
  const Random random(store.seed());
  double trace = 0.0;
  double length = 0.0;
  for (Index j = 0; j < variance.size(); ++j) {
    const bool negative = (random.word(Stream::batch_order, 1, static_cast<std::uint32_t>(j), 0) >> 31) != 0;
    start[j] = negative ? -variance[j] : variance[j];
    trace += variance[j];
    length += std::fabs(start[j]);
  }
  if (!(length > 0.0)) std::fill(start.begin(), start.end(), 1.0);
  Index rows = std::min(store.rows(), std::max<Index>(8192, 32 * matrix.size()));
  for (;;) {
    const auto apply = [&](const double* x, double* y) {
      matrix.apply(rows, x, y);
      for (Index j = 0; j + 1 < matrix.size(); ++j) y[j] += pinned(penalty * x[j]);
    };
    const double enough = rows < store.rows() ? 0.0 : to_the_end ? -1e300 : -0.01;
    const detail::Spectrum spectrum = detail::lanczos(start, 24, enough, detail::LinearMap(apply));
    Definiteness result;
    result.smallest_eigenvalue = spectrum.smallest;
    result.scale = std::max(spectrum.scale, 1.0);
    if (length > 0.0) {
      const double norm = static_cast<double>(matrix.size()) + trace;  // standardised columns have trace d
      result.noise_gain = 1.0 + (trace + spectrum.inverse) / norm;
    }
    if (rows == store.rows() || !result.indefinite()) return result;
    rows = store.rows();
  }
}

/// The largest share t in [0, 1] of the correction that leaves M + penalty I positive semidefinite, 0.9 of it
/// to be on the safe side: by bisection on t, a test of definiteness each.
template <class Store, class Estimator>
ZIPML_NOINLINE double safe_share(const KernelTable& kernels, const Store& store, Estimator estimator,
                                 double penalty) {
  double low = 0.0;
  double high = 1.0;
  for (int step = 0; step < 7; ++step) {
    const double middle = 0.5 * (low + high);
    Buffer<float> part = store.bias;
    for (float& v : part) v *= static_cast<float>(middle);
    (measure_definiteness(kernels, store, estimator, part, penalty).indefinite() ? high : low) = middle;
  }
  return 0.9 * low;
}

}  // namespace zipml::inline ZIPML_ABI
