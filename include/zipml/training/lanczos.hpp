#pragma once
/// \file
/// Room training: Lanczos' method, for the few eigenvalues and quadratic forms that safe steps and convexity
/// depend on.

#include <algorithm>
#include <cmath>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// What Lanczos' method tells of a symmetric matrix.
struct Spectrum {
  double smallest = 0.0;  ///< Ritz value: an upper bound of the smallest eigenvalue
  double scale = 0.0;     ///< about the largest eigenvalue
  double inverse = 0.0;  ///< v' M^-1 v for the start vector v, from below (Golub, Meurant 2010, section 7); 0
                         ///< when the matrix is not positive definite
};

/// y = M x without the type of what computes it: Lanczos' method is compiled once for all stores.
class LinearMap {
 public:
  template <class F>
  explicit LinearMap(const F& map)
      : map_(&map),
        apply_([](const void* self, const double* x, double* y) { (*static_cast<const F*>(self))(x, y); }) {}
  void operator()(const double* x, double* y) const { apply_(map_, x, y); }

 private:
  const void* map_;
  void (*apply_)(const void*, const double*, double*);
};

/// When Lanczos' method may end before its last step.
struct LanczosEnd {
  double enough = -1e300;  ///< an eigenvalue is below this
  /// The matrix is positive definite beyond doubt and both answers stand still: from the ninth step on, the
  /// smallest Ritz value is above 0.05 of the scale and moved by at most 2 %, the inverse form by at most
  /// 1e-4 of itself.
  bool when_settled = false;
};

/// At most `steps` steps of Lanczos from `v` (normalised here), with full reorthogonalisation (Golub, Van
/// Loan, section 10.1); exact when steps reach the dimension.
Spectrum lanczos(Buffer<double> v, int steps, LanczosEnd end, const LinearMap& apply);

#if ZIPML_DEFINES

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
    reach = (std::max)(reach, std::fabs(a[k]) + (k > 0 ? std::fabs(b[k - 1]) : 0.0) +
                                  (k < b.size() ? std::fabs(b[k]) : 0.0));
  double low = -reach;
  double high = reach;
  for (int step = 0; step < 100 && high - low > 1e-12 * reach; ++step) {
    const double middle = 0.5 * (low + high);
    (eigenvalues_below(a, b, middle) > 0 ? high : low) = middle;
  }
  return 0.5 * (low + high);
}

/// Entry (1, 1) of its inverse, a continued fraction from the end. The matrix is positive definite.
inline double inverse_of_tridiagonal(const List<double>& a, const List<double>& b) {
  double fraction = a.back();
  for (std::size_t k = a.size() - 1; k-- > 0;) fraction = a[k] - b[k] * b[k] / fraction;
  return 1.0 / fraction;
}

ZIPML_FUNCTION Spectrum lanczos(Buffer<double> v, int steps, LanczosEnd end, const LinearMap& apply) {
  const Index size = v.size();
  Spectrum spectrum;
  List<Buffer<double>> basis;
  List<double> alpha;
  List<double> beta;
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
  const double length = normalise(v);
  Buffer<double> w(size);
  for (int step = 0; step < steps && step < size; ++step) {
    apply(v.data(), w.data());
    alpha.push_back(product(v, w));
    basis.push_back(v);
    for (int twice = 0; twice < 2; ++twice)
      for (const Buffer<double>& u : basis) {
        const double part = product(u, w);
        for (Index j = 0; j < size; ++j) w[j] -= pinned(part * u[j]);
      }
    const double smallest = smallest_of_tridiagonal(alpha, beta);
    const double inverse = smallest > 0.0 ? length * length * inverse_of_tridiagonal(alpha, beta) : 0.0;
    const double norm = normalise(w);
    spectrum.scale = (std::max)(spectrum.scale, std::fabs(alpha.back()) + norm);
    const bool settled = step >= 8 && smallest > 0.05 * spectrum.scale &&
                         spectrum.smallest - smallest <= 0.02 * smallest &&
                         inverse - spectrum.inverse <= 1e-4 * inverse;
    spectrum.smallest = smallest;
    spectrum.inverse = inverse;
    if (smallest < end.enough || norm <= 1e-9 * spectrum.scale || (end.when_settled && settled)) break;
    beta.push_back(norm);
    std::swap(v, w);
  }
  return spectrum;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
