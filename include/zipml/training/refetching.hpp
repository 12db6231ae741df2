#pragma once
/// \file
/// Room training: rows in full precision behind a packed store, fetched where rounding leaves open on which side of the
/// kink of a hinge loss they lie (ZipML 2017, section 4.2). What rounding has taken from a margin is bounded by
/// one of
///
///     l1       sum_j |x_j| reach_j, reach_j the largest |q_ij - a_ij| of the column: d floats for all rows
///     norm     |q_i - a_i| |x| (Cauchy, Schwarz): a float a row
///     sketch   with e_i = q_i - a_i and random signs P / sqrt k: e_i'x is (P e_i)'(P x) up to eps |e_i| |x|, but for a share
///              `failure` of the pairs (Johnson, Lindenstrauss; Achlioptas 2003): k + 1 floats a row
///
/// so that a row is fetched where |1 - y z| is within the bound, and else its decision is that of full precision: always
/// for the first two.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/random.hpp>
#include <zipml/estimators/corrected_loss.hpp>
#include <zipml/io/dataset.hpp>
#include <zipml/storage/sample_store.hpp>

namespace zipml::inline ZIPML_ABI {

/// What a Refetcher bounds the error of a margin by, see above.
enum class RefetchBound { l1, norm, sketch };

/// Named options of a Refetcher.
struct RefetchOptions {
  RefetchBound bound = RefetchBound::norm;
  int sketch_size = 128;   ///< k
  double failure = 0.01;   ///< of the sketch
  std::uint64_t seed = 1;  ///< of its signs
};

/// The least eps for which a sketch of k random signs holds but for a share `failure` of pairs: 4 exp(-k (eps^2 / 4 -
/// eps^3 / 6)) = failure, and 1 where that has no solution (then the norm alone bounds). (Achlioptas 2003, lemmas 3 and 5,
/// for |u + v| and |u - v|.)
double sketch_error(int size, double failure);

/// What is known of the rows of a store beside their codes, and the rows themselves. Building it reads both once, the rows
/// in the order of the store, O(n d) or O(n d k): rows that are not in memory are read one by one. They must outlive it.
/// Throws Error when they are not of the store's shape, for sketches of less than 1 or more than 4096 signs, and a failure
/// rate that is not between 0 and 1.
///
///     const auto store = zipml::quantize<8>(data, zipml::naive);
///     const zipml::Refetcher refetcher(store, data);
///     const auto fit = zipml::Sgd{zipml::HingeLoss{}}.fit(store, {.refetcher = &refetcher});   // fit.refetched
class Refetcher {
 public:
  template <SampleStore Store>
  Refetcher(const Store& store, const Dataset& rows, const RefetchOptions& options = {})
      : Refetcher(store.samples(), store.standardization(), RowPlacement(store.seed(), rows.rows), rows,
                  options) {}
  Refetcher(const SampleView& samples, const Standardization& map, const RowPlacement& placement,
            const Dataset& rows, const RefetchOptions& options);

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  const RefetchOptions& options() const { return options_; }
  /// Bits that the bound takes for each value, beside the store.
  double stored_bits() const;

  /// A model, for the margins of many rows.
  class Model {
   public:
    /// d weights in standardised units, as the margins were made with.
    Model(const Refetcher& from, const float* x, double intercept);
    /// What |margin - e'x - exact margin| of a row is at most, rounding of float sums included.
    double bound(Index row) const;
    /// The estimate of e'x, the margin's error: 0 but for sketches.
    double shift(Index row) const;
    /// The exact margin. O(d).
    double margin(Index row) const;

   private:
    const Refetcher& from_;
    const float* x_;
    double intercept_;
    double fixed_ = 0.0;  // of the bound
    double norm_ = 0.0;
    Buffer<float> sketch_;
  };

 private:
  float sign(int k, Index j) const {
    return (signs_[k * ((cols_ + 31) / 32) + j / 32] >> (j % 32) & 1u) != 0 ? 1.0f : -1.0f;
  }
  void project(const float* values, float* out) const;

  RefetchOptions options_;
  const Dataset* data_;
  Standardization map_;
  RowPlacement placement_;
  Index rows_;
  Index cols_;
  double error_ = 1.0;      // of the sketch, or 1
  Buffer<float> reach_;     // l1: d
  Buffer<float> peak_;      // d: the largest |q_ij|
  Buffer<float> norm_;      // norm, sketch: n
  Buffer<float> sketches_;  // n x k
  Buffer<std::uint32_t> signs_;
};

#if ZIPML_DEFINES

namespace detail {

/// A float that is not below a number >= 0.
inline float float_above(double value) {
  return std::nextafter(static_cast<float>(value), std::numeric_limits<float>::infinity());
}

}  // namespace detail

ZIPML_FUNCTION double sketch_error(int size, double failure) {
  const auto left = [&](double eps) { return 4.0 * std::exp(-size * eps * eps * (0.25 - eps / 6.0)); };
  if (!(left(1.0) <= failure)) return 1.0;
  double low = 0.0, high = 1.0;
  for (int k = 0; k < 60; ++k) (left(0.5 * (low + high)) <= failure ? high : low) = 0.5 * (low + high);
  return high;
}

ZIPML_FUNCTION Refetcher::Refetcher(const SampleView& samples, const Standardization& map,
                                    const RowPlacement& placement, const Dataset& rows,
                                    const RefetchOptions& options)
    : options_(options),
      data_(&rows),
      map_(map),
      placement_(placement),
      rows_(samples.rows),
      cols_(samples.cols),
      peak_(cols_) {
  if (rows.rows != rows_ || rows.cols != cols_)
    throw Error("the rows to fetch are not those of the store",
                std::to_string(rows_) + " x " + std::to_string(cols_),
                std::to_string(rows.rows) + " x " + std::to_string(rows.cols));
  const bool by_sketch = options.bound == RefetchBound::sketch;
  if (by_sketch && (options.sketch_size < 1 || options.sketch_size > 4096))
    throw Error("the size of a sketch is out of range", "1 to 4096", std::to_string(options.sketch_size));
  if (by_sketch && !(options.failure > 0.0 && options.failure < 1.0))
    throw Error("the failure rate of a sketch is out of range", "0 < failure < 1",
                number_text(options.failure));
  const int k = by_sketch ? options.sketch_size : 0;
  if (options.bound == RefetchBound::l1)
    reach_ = Buffer<float>(cols_);
  else
    norm_ = Buffer<float>(rows_);
  if (by_sketch) {
    error_ = sketch_error(k, options.failure);
    sketches_ = Buffer<float>(checked_product(rows_, Index{k}, "the sketches of all rows"));
    const Index words = (cols_ + 31) / 32;
    signs_ = Buffer<std::uint32_t>(words * k);
    const Random random(options.seed);
    for (Index i = 0; i < signs_.size(); ++i)
      signs_[i] = random.word(Stream::sketch, static_cast<std::uint32_t>(i / words),
                              static_cast<std::uint32_t>(i % words), 0);
  }
  Buffer<float> decoded(cols_), error(cols_);
  MatrixRows exact(rows.features());
  for (Index i = 0; i < rows_; ++i) {
    samples.decode_row(i, 0, decoded.data());
    const float* const a = exact(placement_.row_id(i));
    double squares = 0.0;
    for (Index j = 0; j < cols_; ++j) {
      const double e = static_cast<double>(decoded[j]) - map_.apply(static_cast<double>(a[j]), j);
      error[j] = static_cast<float>(e);
      squares += e * e;
      peak_[j] = (std::max)(peak_[j], std::fabs(decoded[j]));
      if (!reach_.empty()) reach_[j] = (std::max)(reach_[j], detail::float_above(std::fabs(e)));
    }
    if (!norm_.empty()) norm_[i] = detail::float_above(std::sqrt(squares));
    if (by_sketch) project(error.data(), sketches_.data() + i * k);
  }
}

ZIPML_FUNCTION double Refetcher::stored_bits() const {
  const double floats = static_cast<double>(reach_.size() + norm_.size() + sketches_.size());
  return 32.0 * floats / (static_cast<double>(rows_) * static_cast<double>((std::max)(cols_, Index{1})));
}

ZIPML_FUNCTION void Refetcher::project(const float* values, float* out) const {
  const double scale = 1.0 / std::sqrt(static_cast<double>(options_.sketch_size));
  for (int k = 0; k < options_.sketch_size; ++k) {
    double sum = 0.0;
    for (Index j = 0; j < cols_; ++j) sum += static_cast<double>(sign(k, j) * values[j]);
    out[k] = static_cast<float>(scale * sum);
  }
}

ZIPML_FUNCTION Refetcher::Model::Model(const Refetcher& from, const float* x, double intercept)
    : from_(from), x_(x), intercept_(intercept) {
  double squares = 0.0, sums = std::fabs(intercept);
  for (Index j = 0; j < from.cols_; ++j) {
    const double magnitude = std::fabs(static_cast<double>(x[j]));
    squares += magnitude * magnitude;
    sums += magnitude * static_cast<double>(from.peak_[j]);
    if (!from.reach_.empty()) fixed_ += magnitude * static_cast<double>(from.reach_[j]);
  }
  norm_ = std::sqrt(squares);
  // Margins are float sums in at least eight lanes: each term meets d / 8 + 8 roundings at most.
  fixed_ += 0x1p-24 * (static_cast<double>(from.cols_) / 8.0 + 16.0) * sums;
  if (from.options_.bound != RefetchBound::sketch) return;
  sketch_ = Buffer<float>(Index{from.options_.sketch_size});
  from.project(x, sketch_.data());
}

ZIPML_FUNCTION double Refetcher::Model::bound(Index row) const {
  if (from_.norm_.empty()) return fixed_;
  return fixed_ + from_.error_ * norm_ * static_cast<double>(from_.norm_[row]);
}

ZIPML_FUNCTION double Refetcher::Model::shift(Index row) const {
  if (from_.error_ == 1.0) return 0.0;  // the norm alone bounds
  const float* const of_row = from_.sketches_.data() + row * sketch_.size();
  double sum = 0.0;
  for (Index k = 0; k < sketch_.size(); ++k)
    sum += static_cast<double>(of_row[k]) * static_cast<double>(sketch_[k]);
  return sum;
}

ZIPML_FUNCTION double Refetcher::Model::margin(Index row) const {
  MatrixRows exact(from_.data_->features());
  const float* const a = exact(from_.placement_.row_id(row));
  double z = intercept_;
  for (Index j = 0; j < from_.cols_; ++j)
    z += from_.map_.apply(static_cast<double>(a[j]), j) * static_cast<double>(x_[j]);
  return z;
}

#endif

/// A loss with one kink, at y z = 1, where refetching decides.
template <class L>
concept KinkedLoss = Loss<L> && L::classifies && requires {
  { L::kink } -> std::convertible_to<double>;
};

namespace detail {

/// The loss of rows whose side of the kink is known. Those that were fetched have exact margins, and nothing to correct.
template <class L>
struct DecidedLoss {
  const L& loss;
  const float* first;   ///< margin of the row that flags begin with
  const char* fetched;  ///< a flag for each row

  double slopes(const float* z, const float* y, const float*, const float* weights, Index n, float* r) const {
    double sum = 0.0;
    for (Index i = 0; i < n; ++i) {
      r[i] = loss.derivative(z[i], y[i]);
      if constexpr (ConvexLoss<L>)
        if (fetched[z - first + i] == 0)
          sum += weight_at(weights, i) *
                 loss.derivatives(static_cast<double>(z[i]), static_cast<double>(y[i])).second;
    }
    return sum;
  }
  double total(const float* z, const float* y, const float*, const float* weights, Index n) const {
    double sum = 0.0;
    for (Index i = 0; i < n; ++i)
      sum += weight_at(weights, i) * loss.value(static_cast<double>(z[i]), static_cast<double>(y[i]));
    return sum;
  }
};

/// A margin as a float, at the kink if it would be on another side of it than `certain`.
inline float on_side_of(double certain, double z, float y, double kink) {
  const auto label = static_cast<double>(y);
  const auto rounded = static_cast<float>(z);
  const bool below = label * certain < kink;
  if ((label * static_cast<double>(rounded) < kink) == below) return rounded;
  const auto edge = static_cast<float>(kink);
  return y * (below ? std::nextafter(edge, 0.0f) : edge);
}

/// Margins of a pass to what their decisions are certain of; flags of the rows that were fetched. Returns their number.
inline Index refetch(const Refetcher& refetcher, const float* x, double intercept, Index first, Index count,
                     double kink, const float* y, float* z, char* fetched) {
  const Refetcher::Model model(refetcher, x, intercept);
  Index number = 0;
  for (Index i = 0; i < count; ++i) {
    auto margin = static_cast<double>(z[i]);
    double certain = margin - model.shift(first + i);
    fetched[i] = !(std::fabs(kink - static_cast<double>(y[i]) * certain) > model.bound(first + i));
    if (fetched[i] != 0) margin = certain = model.margin(first + i);
    z[i] = on_side_of(certain, margin, y[i], kink);
    number += fetched[i];
  }
  return number;
}

}  // namespace detail

}  // namespace zipml::inline ZIPML_ABI
