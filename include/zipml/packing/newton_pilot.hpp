#pragma once
/// \file
/// Room packing: the pilot of a loss that is not quadratic (packing/pilot_fit.hpp), by truncated Newton steps.

#include <algorithm>
#include <span>

#include <zipml/base/buffer.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/packing/pilot_sample.hpp>
#include <zipml/storage/pilot.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Whether labels have two values, of which one is in less than 16 rows: too few to fit a class to.
inline bool lacks_a_class(const Buffer<float>& labels) {
  const float one = labels[0];
  float other = one;
  Index count = 0;
  for (const float y : labels) {
    if (y == one) {
      ++count;
      continue;
    }
    if (other == one) other = y;
    if (y != other) return false;
  }
  return (std::min)(count, labels.size() - count) < 16;
}

/// The pilot of a loss that is not quadratic, see fit_pilot(). O(rows d) for each inner iteration, of which there are at
/// most 30 in each of 25 steps.
inline Pilot fit_newton_pilot(PilotSample& sample, std::span<const float> weights, const PilotLoss& loss,
                              Index rows) {
  const Index size = sample.size();
  Index fitted = rows - rows / 4;  // the others are held out
  constexpr int most_steps = 25;
  constexpr int most_inner = 30;
  const auto weight = [&](Index i) {
    return weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(i)]);
  };
  if (lacks_a_class(sample.labels())) return {};
  const auto value = [&](const Buffer<float>& z, const Buffer<float>& image, double step, Index first,
                         Index end) {
    double sum = 0.0;
    for (Index i = first; i < end; ++i) {
      const double margin = static_cast<double>(z[i]) + pinned(step * static_cast<double>(image[i]));
      sum += pinned(weight(i) * loss.at(margin, static_cast<double>(sample.labels()[i])).value);
    }
    return sum;
  };
  Buffer<double> x(size), best(size), gradient(size), residual(size), direction(size), product(size),
      move(size);
  Buffer<float> z(rows), image(rows), curvature(rows), first(rows);
  HeldOut held_out(value(z, image, 0.0, fitted, rows));
  double at_start = value(z, image, 0.0, 0, fitted);
  // Half the squared length of x + step * move.
  const auto prior = [&](double step) {
    double sum = 0.0;
    for (Index j = 0; j < size; ++j)
      sum += pinned((x[j] + pinned(step * move[j])) * (x[j] + pinned(step * move[j])));
    return 0.5 * sum;
  };
  for (int step = 0; step < most_steps && held_out.gains(); ++step) {
    for (Index i = 0; i < fitted; ++i) {
      const PilotLoss::Slopes slopes =
          loss.at(static_cast<double>(z[i]), static_cast<double>(sample.labels()[i]));
      first[i] = static_cast<float>(-weight(i) * slopes.first);
      curvature[i] = static_cast<float>(weight(i) * slopes.second);
    }
    sample.add_rows(fitted, residual, [&](Index i, const float*, float*) { return first[i]; });
    for (Index j = 0; j < size; ++j) residual[j] -= x[j];  // of the prior
    gradient = residual;
    direction = residual;
    std::fill(move.begin(), move.end(), 0.0);
    double length = squares_of(residual);
    const double enough = 0.01 * length;
    for (int k = 0; k < most_inner && length > enough; ++k) {
      sample.multiply_weighted(direction, curvature, fitted, product);
      for (Index j = 0; j < size; ++j) product[j] += direction[j];
      double bend = 0.0;
      for (Index j = 0; j < size; ++j) bend += pinned(direction[j] * product[j]);
      if (!(bend > 0.0)) break;
      const double along = length / bend;
      for (Index j = 0; j < size; ++j) {
        move[j] += pinned(along * direction[j]);
        residual[j] -= pinned(along * product[j]);
      }
      const double now = squares_of(residual);
      for (Index j = 0; j < size; ++j) direction[j] = residual[j] + pinned(now / length * direction[j]);
      length = now;
    }
    double descent = 0.0;
    for (Index j = 0; j < size; ++j) descent += pinned(gradient[j] * move[j]);
    if (!(descent > 1e-6 * at_start)) {
      // Nothing is fitted too closely: all rows, then.
      if (fitted == rows || !held_out.gained_at_last()) break;
      fitted = rows;
      at_start = value(z, image, 0.0, 0, rows) + prior(0.0);
      continue;
    }
    sample.multiply(move, 0, image, product);
    double stride = 1.0, after = 0.0;
    for (; stride > 1e-6; stride *= 0.5) {
      after = value(z, image, stride, 0, fitted) + prior(stride);
      if (after <= at_start - 0.1 * stride * descent) break;
    }
    if (!(stride > 1e-6)) break;
    at_start = after;
    for (Index j = 0; j < size; ++j) x[j] += pinned(stride * move[j]);
    for (Index i = 0; i < rows; ++i)
      z[i] = static_cast<float>(static_cast<double>(z[i]) + pinned(stride * static_cast<double>(image[i])));
    if (fitted == rows || held_out.is_better(value(z, image, 0.0, fitted, rows))) best = x;
  }
  Pilot pilot;
  if (!held_out.has_gained()) return pilot;
  pilot.rows = rows;
  pilot.loss = loss.fingerprint();
  pilot.weights = Buffer<float>(size - 1);
  for (Index j = 0; j + 1 < size; ++j) pilot.weights[j] = static_cast<float>(best[j]);
  pilot.intercept = best[size - 1];
  return pilot;
}

}  // namespace zipml::inline ZIPML_ABI::detail
