#pragma once
/// \file
/// Layer 6: whether the problem that rounded samples define is convex.
///
/// The realised matrix of an estimator is M = sum_p w_p (1/n) sum_i q_s(p) q_m(p)' - diag(bias), with a 1
/// appended to each row for the intercept. Naive and nearest give a matrix Q'Q, which cannot be indefinite;
/// the unbiased ones can, at few bits or with few rows for a column: then SGD follows a direction of negative
/// curvature.

#include <algorithm>
#include <cmath>

#include <zipml/estimators/requirements.hpp>
#include <zipml/training/gradient_device.hpp>

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
template <class Store, class Estimator, class Kernels>
class RealisedMatrix {
 public:
  explicit RealisedMatrix(const Store& store, const Buffer<float>& correction)
      : store_(store),
        device_(store, LabelMap{}, Channels{}, store.seed()),
        x_(store.cols()),
        g_(store.cols()) {
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
  GradientDevice<Store, Kernels> device_;
  Buffer<float> x_;
  Buffer<float> g_;
};

/// Number of eigenvalues below `t` of the symmetric tridiagonal matrix (a, b): Sturm's sequence.
inline int eigenvalues_below(const List<double>& a, const List<double>& b, double t) {
  int count = 0;
  double pivot = 1.0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    const double off = k > 0 ? b[k - 1] : 0.0;
    pivot = a[k] - t - (k > 0 ? off * off / pivot : 0.0);
    if (pivot == 0.0) pivot = 1e-300;
    count += pivot < 0.0 ? 1 : 0;
  }
  return count;
}

/// Its smallest eigenvalue, by bisection.
inline double smallest_of_tridiagonal(const List<double>& a, const List<double>& b) {
  double reach = 0.0;
  for (std::size_t k = 0; k < a.size(); ++k)
    reach = std::max(reach, std::fabs(a[k]) + (k > 0 ? std::fabs(b[k - 1]) : 0.0) +
                                (k < b.size() ? std::fabs(b[k]) : 0.0));
  double low = -reach;
  double high = reach;
  for (int step = 0; step < 100 && high - low > 1e-12 * reach; ++step) {
    const double middle = 0.5 * (low + high);
    (eigenvalues_below(a, b, middle) > 0 ? high : low) = middle;
  }
  return 0.5 * (low + high);
}

/// Smallest Ritz value after at most `steps` steps of Lanczos with full reorthogonalisation (Golub, Van Loan,
/// section 10.1): an upper bound of the smallest eigenvalue, exact when steps reach the dimension. Ends early
/// below `enough`. `largest` becomes the largest |alpha| + |beta| seen, the scale of the matrix.
template <class Apply>
double lanczos_smallest(Index size, int steps, double enough, double& largest, const Apply& apply) {
  List<Buffer<double>> basis;
  List<double> alpha;
  List<double> beta;
  Buffer<double> v(size);
  for (Index j = 0; j < size; ++j) v[j] = 1.0 + static_cast<double>(j * 7919 % 101) / 101.0;
  const auto product = [size](const Buffer<double>& a, const Buffer<double>& b) {
    double sum = 0.0;
    for (Index j = 0; j < size; ++j) sum += pinned(a[j] * b[j]);
    return sum;
  };
  const auto normalise = [&](Buffer<double>& a) {
    const double norm = std::sqrt(product(a, a));
    if (norm > 0.0)
      for (Index j = 0; j < size; ++j) a[j] /= norm;
    return norm;
  };
  normalise(v);
  Buffer<double> w(size);
  double smallest = 0.0;
  for (int step = 0; step < steps && step < size; ++step) {
    apply(v.data(), w.data());
    alpha.push_back(product(v, w));
    basis.push_back(v);
    for (int twice = 0; twice < 2; ++twice)
      for (const Buffer<double>& u : basis) {
        const double part = product(u, w);
        for (Index j = 0; j < size; ++j) w[j] -= pinned(part * u[j]);
      }
    smallest = smallest_of_tridiagonal(alpha, beta);
    const double norm = normalise(w);
    largest = std::max(largest, std::fabs(alpha.back()) + norm);
    if (smallest < enough || norm <= 1e-9 * largest) break;
    beta.push_back(norm);
    std::swap(v, w);
  }
  return smallest;
}

}  // namespace detail

/// What is known of the definiteness of an estimator's problem on a store.
struct Definiteness {
  double smallest_eigenvalue = 0.0;  ///< of M + penalty, an estimate from above
  double scale = 1.0;                ///< of the largest eigenvalue; float sums leave an error of 1e-5 of it
  bool indefinite() const { return smallest_eigenvalue < -1e-5 * scale; }
};

/// Estimates the smallest eigenvalue of the symmetric part of M + penalty I: 40 steps of Lanczos on the first
/// rows (a random sample; at least 32 for a column), and on all rows only when these are indefinite, since
/// fewer rows are the harder case. `correction` is the diagonal that the estimator subtracts. O(40 rows d).
template <KernelPolicy Kernels, class Store, class Estimator>
Definiteness measure_definiteness(const Store& store, Estimator, const Buffer<float>& correction,
                                  double penalty, bool to_the_end = false) {
  using Symmetric = typename detail::SymmetricPart<Estimator>::type;
  detail::RealisedMatrix<Store, Symmetric, Kernels> matrix(store, correction);
  Index rows = std::min(store.rows(), std::max<Index>(8192, 32 * matrix.size()));
  for (;;) {
    Definiteness result;
    double scale = 0.0;
    const auto apply = [&](const double* x, double* y) { matrix.apply(rows, x, y); };
    const double enough = to_the_end ? -1e300 : -penalty - 0.01;
    result.smallest_eigenvalue =
        detail::lanczos_smallest(matrix.size(), 40, rows < store.rows() ? -penalty : enough, scale, apply) +
        penalty;
    result.scale = std::max(scale, 1.0);
    if (rows == store.rows() || !result.indefinite()) return result;
    rows = store.rows();
  }
}

/// The largest share t in [0, 1] of the correction that leaves M + penalty I positive semidefinite, 0.9 of it
/// to be on the safe side: by bisection on t, a test of definiteness each.
template <KernelPolicy Kernels, class Store, class Estimator>
double safe_share(const Store& store, Estimator estimator, double penalty) {
  double low = 0.0;
  double high = 1.0;
  for (int step = 0; step < 7; ++step) {
    const double middle = 0.5 * (low + high);
    Buffer<float> part = store.bias;
    for (float& v : part) v *= static_cast<float>(middle);
    (measure_definiteness<Kernels>(store, estimator, part, penalty).indefinite() ? high : low) = middle;
  }
  return 0.9 * low;
}

}  // namespace zipml::inline ZIPML_ABI
