#pragma once
/// \file
/// Room packing: the rows that a pilot is fitted to (packing/pilot_fit.hpp), and when fitting them has done enough.

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/lane_math.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/pilot_loss.hpp>
#include <zipml/quantization/statistics.hpp>
#include <zipml/storage/targets.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// When iterations end: what they are worth on rows that are held out, less being better. They go on until two in a row
/// have gained less than a thousandth.
class HeldOut {
 public:
  explicit HeldOut(double untrained) : untrained_(untrained), least_(untrained) {}

  bool gains() const { return since_ < 2; }
  /// Whether an iteration is the best so far.
  bool is_better(double value) {
    const bool better = value < least_;
    since_ = better && value < 0.999 * least_ ? 0 : since_ + 1;
    if (better) least_ = value;
    return better;
  }
  /// Whether the last iteration gained much.
  bool gained_at_last() const { return since_ == 0; }
  /// Whether any is better than none.
  bool has_gained() const { return least_ < untrained_; }

 private:
  double untrained_, least_;
  int since_ = 0;
};

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

}  // namespace zipml::inline ZIPML_ABI::detail
