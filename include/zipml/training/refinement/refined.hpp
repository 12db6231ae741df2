#pragma once
/// \file
/// Room training: what refinement takes and returns, and the point that it moves.

#include <algorithm>
#include <cmath>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/eigen.hpp>
#include <zipml/model/linear_model.hpp>
#include <zipml/training/fit.hpp>
#include <zipml/training/reducer.hpp>

namespace zipml::inline ZIPML_ABI {

/// Named options of refine().
struct RefineOptions {
  int passes = 100;  ///< at most as many readings of the samples in full precision
  double tolerance =
      1e-6;  ///< ends when F - F* is below this share of F, or 10^-12 of F at no weights, as a last reading tells; 0: after all
             ///< passes
  int threads = 1;       ///< 0: all of the machine. The same bits for any
  std::string isa = {};  ///< as FitOptions::isa
  /// Up to so many columns P is formed, in some 32 d^2 bytes, and factorised, in d^3 / 3 operations; beyond them it is divided
  /// by in some readings of the packed samples, which then depend on the instruction set in their last bits.
  Index direct_columns = 4096;
  /// Workers that share the readings, of the rows and of the packed samples, each of which refines with these options and the same
  /// observers; null: there is one. With integer matrices without outliers the same bits for any number.
  Reducer* reducer = nullptr;
};

/// What refine() returns.
struct Refined {
  LinearModel model;       ///< in the user's units
  Buffer<double> weights;  ///< standardised
  double intercept = 0.0;  ///< standardised
  double value = 0.0;      ///< of the objective, in full precision, where it was last read or followed to
  double gap = 0.0;        ///< estimate of F - F* of the weights
  FitStatus status = FitStatus::completed;  ///< converged: the gap was read to be below the tolerance
  std::string advice;                       ///< what hinders; empty when all is well
  int full_passes = 0;                      ///< readings of the samples in full precision
  int packed_passes = 0;                    ///< of the packed ones
  double full_bytes = 0.0;  ///< of all these readings; of those that served several models an equal share
  double packed_bytes = 0.0;
  double seconds_full = 0.0;    ///< in them, the same share
  double seconds_packed = 0.0;  ///< reading packed samples, and factorising what they make
  double seconds = 0.0;         ///< in all
  Index pilot_rows = 0;         ///< that the start was fitted to; 0: started at zero, which costs a reading

  bool success() const { return status != FitStatus::diverged; }
};

namespace detail {

/// The gap that is small enough: the tolerance as a share of F, or, where F* is 0, 10^-12 of what F is at no weights, which is
/// what readings of float32 rows can tell.
struct Goal {
  double tolerance = 0.0;
  double least = 0.0;

  double at(double value) const {
    return tolerance > 0.0 ? (std::max)(tolerance * std::fabs(value), least) : 0.0;
  }
};

/// A point of refinement, and what is known there.
struct RefinedPoint {
  Eigen::VectorXd x;         ///< d + 1, the intercept last
  Eigen::VectorXd residual;  ///< minus the gradient
  double value = 0.0;
};

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
