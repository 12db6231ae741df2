#pragma once
/// \file
/// Room analysis: minimisation of a smooth function of many variables by a limited-memory quasi-Newton method, where a
/// matrix of second derivatives would be too large.

#include <cmath>
#include <cstddef>
#include <span>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/index.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of minimise_lbfgs().
struct LbfgsOptions {
  int memory = 10;        ///< differences of points and gradients that are kept
  int most_steps = 2000;  ///< afterwards the point is returned as it is
  double tolerance =
      1e-11;  ///< ends when ten steps together gain less than this share of the value at the start
};

/// What minimise_lbfgs() returns.
struct LbfgsResult {
  Buffer<double> point;
  double value = 0.0;
  int evaluations = 0;  ///< of value and gradient
  bool converged = false;
};

/// A local minimum of `function(x, gradient)`, which returns the value at x and writes the gradient: L-BFGS (Nocedal, Wright
/// 2006, algorithm 7.5) with steps that are halved until the value falls by 1e-4 of what the slope promises. Differences of
/// no positive curvature are left out. O(memory size) a step beside the function.
///
///     const auto least = zipml::minimise_lbfgs(zipml::Buffer<double>(2), [](const double* x, double* g) { ... });
template <class Function>
LbfgsResult minimise_lbfgs(Buffer<double> start, const Function& function, const LbfgsOptions& options = {});

namespace detail {

/// The last differences of points and gradients, and the direction that they make of a gradient.
class LbfgsMemory {
 public:
  LbfgsMemory(Index size, int pairs) : size_(size), most_(static_cast<std::size_t>(pairs)) {}
  /// Keeps s = to - from and y likewise of the gradients, where s'y is positive.
  void add(const Buffer<double>& from, const Buffer<double>& to, const Buffer<double>& gradient_from,
           const Buffer<double>& gradient_to);
  /// -H gradient, H the inverse that the differences make of a multiple of the identity (two-loop recursion, algorithm
  /// 7.4).
  Buffer<double> direction(const Buffer<double>& gradient) const;
  /// The same of `inverse`, which replaces a vector by its product with an approximate inverse.
  template <class Inverse>
  Buffer<double> direction(const Buffer<double>& gradient, const Inverse& inverse) const;
  void clear() { pairs_.clear(); }
  bool empty() const { return pairs_.empty(); }

 private:
  struct Pair {
    Buffer<double> s, y;
    double product;  // s'y
  };
  double dot(const Buffer<double>& a, const Buffer<double>& b) const {
    double sum = 0.0;
    for (Index i = 0; i < size_; ++i) sum += a[i] * b[i];
    return sum;
  }
  Index size_;
  std::size_t most_;
  List<Pair> pairs_;
};

template <class Inverse>
Buffer<double> LbfgsMemory::direction(const Buffer<double>& gradient, const Inverse& inverse) const {
  Buffer<double> q = gradient;
  for (double& v : q) v = -v;
  List<double> alphas(pairs_.size());
  for (std::size_t k = pairs_.size(); k-- > 0;) {
    const Pair& pair = pairs_[k];
    alphas[k] = dot(pair.s, q) / pair.product;
    for (Index i = 0; i < size_; ++i) q[i] -= alphas[k] * pair.y[i];
  }
  inverse(q);
  for (std::size_t k = 0; k < pairs_.size(); ++k) {
    const Pair& pair = pairs_[k];
    const double beta = dot(pair.y, q) / pair.product;
    for (Index i = 0; i < size_; ++i) q[i] += (alphas[k] - beta) * pair.s[i];
  }
  return q;
}

}  // namespace detail

template <class Function>
LbfgsResult minimise_lbfgs(Buffer<double> start, const Function& function, const LbfgsOptions& options) {
  const Index size = start.size();
  LbfgsResult at{std::move(start), 0.0, 1, false};
  Buffer<double> gradient(size);
  at.value = function(at.point.data(), gradient.data());
  const double least_gain = options.tolerance * std::fabs(at.value);
  detail::LbfgsMemory memory(size, options.memory);
  List<double> values{at.value};
  for (int step = 0; step < options.most_steps; ++step) {
    Buffer<double> direction = memory.direction(gradient);
    double slope = 0.0;
    for (Index i = 0; i < size; ++i) slope += direction[i] * gradient[i];
    if (!(slope < 0.0)) {
      at.converged = true;  // the gradient is 0, or rounding is all that is left
      break;
    }
    Buffer<double> next(size), next_gradient(size);
    double length = 1.0, value = 0.0;
    bool fell = false;
    for (int halvings = 0; halvings < 40 && !fell; ++halvings, length *= 0.5) {
      for (Index i = 0; i < size; ++i) next[i] = at.point[i] + length * direction[i];
      value = function(next.data(), next_gradient.data());
      ++at.evaluations;
      fell = value <= at.value + 1e-4 * length * slope;
    }
    if (!fell) {
      if (memory.empty()) break;
      memory.clear();  // once more, down the gradient
      continue;
    }
    memory.add(at.point, next, gradient, next_gradient);
    at.point = std::move(next);
    gradient = std::move(next_gradient);
    at.value = value;
    values.push_back(value);
    if (values.size() > 10 && values[values.size() - 11] - value < least_gain) {
      at.converged = true;
      break;
    }
  }
  return at;
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void LbfgsMemory::add(const Buffer<double>& from, const Buffer<double>& to,
                                     const Buffer<double>& gradient_from, const Buffer<double>& gradient_to) {
  Pair pair{Buffer<double>(size_), Buffer<double>(size_), 0.0};
  for (Index i = 0; i < size_; ++i) {
    pair.s[i] = to[i] - from[i];
    pair.y[i] = gradient_to[i] - gradient_from[i];
  }
  pair.product = dot(pair.s, pair.y);
  if (!(pair.product > 1e-12 * std::sqrt(dot(pair.s, pair.s) * dot(pair.y, pair.y)))) return;
  if (pairs_.size() == most_) pairs_.erase(pairs_.begin());
  pairs_.push_back(std::move(pair));
}

ZIPML_FUNCTION Buffer<double> LbfgsMemory::direction(const Buffer<double>& gradient) const {
  if (pairs_.empty()) {  // a first step of length 1 at most
    Buffer<double> q = gradient;
    for (double& v : q) v = -v;
    const double norm = std::sqrt(dot(gradient, gradient));
    if (norm > 1.0)
      for (double& v : q) v /= norm;
    return q;
  }
  const Pair& last = pairs_.back();
  const double scale = last.product / dot(last.y, last.y);
  return direction(gradient, [&](Buffer<double>& v) {
    for (double& entry : v) entry *= scale;
  });
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
