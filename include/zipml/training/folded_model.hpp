#pragma once
/// \file
/// Room training: a model as kernels multiply it with codes. Affine levels a_ij = o_j + s_j t_ij make
///     <a_i, x> = <o, x> + <t_i, u>,   u = s x,
/// so that offsets and steps are folded into the model once a batch. For integer kernels u is rounded to
/// Q(u) = scale * int8, and x becomes x^ = Q(u) / s *everywhere*, offsets included: the margin is that of one
/// rounded model.

#include <cmath>
#include <cstdint>
#include <limits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/quantization/quantized_vector.hpp>
#include <zipml/training/pass_team.hpp>

namespace zipml::inline ZIPML_ABI {

/// How a folded model is rounded to integers, if it is.
struct FoldedRounding {
  bool integers = false;
  int bits = 8;            ///< 1 to 8
  std::uint32_t draw = 0;  ///< of the random numbers, Stream::model
  int most_levels = 127;   ///< that the kernels' budget allows, see table_model_levels
};

/// u, or Q(u), of the model of a batch, and what comes with it. All vectors are padded to model_padding.
class FoldedModel {
 public:
  FoldedModel() = default;
  /// For d columns with these steps and offsets; `scales_rows` asks for the sum of u as well.
  FoldedModel(const float* step, const float* offset, Index d, const FoldedRounding& how, bool scales_rows)
      : how_(how),
        d_(d),
        scales_rows_(scales_rows),
        step_(padded(d)),
        offset_(padded(d)),
        folded_(padded(d)) {
    std::copy_n(step, d, step_.data());
    std::copy_n(offset, d, offset_.data());
    if (!how.integers) return;
    codes_ = Buffer<std::int8_t>(padded(d));
    rounded_ = Buffer<float>(padded(d));
    inverse_step_ = Buffer<float>(padded(d));
    ratio_ = Buffer<float>(padded(d));
    for (Index j = 0; j < d; ++j) {
      inverse_step_[j] = finite_ratio(1.0f, step_[j]);
      ratio_[j] = finite_ratio(offset_[j], step_[j]);
      if (step_[j] == 0.0f) constant_columns_.push_back(j);
    }
  }

  /// Folds x and returns <o, x>, or <o, x^>. `batch` is the row of the random numbers; `needs_rounded` says
  /// that rounded() will be asked for. O(d).
  double fold(const KernelTable& kernels, const Random& random, std::uint64_t batch, const float* x,
              bool needs_rounded, PassTeam& team) {
    const Index size = step_.size();
    team.step_ahead();
    const float largest = kernels.fold(step_.data(), x, folded_.data(), size);
    team.step_ahead();
    if (!how_.integers) {
      if (scales_rows_) sum_ = static_cast<float>(detail::sum(folded_.data(), d_));
      return kernels.dot(offset_.data(), x, size);
    }
    if (!(largest <= std::numeric_limits<float>::max())) {  // has run away: so do the margins
      std::fill(codes_.begin(), codes_.end(), std::int8_t{0});
      return std::numeric_limits<double>::quiet_NaN();
    }
    const int levels = std::min(symmetric_levels(how_.bits), how_.most_levels);
    scale_ = largest / static_cast<float>(levels);
    if (scale_ > 0.0f) {
      const VectorRounding rounding{
          random, {Stream::model, batch, how_.draw, 0}, scale_, levels, how_.bits == 1};
      kernels.round_symmetric(folded_.data(), d_, rounding, codes_.data());
    } else {
      std::fill(codes_.begin(), codes_.end(), std::int8_t{0});
    }
    team.step_ahead();
    // <o, x^> = scale * sum_j (o_j / s_j) code_j; a column without steps keeps its exact weight.
    double base = kernels.unfold(codes_.data(), scale_, ratio_.data(), inverse_step_.data(),
                                 needs_rounded ? rounded_.data() : nullptr, size);
    team.step_ahead();
    for (const Index j : constant_columns_) {
      base += pinned(static_cast<double>(offset_[j]) * static_cast<double>(x[j]));
      rounded_[j] = x[j];
    }
    if (scales_rows_) {
      std::int64_t codes = 0;
      for (Index j = 0; j < d_; ++j) codes += codes_[j];
      sum_ = static_cast<float>(static_cast<double>(scale_) * static_cast<double>(codes));
    }
    return base;
  }

  const float* step() const { return step_.data(); }
  const float* offset() const { return offset_.data(); }
  const float* values() const { return folded_.data(); }      ///< u
  const std::int8_t* codes() const { return codes_.data(); }  ///< Q(u) / scale
  float scale() const { return scale_; }
  float sum() const { return sum_; }                        ///< of u, or Q(u), where rows are scaled
  const float* rounded() const { return rounded_.data(); }  ///< x^

 private:
  /// 0 for a column without steps, or with steps so small that float32 cannot divide by them.
  static float finite_ratio(float a, float b) {
    const float ratio = b > 0.0f ? a / b : 0.0f;
    return std::fabs(ratio) <= std::numeric_limits<float>::max() ? ratio : 0.0f;
  }

  FoldedRounding how_;
  Index d_ = 0;
  bool scales_rows_ = false;
  Buffer<float> step_;
  Buffer<float> offset_;
  Buffer<float> folded_;
  Buffer<std::int8_t> codes_;
  Buffer<float> rounded_;
  Buffer<float> inverse_step_;
  Buffer<float> ratio_;  // o_j / s_j
  List<Index> constant_columns_;
  float scale_ = 0.0f;
  float sum_ = 0.0f;
};

}  // namespace zipml::inline ZIPML_ABI
