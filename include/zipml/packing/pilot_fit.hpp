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
#include <zipml/base/lane_math.hpp>
#include <zipml/base/rounded.hpp>
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

  /// A row in the user's units, counted `weight` times.
  void add(const float* row, float label, float weight);
  /// Writes the sums since the last call and begins anew.
  void close_chunk(double* out);

 private:
  PilotLoss loss_;
  Isa isa_;
  Index d_;
  double base_ = 0.0;  // of the margin of a row whose centred values are 0
  double residuals_ = 0.0;
  double squares_ = 0.0;
  Buffer<float> mean_, weights_, centred_, sums_, scratch_;  // padded
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

namespace detail {

/// The sample of a pilot: standardised rows with a 1 behind. Of least squares with standardised labels, each times the
/// root of its row's weight; of another loss with its targets, and weights apart.
class PilotSample {
 public:
  PilotSample(const MatrixView& features, std::span<const float> labels, std::span<const float> weights,
              const RowPlacement& placement, const Standardization& map, const PilotLoss& loss, Index rows,
              int threads, Isa isa)
      : isa_(isa),
        rows_(rows),
        size_(features.cols + 1),
        padded_(round_up(size_, lane_count)),
        team_(thread_count(threads)),
        chunks_((rows + statistics_chunk - 1) / statistics_chunk),
        values_(checked_product(rows, padded_, "the pilot's rows")),
        labels_(rows),
        of_chunks_(chunks_ * padded_) {
    Buffer<Index> ids(rows);
    placement.row_ids(0, rows, ids.data());
    for (Index i = 0; i < rows; ++i) labels_[i] = labels[static_cast<std::size_t>(ids[i])];
    if (loss.is_quadratic())
      standardise_labels();
    else
      for (float& y : labels_) y = static_cast<float>(loss.target(y));
    const bool rooted = loss.is_quadratic() && !weights.empty();
    Buffer<float> read;
    if (features.reader) read = gathered_rows(features, std::as_const(ids).span());
    share([&](Index first, Index end) {
      MatrixRows matrix(features);
      for (Index i = first; i < end; ++i) {
        const float* row = read.empty() ? matrix(ids[i]) : read.data() + i * features.cols;
        float* to = values_.data() + i * padded_;
        for (Index j = 0; j + 1 < size_; ++j)
          to[j] = static_cast<float>(map.apply(static_cast<double>(row[j]), j));
        to[size_ - 1] = 1.0f;
        if (!rooted) continue;
        const float root = std::sqrt(weights[static_cast<std::size_t>(i)]);
        for (Index j = 0; j < size_; ++j) to[j] *= root;
        labels_[i] *= root;
      }
    });
  }

  Index rows() const { return rows_; }
  Index size() const { return size_; }
  const Buffer<float>& labels() const { return labels_; }
  double label_mean() const { return mean_; }
  double label_deviation() const { return deviation_; }

  /// z_i = <a_i, x> for all rows, and product = sum_i z_i a_i over the first `count`: each row is read once.
  void multiply(const Buffer<double>& x, Index count, Buffer<float>& z, Buffer<double>& product) {
    Buffer<float> rounded(padded_);
    for (Index j = 0; j < size_; ++j) rounded[j] = static_cast<float>(x[j]);
    add_rows(count, product, [&](Index i, const float* row, float* scratch) {
      z[i] = lane_dot(isa_, row, rounded.data(), scratch, padded_);
      return z[i];
    });
  }
  /// product = sum_i factor_i <a_i, x> a_i over the first `count` rows.
  void multiply_weighted(const Buffer<double>& x, const Buffer<float>& factors, Index count,
                         Buffer<double>& product) {
    Buffer<float> rounded(padded_);
    for (Index j = 0; j < size_; ++j) rounded[j] = static_cast<float>(x[j]);
    add_rows(count, product, [&](Index i, const float* row, float* scratch) {
      return i < count ? factors[i] * lane_dot(isa_, row, rounded.data(), scratch, padded_) : 0.0f;
    });
  }
  /// out = sum_i f(i, a_i, scratch) a_i over the first `count` rows; f is called for all.
  template <class F>
  void add_rows(Index count, Buffer<double>& out, const F& f) {
    share([&](Index first, Index end) {
      Buffer<float> scratch(padded_);
      float* sums = of_chunks_.data() + first / statistics_chunk * padded_;
      std::fill_n(sums, padded_, 0.0f);
      for (Index i = first; i < end; ++i) {
        const float* row = values_.data() + i * padded_;
        const float factor = f(i, row, scratch.data());
        if (i < count) lane_add(isa_, factor, row, sums, scratch.data(), padded_);
      }
    });
    std::fill(out.begin(), out.end(), 0.0);
    for (Index chunk = 0; chunk < chunks_; ++chunk)
      for (Index j = 0; j < size_; ++j) out[j] += static_cast<double>(of_chunks_[chunk * padded_ + j]);
  }

 private:
  void standardise_labels() {
    double sum = 0.0, squares = 0.0;
    for (const float y : labels_) sum += static_cast<double>(y);
    mean_ = sum / static_cast<double>(rows_);
    for (const float y : labels_) squares += pinned((y - mean_) * (y - mean_));
    const double variance = squares / static_cast<double>(rows_);
    deviation_ = variance > 0.0 ? std::sqrt(variance) : 1.0;
    for (float& y : labels_) y = static_cast<float>((y - mean_) / deviation_);
  }
  /// work(first, end) for every chunk of rows.
  template <class Work>
  void share(const Work& work) {
    team_.run([&](int part) {
      const Share mine = share_of(chunks_, 1, part, team_.size());
      for (Index chunk = mine.first; chunk < mine.first + mine.count; ++chunk)
        work(chunk * statistics_chunk, (std::min)(rows_, (chunk + 1) * statistics_chunk));
    });
  }

  Isa isa_;
  Index rows_, size_, padded_;
  ThreadTeam team_;
  Index chunks_;
  Buffer<float> values_, labels_, of_chunks_;
  double mean_ = 0.0, deviation_ = 1.0;
};

inline double squares_of(const Buffer<float>& values, Index first, Index end) {
  double sum = 0.0;
  for (Index i = first; i < end; ++i)
    sum += pinned(static_cast<double>(values[i]) * static_cast<double>(values[i]));
  return sum;
}
inline double squares_of(const Buffer<double>& values) {
  double sum = 0.0;
  for (const double v : values) sum += pinned(v * v);
  return sum;
}

/// The pilot of a loss that is not quadratic, see fit_pilot().
inline Pilot fit_newton_pilot(PilotSample& sample, std::span<const float> weights, const PilotLoss& loss,
                              Index rows) {
  const Index size = sample.size();
  Index fitted = rows - rows / 4;  // the others are held out
  constexpr int most_steps = 25;
  constexpr int most_inner = 30;
  const auto weight = [&](Index i) {
    return weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(i)]);
  };
  // Two labels alone: of each there must be some.
  Index high = 0;
  bool two_values = true;
  const float one = sample.labels()[0];
  float other = one;
  for (const float y : sample.labels()) {
    if (y != one && other == one) other = y;
    two_values = two_values && (y == one || y == other);
    high += y == one ? 1 : 0;
  }
  if (two_values && (std::min)(high, rows - high) < 16) return {};
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
  const double untrained = value(z, image, 0.0, fitted, rows);
  double least = untrained, at_start = value(z, image, 0.0, 0, fitted);
  // Half the squared length of x + step * move.
  const auto prior = [&](double step) {
    double sum = 0.0;
    for (Index j = 0; j < size; ++j)
      sum += pinned((x[j] + pinned(step * move[j])) * (x[j] + pinned(step * move[j])));
    return 0.5 * sum;
  };
  int since = 0;
  for (int step = 0; step < most_steps && since < 2; ++step) {
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
      if (fitted == rows || since > 0) break;
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
    if (fitted == rows) {
      best = x;
      continue;
    }
    const double held_out = value(z, image, 0.0, fitted, rows);
    if (held_out < least) {
      since = held_out < 0.999 * least ? 0 : since + 1;
      least = held_out;
      best = x;
    } else {
      ++since;
    }
  }
  Pilot pilot;
  if (!(least < untrained)) return pilot;
  pilot.rows = rows;
  pilot.loss = loss.fingerprint();
  pilot.weights = Buffer<float>(size - 1);
  for (Index j = 0; j + 1 < size; ++j) pilot.weights[j] = static_cast<float>(best[j]);
  pilot.intercept = best[size - 1];
  return pilot;
}

}  // namespace detail

ZIPML_FUNCTION Pilot fit_pilot(const MatrixView& features, std::span<const float> labels,
                               std::span<const float> weights, const RowPlacement& placement,
                               const Standardization& map, const PilotLoss& loss, Index rows, int threads,
                               Isa isa) {
  detail::PilotSample sample(features, labels, weights, placement, map, loss, rows, threads, isa);
  if (!loss.is_quadratic()) return detail::fit_newton_pilot(sample, weights, loss, rows);
  const Index size = sample.size();
  const Index fitted = rows - rows / 4;  // the others are held out
  constexpr int most_iterations = 60;
  constexpr int patience = 2;
  Buffer<double> x(size), direction(size), gradient(size), product(size), best(size);
  Buffer<float> residual = sample.labels(), image(rows);
  sample.add_rows(fitted, gradient, [&](Index i, const float*, float*) { return residual[i]; });
  direction = gradient;
  double length = detail::squares_of(gradient);
  const double untrained = detail::squares_of(residual, fitted, rows);
  double least = untrained;
  int since = 0;
  for (int k = 0; k < most_iterations && since < patience && length > 0.0; ++k) {
    sample.multiply(direction, fitted, image, product);
    const double curvature = detail::squares_of(image, 0, fitted);
    if (!(curvature > 0.0)) break;
    const double step = length / curvature;
    for (Index j = 0; j < size; ++j) x[j] += pinned(step * direction[j]);
    const auto rounded = static_cast<float>(step);
    for (Index i = fitted; i < rows; ++i) residual[i] -= pinned(rounded * image[i]);
    const double held_out = detail::squares_of(residual, fitted, rows);
    if (held_out < least) {
      since = held_out < 0.999 * least ? 0 : since + 1;
      least = held_out;
      best = x;
    } else {
      ++since;
    }
    // A'(r - step A p) without another reading: what that loses in precision, a pilot does not need.
    for (Index j = 0; j < size; ++j) gradient[j] -= pinned(step * product[j]);
    const double now = detail::squares_of(gradient);
    const double turn = now / length;
    length = now;
    for (Index j = 0; j < size; ++j) direction[j] = gradient[j] + pinned(turn * direction[j]);
  }
  Pilot pilot;
  if (least >= untrained) return pilot;
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
      mean_(round_up(d_, detail::lane_count)),
      weights_(mean_.size()),
      centred_(mean_.size()),
      sums_(mean_.size()),
      scratch_(mean_.size()) {
  for (Index j = 0; j < d_; ++j) {
    mean_[j] = static_cast<float>(map.mean[j]);
    weights_[j] = static_cast<float>(static_cast<double>(pilot.weights[j]) / map.scale[j]);
    base_ += pinned(static_cast<double>(weights_[j]) * (static_cast<double>(mean_[j]) - map.mean[j]));
  }
}

ZIPML_FUNCTION void PilotSums::add(const float* row, float label, float weight) {
  for (Index j = 0; j < d_; ++j) centred_[j] = row[j] - mean_[j];
  const float z = detail::lane_dot(isa_, centred_.data(), weights_.data(), scratch_.data(), centred_.size());
  const double margin = static_cast<double>(z) + base_;
  double residual = margin - static_cast<double>(label), value = 0.0;
  if (!loss_.is_quadratic()) {
    const PilotLoss::Slopes slopes = loss_.at(margin, loss_.target(label));
    residual = slopes.first;
    value = slopes.value;
  }
  const double weighted = static_cast<double>(weight) * residual;
  detail::lane_add(isa_, static_cast<float>(weighted), centred_.data(), sums_.data(), scratch_.data(),
                   centred_.size());
  residuals_ += weighted;
  squares_ +=
      loss_.is_quadratic() ? pinned(weighted * residual) : pinned(2.0 * static_cast<double>(weight) * value);
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
