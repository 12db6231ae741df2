#pragma once
/// \file
/// Room training: classic SGD (ZipML 2017, section 2), batches of one row with a model, gradients and
/// residuals in float32. The gradient is a multiple of the row (of one draw or two), and is never stored: the
/// step along it is taken when the next row is there, and the next margin formed in the same reading of the
/// model. Rows wait for each other, so that at a few hundred columns a row costs what lies between its margin
/// and the next: no batch, no fold, no pass.
///
/// The same estimators as anywhere, from their tables of pairs (estimators/estimators.hpp):
///     x -= s (sum_pairs w l'(q_margin'x + c, y) q_sample - correction * x)

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/estimators/estimator.hpp>
#include <zipml/kernels/row_decoder.hpp>
#include <zipml/storage/outliers.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Whether an estimator multiplies the margin of a draw, or its values.
template <class Estimator>
constexpr bool is_margin(std::size_t draw) {
  for (const auto& pair : Estimator::pairs)
    if (static_cast<std::size_t>(pair.margin) == draw) return true;
  return false;
}
template <class Estimator>
constexpr bool is_sample(std::size_t draw) {
  for (const auto& pair : Estimator::pairs)
    if (static_cast<std::size_t>(pair.sample) == draw) return true;
  return false;
}
template <class Estimator>
constexpr std::size_t first_sample() {
  std::size_t draw = 0;
  while (!is_sample<Estimator>(draw)) ++draw;
  return draw;
}
template <class Estimator>
constexpr std::size_t last_sample(std::size_t draws) {
  std::size_t draw = draws - 1;
  while (!is_sample<Estimator>(draw)) --draw;
  return draw;
}

}  // namespace detail

/// Moves over rows of a store, residual by residual, step by step.
template <BilinearEstimator Estimator>
class SingleRows {
  static constexpr auto draws = static_cast<std::size_t>(Estimator::draws);
  static constexpr std::size_t first_sample = detail::first_sample<Estimator>();
  static constexpr std::size_t last_sample = detail::last_sample<Estimator>(draws);
  static constexpr bool is_margin(std::size_t draw) { return detail::is_margin<Estimator>(draw); }
  static constexpr bool is_sample(std::size_t draw) { return detail::is_sample<Estimator>(draw); }

 public:
  /// `labels` are mapped for the loss, one for each row; `correction` is empty or has d entries, for a loss
  /// of slope 1, and is copied. The others must outlive this.
  SingleRows(const KernelTable& kernels, const SampleView& samples, const float* labels,
             const Buffer<float>& correction)
      : kernels_(kernels),
        samples_(samples),
        labels_(labels),
        reader_(samples),
        padded_(padded(samples.cols)),
        correction_(correction.empty() ? 0 : padded_),
        values_(2 * static_cast<Index>(draws) * padded_) {
    std::copy(correction.begin(), correction.end(), correction_.begin());
  }

  /// The rows to come: [first, first + count). The memory of `next_count` rows from `next` on, where the run
  /// after that begins, is prefetched meanwhile.
  void begin_run(Index first, Index count, Index next, Index next_count) {
    samples_.outliers.find(first, count, outliers_);
    first_ = first;
    outlier_ = 0;
    constexpr Index most = 16384;  // the hardware prefetcher covers the rest
    if (next_count == 0) return;
    const auto memory = samples_.memory_of(next, next_count);
    const auto bytes = std::min<Index>(static_cast<Index>(memory.size()), most);
    const char* begin = reinterpret_cast<const char*>(memory.data());
    ahead_ = {begin, begin + bytes};
    lines_of_a_row_ = bytes / (64 * count) + 1;
    samples_.outliers.prefetch(next, next_count);
    for (Index i = 0; i < next_count; i += 16) __builtin_prefetch(labels_ + next + i, 0, 3);
  }

  /// Takes the step that is due, moves to row i (the rows of a run in their order) and returns the sum of its
  /// residuals, the gradient of the intercept c. x is padded to model_padding. O(d).
  template <class L>
  float residual(Index i, const L& loss, float* x, float c) {
    ahead_.touch(lines_of_a_row_);
    std::array<const float*, draws> rows{};
    slot_ ^= 1;
    for (std::size_t draw = 0; draw < draws; ++draw)
      if (is_margin(draw) || is_sample(draw)) rows[draw] = read(i, draw);
    add_outliers(i);
    std::array<float, draws> z{};
    for (std::size_t draw = 0; draw < draws; ++draw)
      if (is_margin(draw)) z[draw] = margin(rows[draw], x);
    rows_ = rows;
    factors_ = {};
    largest_ = 0.0f;
    float sum = 0.0f;
    const float weight = samples_.weights != nullptr ? samples_.weights[i] : 1.0f;
    for (const auto& pair : Estimator::pairs) {
      const float r =
          weight * pair.weight * loss.derivative(z[static_cast<std::size_t>(pair.margin)] + c, labels_[i]);
      factors_[static_cast<std::size_t>(pair.sample)] += r;
      largest_ = std::fabs(r) > largest_ ? std::fabs(r) : largest_;
      sum += r;
    }
    return sum;
  }
  /// The largest magnitude of these residuals, which may cancel in their sum.
  float largest() const { return largest_; }

  /// The step x -= s * g along the gradient of the row, due from now on.
  void descend(float s) {
    for (float& factor : factors_) factor *= s;
    step_ = s;
    due_ = true;
  }
  /// Applies the pending step; x is then current.
  void settle(float* x) {
    if (!std::exchange(due_, false)) return;
    descend_but_last(x);
    kernels_.descend_row(last_step(), x, padded_);
  }

 private:
  const float* read(Index i, std::size_t draw) {
    return reader_.read(kernels_, i, static_cast<int>(draw), values_of(draw));
  }
  float* values_of(std::size_t draw) {
    return values_.data() + (static_cast<Index>(draws) * slot_ + static_cast<Index>(draw)) * padded_;
  }
  void add_outliers(Index i) {
    for (; outlier_ < outliers_.size() && first_ + outliers_[outlier_].row <= i; ++outlier_)
      for (std::size_t draw = 0; draw < draws; ++draw)
        values_of(draw)[outliers_[outlier_].column] += outliers_[outlier_].correction;
  }

  float margin(const float* row, float* x) {
    if (std::exchange(due_, false)) {
      descend_but_last(x);
      return kernels_.descend_to_row(last_step(), x, row, padded_);
    }
    float z;
    kernels_.margins(DenseRows{row, padded_, padded_, 1}, {x, padded_}, {&z});
    return z;
  }
  /// The correction is that of the model at which the gradient was taken: it goes with the first sample.
  RowStep step_of(std::size_t draw, bool first) const {
    return {rows_[draw], factors_[draw], first ? correction_.data() : nullptr, step_};
  }
  RowStep last_step() const { return step_of(last_sample, first_sample == last_sample); }
  void descend_but_last(float* x) {
    for (std::size_t draw = 0; draw < last_sample; ++draw)
      if (is_sample(draw)) kernels_.descend_row(step_of(draw, draw == first_sample), x, padded_);
  }

  const KernelTable& kernels_;
  const SampleView& samples_;
  const float* labels_;
  RowDecoder reader_;
  Index padded_;
  Buffer<float> correction_;
  Buffer<float> values_;  // [slot][draw][padded]: of this row and of the last one
  Index slot_ = 0;
  List<Outlier> outliers_;  // of the run
  Index first_ = 0;
  std::size_t outlier_ = 0;
  Ahead ahead_;
  Index lines_of_a_row_ = 0;

  std::array<const float*, draws> rows_{};  // of each draw: the row of the step that is due
  std::array<float, draws> factors_{};
  float step_ = 0.0f;
  float largest_ = 0.0f;
  bool due_ = false;
};

}  // namespace zipml::inline ZIPML_ABI
