#pragma once
/// \file
/// Room analysis: one reading of the samples in full precision: value and gradient of a mean loss, or the product of its
/// matrix of second derivatives and a vector, at one point or at several, of rows in memory, in a file, or of any source.

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/centred_rows.hpp>
#include <zipml/base/collective.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/sample_weights.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/base/views.hpp>
#include <zipml/quantization/statistics.hpp>

namespace zipml::inline ZIPML_ABI {

/// n rows of d columns in the units of a standardization, read as often as it is asked for. Margins and products are
/// float32, in sixteen lanes, of values from which the mean was subtracted; sums over 256 rows are float32, all further ones
/// double: the same bits on every instruction set and for any number of threads. Holds a view: the samples must outlive it.
///
///     zipml::FullPass pass(zipml::MatrixRef(a).view(), weights, store.standardization());
///     const double value = pass(x, [&](zipml::Index i, double z) { return zipml::FullPass::Slope{...}; }, gradient);
class FullPass {
 public:
  /// A row's part of a mean: its value, and the derivative in its margin.
  struct Slope {
    double value = 0.0;
    double first = 0.0;
  };

  /// What a reading is asked at a point (x, c) of d + 1 entries, and where its d + 1 derivatives go.
  struct Question {
    std::span<const double> point;
    double* gradient = nullptr;
    double value = 0.0;  ///< is written
  };

  /// `weights` of the rows are of mean 1, or empty; `units` belong to the user's values, that is with the offsets which the
  /// matrix has lost. With `workers` each reads a share of the rows, and an exchange of some 64 (d + 2) doubles a question brings
  /// all of them together: the same bits for any number. Throws Error for another number of columns, and for weights of another
  /// number.
  FullPass(const MatrixView& samples, std::span<const float> weights, const Standardization& units,
           int threads = 1, Isa isa = active_isa(), Collective* workers = nullptr);

  Index rows() const { return samples_.rows; }
  Index cols() const { return samples_.cols; }
  /// How often the samples were read.
  int readings() const { return readings_; }

  /// One reading: with margins z_i = a_i'x + c of the point (x, c), d + 1 entries, and {value_i, r_i} = slope(i, z_i), returns
  /// 1/n sum_i w_i value_i and writes 1/n sum_i w_i r_i (a_i, 1), d + 1 entries. O(n d).
  template <class SlopeOf>
  double operator()(std::span<const double> point, const SlopeOf& slope, double* gradient) {
    Question question{point, gradient};
    read<1>({&question, 1}, [&](Index i, const double* z, Slope* out) { *out = slope(i, *z); });
    return question.value;
  }

  /// One reading for k points: the same of each, with slope(q, i, z) for question q, and the bits that it has alone. A row is
  /// fetched from memory once for all of them. O(n d k), and some 512 (d + 2) k bytes.
  ///
  ///     pass.answer(questions, [&](std::size_t q, zipml::Index i, double z) { return zipml::FullPass::Slope{...}; });
  template <class SlopeOf>
  void answer(std::span<Question> questions, const SlopeOf& slope) {
    if (questions.size() == 1)
      read<1>(questions, [&](Index i, const double* z, Slope* out) { *out = slope(std::size_t{0}, i, *z); });
    else
      read<0>(questions, [&](Index i, const double* z, Slope* out) {
        for (std::size_t q = 0; q < questions.size(); ++q) out[q] = slope(q, i, z[q]);
      });
  }

  /// The same where what a row brings depends on its margins at all points (SoftmaxLoss): slopes(i, z, out) makes k slopes of k
  /// margins; the values add up to that of the mean loss.
  template <class SlopesOf>
  void answer_together(std::span<Question> questions, const SlopesOf& slopes) {
    if (questions.size() == 1)
      read<1>(questions, slopes);
    else
      read<0>(questions, slopes);
  }

 private:
  /// What a thread works with.
  struct Part {
    Buffer<float> sums, rows, margins;
    Buffer<double> of_row;
    List<Slope> slopes;
  };
  static constexpr Index block_rows = 256;
  static constexpr Index most_chunks = 64;

  /// One reading for `fixed` questions, 0: for any number. One of one question keeps what a row has in registers.
  template <Index fixed, class SlopesOf>
  void read(std::span<Question> questions, const SlopesOf& slopes);

  /// The point as the rows see it: weights over scales, and what margins have besides.
  double fold(std::span<const double> point, float* folded) const;
  /// Rows [first, first + count) of a block, side by side or where they are.
  const float* block(Index first, Index count, Part& part, Index& stride) const;
  /// From sums over chunks, d of r (a - mean), that of r, and that of the values.
  double finish(std::span<const double> sums, double* gradient) const;

  MatrixView samples_;
  std::span<const float> weights_;
  Isa isa_;
  ThreadTeam team_;
  Collective* workers_;
  Index chunks_;
  Buffer<float> mean_;            // padded
  Buffer<double> scale_, shift_;  // shift: what mean_ has lost
  List<Part> parts_;
  int readings_ = 0;
};

template <Index fixed, class SlopesOf>
void FullPass::read(std::span<Question> questions, const SlopesOf& slopes) {
  const Index n = rows(), d = cols(), entries = d + 2, padded = mean_.size();
  const Index count_of = fixed > 0 ? fixed : static_cast<Index>(questions.size());
  Buffer<float> folded(count_of * padded);
  const Index of_one = chunks_ * entries;  // sums of a question
  Buffer<double> bases(count_of), sums(count_of * of_one);
  for (Index q = 0; q < count_of; ++q)
    bases[q] = fold(questions[static_cast<std::size_t>(q)].point, folded.data() + q * padded);
  for (Part& part : parts_) {
    if (static_cast<Index>(part.slopes.size()) >= count_of) continue;
    part.sums = Buffer<float>(count_of * padded);
    part.margins = Buffer<float>(count_of * detail::rows_at_once);
    part.of_row = Buffer<double>(count_of);
    part.slopes.resize(questions.size());
  }
  team_.run([&](int thread) {
    Part& part = parts_[static_cast<std::size_t>(thread)];
    constexpr Index places = fixed > 0 ? fixed : 1;
    float own_margins[places * detail::rows_at_once];
    double own_row[places];
    Slope own_slopes[places];
    float* const z = fixed > 0 ? own_margins : part.margins.data();
    double* const of_row = fixed > 0 ? own_row : part.of_row.data();
    Slope* const of_slopes = fixed > 0 ? own_slopes : part.slopes.data();
    const Share mine = share_of_worker(chunks_, 1, workers_);
    for (Index chunk = mine.first + thread; chunk < mine.first + mine.count; chunk += team_.size()) {
      double* const of_chunk = sums.data() + chunk * entries;  // of the first question
      const Index end = n * (chunk + 1) / chunks_;
      for (Index first = n * chunk / chunks_; first < end; first += block_rows) {
        const Index count = (std::min)(block_rows, end - first);
        Index stride = 0;
        const float* const values = block(first, count, part, stride);
        std::fill_n(part.sums.data(), count_of * padded, 0.0f);
        for (Index at = 0; at < count; at += detail::rows_at_once) {
          // The last rows are some of them again, which count nothing.
          const Index there = (std::min)(detail::rows_at_once, count - at);
          const float* rows[detail::rows_at_once];
          for (Index k = 0; k < detail::rows_at_once; ++k)
            rows[k] = values + (at + (k < there ? k : 0)) * stride;
          // Margins, and then what they are multiplied with.
          for (Index q = 0; q < count_of; ++q)
            detail::centred_margins(isa_, rows, d, mean_.data(), folded.data() + q * padded,
                                    z + q * detail::rows_at_once);
          for (Index k = 0; k < there; ++k) {
            const Index i = first + at + k;
            for (Index q = 0; q < count_of; ++q)
              of_row[q] = static_cast<double>(z[q * detail::rows_at_once + k]) + bases[q];
            slopes(i, static_cast<const double*>(of_row), of_slopes);
            const double weight =
                weights_.empty() ? 1.0 : static_cast<double>(weights_[static_cast<std::size_t>(i)]);
            for (Index q = 0; q < count_of; ++q) {
              const Slope of = of_slopes[q];
              double* const out = of_chunk + q * of_one;
              float& r = z[q * detail::rows_at_once + k];
              r = static_cast<float>(weight * of.first);
              out[d] += static_cast<double>(r);
              out[d + 1] += pinned(weight * of.value);
            }
          }
          for (Index k = there; k < detail::rows_at_once; ++k)
            for (Index q = 0; q < count_of; ++q) z[q * detail::rows_at_once + k] = 0.0f;
          for (Index q = 0; q < count_of; ++q)
            detail::add_centred(isa_, rows, d, mean_.data(), z + q * detail::rows_at_once,
                                part.sums.data() + q * padded);
        }
        for (Index q = 0; q < count_of; ++q) {
          double* const out = of_chunk + q * of_one;
          for (Index j = 0; j < d; ++j) out[j] += static_cast<double>(part.sums[q * padded + j]);
        }
      }
    }
  });
  ++readings_;
  if (workers_ != nullptr) workers_->sum(sums.span());  // 0 where others have read
  for (std::size_t q = 0; q < questions.size(); ++q)
    questions[q].value =
        finish({sums.data() + static_cast<Index>(q) * of_one, static_cast<std::size_t>(of_one)},
               questions[q].gradient);
}

#if ZIPML_DEFINES

ZIPML_FUNCTION FullPass::FullPass(const MatrixView& samples, std::span<const float> weights,
                                  const Standardization& units, int threads, Isa isa, Collective* workers)
    : samples_(samples),
      weights_(weights),
      isa_(isa),
      team_(thread_count(threads)),
      workers_(workers),
      chunks_(std::clamp<Index>(samples.rows / block_rows, 1, most_chunks)),
      mean_(round_up(samples.cols, detail::centred_lanes)),
      scale_(samples.cols),
      shift_(samples.cols),
      parts_(static_cast<std::size_t>(team_.size())) {
  if (units.cols() != samples.cols)
    throw Error("the samples have another number of columns than those of the store",
                std::to_string(units.cols()), std::to_string(samples.cols));
  if (!weights.empty() && static_cast<Index>(weights.size()) != samples.rows)
    throw Error("samples and weights differ in number", std::to_string(samples.rows),
                std::to_string(weights.size()));
  for (Index j = 0; j < samples.cols; ++j) {
    const double mean = units.user_mean(j) - samples.offset(j);
    mean_[j] = static_cast<float>(mean);
    shift_[j] = static_cast<double>(mean_[j]) - mean;
    scale_[j] = units.scale[j];
  }
  for (Part& part : parts_)
    if (!samples.has_rows()) part.rows = Buffer<float>(block_rows * samples.cols);
}

ZIPML_FUNCTION double FullPass::fold(std::span<const double> point, float* folded) const {
  double base = point[static_cast<std::size_t>(cols())];
  for (Index j = 0; j < cols(); ++j) {
    folded[j] = static_cast<float>(point[static_cast<std::size_t>(j)] / scale_[j]);
    base += pinned(static_cast<double>(folded[j]) * shift_[j]);
  }
  return base;
}

ZIPML_FUNCTION const float* FullPass::block(Index first, Index count, Part& part, Index& stride) const {
  if (samples_.has_rows()) {
    stride = samples_.stride;
    return samples_.row(first);
  }
  stride = cols();
  samples_.read(first, count, part.rows.data());
  return part.rows.data();
}

ZIPML_FUNCTION double FullPass::finish(std::span<const double> sums, double* gradient) const {
  const Index d = cols(), entries = d + 2;
  Buffer<double> total(entries);
  for (Index at = 0; at < static_cast<Index>(sums.size()); at += entries)
    for (Index j = 0; j < entries; ++j) total[j] += sums[static_cast<std::size_t>(at + j)];
  const auto n = static_cast<double>(rows());
  for (Index j = 0; j < d; ++j) gradient[j] = (total[j] + pinned(shift_[j] * total[d])) / (n * scale_[j]);
  gradient[d] = total[d] / n;
  return total[d + 1] / n;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
