#pragma once
/// \file
/// Room packing: the pilot of a store (storage/pilot.hpp): a model of a random sample of the rows, and
/// the sums over all rows that make its gradient. Float sums in sixteen lanes and fixed chunks: the same bits
/// on every instruction set and for any number of threads.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/quantization/statistics.hpp>
#include <zipml/storage/pilot.hpp>
#include <zipml/storage/targets.hpp>
#if ZIPML_DEFINES
#include <zipml/base/centred_rows.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/packing/newton_pilot.hpp>
#include <zipml/packing/pilot_sample.hpp>
#endif

namespace zipml::inline ZIPML_ABI {

/// Rows that the pilot of n rows and d columns is fitted to, from `asked` (no value: as many as serve; 0:
/// none). Throws Error when more are asked for than there are.
Index pilot_rows(Index rows, Index cols, std::optional<Index> asked);

/// Fits w0 and c0 to the first `rows` rows in store order, which are a random sample: conjugate gradients on
/// the normal equations (Bjoerck 1996, section 7.4), ended where a quarter of the rows that is held out is
/// predicted best, so that directions in which the sample has little to say stay at 0. `weights` are of mean
/// 1 and in store order, or empty. Leaves the gradient
/// to PilotSums. No pilot (of 0 rows) where no weights predict better than none. O(rows d) for each of some
/// ten to forty iterations.
///
/// Of a loss that is not quadratic: truncated Newton steps (Nocedal, Wright 2006, section 7.1), each by conjugate
/// gradients to a tenth of its gradient, ended in the same way, with a standard normal prior of weights and intercept,
/// which keeps them finite where the sample's classes can be separated. No pilot either where one of two classes has
/// less than 16 rows in the sample.
Pilot fit_pilot(const MatrixView& features, std::span<const float> labels, std::span<const float> weights,
                const RowPlacement& placement, const Standardization& map, const PilotLoss& loss, Index rows,
                int threads, Isa isa);

/// The sums of one thread over chunks of rows in store order.
class PilotSums {
 public:
  PilotSums(const Pilot& pilot, const PilotLoss& loss, const Standardization& map, Isa isa);

  /// Entries that close_chunk writes: d sums of r a, that of r, that of r^2.
  static Index entries(Index cols) { return cols + 2; }

  /// Rows in the user's units, each counted `weights[r]` times (null: once). Nothing behind a row is read.
  void add(std::span<const float* const> rows, const float* labels, const float* weights);
  /// Writes the sums since the last call and begins anew.
  void close_chunk(double* out);

 private:
  PilotLoss loss_;
  Isa isa_;
  Index d_;
  double base_ = 0.0;  // of the margin of a row whose centred values are 0
  double residuals_ = 0.0;
  double squares_ = 0.0;
  Buffer<float> mean_, weights_, sums_;  // padded
};

/// Completes a pilot from the sums of its chunks, each of PilotSums::entries, and brings it from the map
/// `fitted` under which it was fitted and summed to `map`. Sums of values near the end of float32 may
/// overflow: there is no pilot then.
void finish_pilot(Pilot& pilot, const Standardization& fitted, const Standardization& map,
                  std::span<const double> sums, Index rows);

#if ZIPML_DEFINES

ZIPML_FUNCTION Index pilot_rows(Index rows, Index cols, std::optional<Index> asked) {
  if (asked) {
    if (*asked < 0 || *asked > rows)
      throw Error("the pilot's number of rows is out of range", "0 to " + std::to_string(rows),
                  std::to_string(*asked));
    return *asked;
  }
  constexpr Index fewest = 128;
  const Index most = rows / 2;
  const Index wanted = (std::max)({Index{4000}, 100 * cols, rows / 32});
  // At least 16 of them for a weight, and else no more values than stay cheap to read some ten times.
  const Index affordable = (std::max)(16 * cols, (Index{1} << 24) / std::max<Index>(cols, 1));
  return most >= fewest ? (std::min)({wanted, affordable, most}) : 0;
}

ZIPML_FUNCTION Pilot fit_pilot(const MatrixView& features, std::span<const float> labels,
                               std::span<const float> weights, const RowPlacement& placement,
                               const Standardization& map, const PilotLoss& loss, Index rows, int threads,
                               Isa isa) {
  detail::PilotSample sample(features, labels, weights, placement, map, loss, rows, threads, isa);
  if (!loss.is_quadratic()) return detail::fit_newton_pilot(sample, weights, loss, rows);
  const Index size = sample.size();
  const Index fitted = rows - rows / 4;  // the others are held out
  constexpr int most_iterations = 60;
  Buffer<double> x(size), direction(size), gradient(size), product(size), best(size);
  Buffer<float> residual = sample.labels(), image(rows);
  sample.add_rows(fitted, gradient, [&](Index i, const float*, float*) { return residual[i]; });
  direction = gradient;
  double length = detail::squares_of(gradient);
  detail::HeldOut held_out(detail::squares_of(residual, fitted, rows));
  for (int k = 0; k < most_iterations && held_out.gains() && length > 0.0; ++k) {
    sample.multiply(direction, fitted, image, product);
    const double curvature = detail::squares_of(image, 0, fitted);
    if (!(curvature > 0.0)) break;
    const double step = length / curvature;
    for (Index j = 0; j < size; ++j) x[j] += pinned(step * direction[j]);
    const auto rounded = static_cast<float>(step);
    for (Index i = fitted; i < rows; ++i) residual[i] -= pinned(rounded * image[i]);
    if (held_out.is_better(detail::squares_of(residual, fitted, rows))) best = x;
    // A'(r - step A p) without another reading: what that loses in precision, a pilot does not need.
    for (Index j = 0; j < size; ++j) gradient[j] -= pinned(step * product[j]);
    const double now = detail::squares_of(gradient);
    const double turn = now / length;
    length = now;
    for (Index j = 0; j < size; ++j) direction[j] = gradient[j] + pinned(turn * direction[j]);
  }
  Pilot pilot;
  if (!held_out.has_gained()) return pilot;
  pilot.rows = rows;
  pilot.weights = Buffer<float>(size - 1);
  for (Index j = 0; j + 1 < size; ++j)
    pilot.weights[j] = static_cast<float>(best[j] * sample.label_deviation());
  pilot.intercept = sample.label_mean() + pinned(best[size - 1] * sample.label_deviation());
  return pilot;
}

ZIPML_FUNCTION PilotSums::PilotSums(const Pilot& pilot, const PilotLoss& loss, const Standardization& map,
                                    Isa isa)
    : loss_(loss),
      isa_(isa),
      d_(map.cols()),
      base_(pilot.intercept),
      mean_(round_up(d_, detail::centred_lanes)),
      weights_(mean_.size()),
      sums_(mean_.size()) {
  for (Index j = 0; j < d_; ++j) {
    mean_[j] = static_cast<float>(map.mean[j]);
    weights_[j] = static_cast<float>(static_cast<double>(pilot.weights[j]) / map.scale[j]);
    base_ += pinned(static_cast<double>(weights_[j]) * (static_cast<double>(mean_[j]) - map.mean[j]));
  }
}

ZIPML_FUNCTION void PilotSums::add(std::span<const float* const> rows, const float* labels,
                                   const float* weights) {
  constexpr auto together = static_cast<std::size_t>(detail::rows_at_once);
  for (std::size_t first = 0; first < rows.size(); first += together) {
    const std::size_t count = (std::min)(together, rows.size() - first);
    // Where there are fewer rows, the first of them again, which count nothing.
    const float* some[together];
    float z[together], factor[together] = {};
    for (std::size_t r = 0; r < together; ++r) some[r] = rows[first + (r < count ? r : 0)];
    detail::centred_margins(isa_, some, d_, mean_.data(), weights_.data(), z);
    for (std::size_t r = 0; r < count; ++r) {
      const float label = labels[first + r];
      const double weight = weights != nullptr ? static_cast<double>(weights[first + r]) : 1.0;
      const double margin = static_cast<double>(z[r]) + base_;
      double residual = margin - static_cast<double>(label), value = 0.0;
      if (!loss_.is_quadratic()) {
        const PilotLoss::Slopes slopes = loss_.at(margin, loss_.target(label));
        residual = slopes.first;
        value = slopes.value;
      }
      const double weighted = weight * residual;
      factor[r] = static_cast<float>(weighted);
      residuals_ += weighted;
      squares_ += loss_.is_quadratic() ? pinned(weighted * residual) : pinned(2.0 * weight * value);
    }
    detail::add_centred(isa_, some, d_, mean_.data(), factor, sums_.data());
  }
}

ZIPML_FUNCTION void PilotSums::close_chunk(double* out) {
  for (Index j = 0; j < d_; ++j) out[j] = static_cast<double>(sums_[j]);
  out[d_] = residuals_;
  out[d_ + 1] = squares_;
  std::fill(sums_.begin(), sums_.end(), 0.0f);
  residuals_ = squares_ = 0.0;
}

ZIPML_FUNCTION void finish_pilot(Pilot& pilot, const Standardization& fitted, const Standardization& map,
                                 std::span<const double> sums, Index rows) {
  const Index d = map.cols();
  const Index entries = PilotSums::entries(d);
  Buffer<double> total(entries);
  for (Index at = 0; at < static_cast<Index>(sums.size()); at += entries)
    for (Index j = 0; j < entries; ++j) total[j] += sums[static_cast<std::size_t>(at + j)];
  const auto n = static_cast<double>(rows);
  pilot.gradient = Buffer<double>(d + 1);
  for (Index j = 0; j < d; ++j) {
    // Rows were centred at the mean as a float.
    const double shift = static_cast<double>(static_cast<float>(fitted.mean[j])) - map.mean[j];
    pilot.gradient[j] = (total[j] + pinned(shift * total[d])) / (n * map.scale[j]);
    if (fitted.mean[j] == map.mean[j] && fitted.scale[j] == map.scale[j]) continue;
    const double weight = static_cast<double>(pilot.weights[j]) / fitted.scale[j];
    pilot.weights[j] = static_cast<float>(weight * map.scale[j]);
    pilot.intercept += pinned(weight * (map.mean[j] - fitted.mean[j]));
  }
  pilot.gradient[d] = total[d] / n;
  pilot.squares = total[d + 1] / n;
  if (!detail::all_finite(pilot.gradient.data(), d + 1) || !detail::all_finite(&pilot.squares, 1) ||
      !detail::all_finite(pilot.weights.data(), d))
    pilot = Pilot{};
}

#endif

}  // namespace zipml::inline ZIPML_ABI
