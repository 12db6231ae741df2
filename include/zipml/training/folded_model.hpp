#pragma once
/// \file
/// Room training: models as kernels multiply them with codes. Affine levels a_ij = o_j + s_j t_ij make
///     <a_i, x> = <o, x> + <t_i, u>,   u = s x,
/// so that offsets and steps are folded into the model once a batch. For integer kernels u is rounded to
/// Q(u) = scale * int8, and x becomes x^ = Q(u) / s *everywhere*, offsets included: the margin is that of one
/// rounded model.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include <zipml/base/vector_math.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/quantization/quantized_vector.hpp>
#include <zipml/training/pass_team.hpp>

namespace zipml::inline ZIPML_ABI {

/// The random bits with which several models' vectors of one place are rounded, drawn once.
class SharedHalfWords {
 public:
  /// Shares nothing.
  SharedHalfWords() = default;
  /// For vectors of up to n entries.
  explicit SharedHalfWords(Index n) : words_(n) {}

  /// The bits of the n entries of a vector, as VectorRounding takes them: drawn where the place is another than that of
  /// the call before, or n larger.
  const std::uint16_t* of(const KernelTable& kernels, const VectorRounding& how, Index n) {
    if (words_.empty() || how.nearest) return nullptr;
    if (n > count_ || !(how.place == place_)) {
      kernels.half_words(how.random, how.place, n, words_.data());
      place_ = how.place;
      count_ = n;
    }
    return words_.data();
  }

 private:
  Buffer<std::uint16_t> words_;
  RandomPlace place_{};
  Index count_ = 0;
};

/// How folded models are rounded to integers, if they are.
struct FoldedRounding {
  bool integers = false;
  int bits = 8;            ///< 1 to 8
  std::uint32_t draw = 0;  ///< of the random numbers, Stream::model
  int most_levels = 127;   ///< that the kernels' budget allows, see table_model_levels
};

/// u, or Q(u), of the models of a batch, and what comes with it. All vectors are padded to model_padding.
/// Models are rounded with the same random numbers, so that each trains to the bits that it would have alone.
class FoldedModels {
 public:
  FoldedModels() = default;
  /// For m models of d columns with these steps and offsets; `scales_rows` asks for the sum of u as well.
  FoldedModels(const float* step, const float* offset, Index d, int models, const FoldedRounding& how,
               bool scales_rows);

  /// Folds x, the model of index m, and returns <o, x>, or <o, x^>. `batch` is the row of the random numbers;
  /// `needs_rounded` says that rounded() will be asked for. O(d).
  double fold(const KernelTable& kernels, const Random& random, std::uint64_t batch, int m, const float* x,
              bool needs_rounded, PassTeam& team);

  const float* step() const { return step_.data(); }
  const float* offset() const { return offset_.data(); }
  ModelBlock<const float> values() const { return {folded_.data(), padded_, models_}; }      ///< u
  ModelBlock<const std::int8_t> codes() const { return {codes_.data(), padded_, models_}; }  ///< Q(u) / scale
  float scale(int m) const { return scale_[m]; }
  float sum(int m) const { return sum_[m]; }  ///< of u, or Q(u), where rows are scaled
  const float* rounded(int m) const { return rounded_.data() + m * padded_; }  ///< x^

 private:
  /// 0 for a column without steps, or with steps so small that float32 cannot divide by them.
  static float finite_ratio(float a, float b) {
    const float ratio = b > 0.0f ? a / b : 0.0f;
    return std::fabs(ratio) <= (std::numeric_limits<float>::max)() ? ratio : 0.0f;
  }

  FoldedRounding how_;
  Index d_ = 0;
  int models_ = 1;
  Index padded_ = 0;
  bool scales_rows_ = false;
  Buffer<float> step_;
  Buffer<float> offset_;
  Buffer<float> folded_;       // m x padded
  Buffer<std::int8_t> codes_;  // m x padded
  Buffer<float> rounded_;      // m x padded
  Buffer<float> inverse_step_;
  Buffer<float> ratio_;  // o_j / s_j
  List<Index> constant_columns_;
  Buffer<float> scale_;  // m
  Buffer<float> sum_;    // m
  SharedHalfWords half_words_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION FoldedModels::FoldedModels(const float* step, const float* offset, Index d, int models,
                                          const FoldedRounding& how, bool scales_rows)
    : how_(how),
      d_(d),
      models_(models),
      padded_(padded(d)),
      scales_rows_(scales_rows),
      step_(padded_),
      offset_(padded_),
      folded_(padded_ * models),
      scale_(models),
      sum_(models) {
  std::copy_n(step, d, step_.data());
  std::copy_n(offset, d, offset_.data());
  if (!how.integers) return;
  codes_ = Buffer<std::int8_t>(padded_ * models);
  rounded_ = Buffer<float>(padded_ * models);
  if (models > 1) half_words_ = SharedHalfWords(d);
  inverse_step_ = Buffer<float>(padded_);
  ratio_ = Buffer<float>(padded_);
  for (Index j = 0; j < d; ++j) {
    inverse_step_[j] = finite_ratio(1.0f, step_[j]);
    ratio_[j] = finite_ratio(offset_[j], step_[j]);
    if (step_[j] == 0.0f) constant_columns_.push_back(j);
  }
}

ZIPML_FUNCTION double FoldedModels::fold(const KernelTable& kernels, const Random& random,
                                         std::uint64_t batch, int m, const float* x, bool needs_rounded,
                                         PassTeam& team) {
  float* folded = folded_.data() + m * padded_;
  team.step_ahead();
  const float largest = kernels.fold(step_.data(), x, folded, padded_);
  team.step_ahead();
  if (!how_.integers) {
    if (scales_rows_) sum_[m] = static_cast<float>(detail::sum(folded, d_));
    return kernels.dot(offset_.data(), x, padded_);
  }
  std::int8_t* codes = codes_.data() + m * padded_;
  float* rounded = rounded_.data() + m * padded_;
  if (!(largest <= (std::numeric_limits<float>::max)())) {  // diverged: so do the margins
    std::fill_n(codes, padded_, std::int8_t{0});
    return std::numeric_limits<double>::quiet_NaN();
  }
  const int levels = (std::min)(symmetric_levels(how_.bits), how_.most_levels);
  const float scale = scale_[m] = largest / static_cast<float>(levels);
  if (scale > 0.0f) {
    VectorRounding rounding{random, {Stream::model, batch, how_.draw, 0}, scale, levels, how_.bits == 1};
    rounding.half_words = half_words_.of(kernels, rounding, d_);
    kernels.round_symmetric(folded, d_, rounding, codes);
  } else {
    std::fill_n(codes, padded_, std::int8_t{0});
  }
  team.step_ahead();
  // <o, x^> = scale * sum_j (o_j / s_j) code_j; a column without steps keeps its exact weight.
  double base = kernels.unfold(codes, scale, ratio_.data(), inverse_step_.data(),
                               needs_rounded ? rounded : nullptr, padded_);
  team.step_ahead();
  for (const Index j : constant_columns_) {
    base += pinned(static_cast<double>(offset_[j]) * static_cast<double>(x[j]));
    rounded[j] = x[j];
  }
  if (scales_rows_) {
    std::int64_t total = 0;
    for (Index j = 0; j < d_; ++j) total += codes[j];
    sum_[m] = static_cast<float>(static_cast<double>(scale) * static_cast<double>(total));
  }
  return base;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
