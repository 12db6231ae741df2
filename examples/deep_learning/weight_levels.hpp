#pragma once
// The levels that weights are rounded to, and how: evenly spaced as in XNOR-Net (Rastegari, Ordonez, Redmon, Farhadi 2016)
// and its forms of more levels, or where the variance of stochastic rounding (ZipML 2017, section 3) or the error of nearest
// rounding is least.

#include <Eigen/Core>
#include <cstdint>
#include <span>
#include <string>
#include <vector>
#include <zipml/base/random.hpp>

namespace deep {

using zipml::Index;
using Weights = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Where levels lie, and which rounding leads to them.
enum class Spacing {
  none,                ///< full precision
  sign,                ///< -a and a, a the mean magnitude (XNOR-Net): the two levels of least squared error
  even_largest,        ///< L evenly spaced between -a and a, a the largest magnitude; nearest
  even_best,           ///< L evenly spaced between -a and a, a of least squared error; nearest
  optimal_stochastic,  ///< L levels of least variance on clipped weights; stochastic, drawn anew in each step
  optimal_nearest,     ///< L levels of least variance on clipped weights; nearest
  lloyd_max,           ///< L levels of least squared error (Lloyd 1957, Max 1960); nearest
};

struct Quantizer {
  Spacing spacing = Spacing::none;
  int levels = 0;
  bool by_channel = false;  ///< levels of their own for each output

  bool is_stochastic() const { return spacing == Spacing::optimal_stochastic; }
  /// Whether levels leave the extreme weights out, as far as that pays.
  bool clips() const { return spacing == Spacing::optimal_stochastic || spacing == Spacing::optimal_nearest; }
  /// log2 of the levels, or 32.
  double bits() const;
  /// "lloyd-max", "even, best scale", ...
  std::string name() const;
  bool operator==(const Quantizer&) const = default;
};

/// Every spacing that has a name, without `none`.
const std::vector<Spacing>& spacings();
std::string name_of(Spacing spacing);
/// Whether it has this many levels: 2 of `sign`, 2 to 16 of the others.
bool has_levels(Spacing spacing, int levels);

/// At most 16 increasing levels offset + step * entry with entries in a byte: what the integer kernels of the library read, so
/// that a trained net has the same weights there.
struct LevelTable {
  float offset = 0.0f, step = 0.0f;
  std::vector<std::uint8_t> entries;
  std::vector<float> values;

  /// On 254 steps between the lowest and the highest of increasing levels, an even number: zero stays zero between -a and a.
  static LevelTable of(std::span<const double> levels);
  /// `count` evenly spaced between -most and most.
  static LevelTable even(int count, double most);
  /// The code of the nearest level, halves up.
  int nearest(float value) const;
  /// Up with the probability that makes the mean right, between the lowest and the highest level.
  int stochastic(float value, std::uint32_t word) const;
};

/// The share of the largest magnitudes that fitted levels clip, by the error of their rounding: 0 when levels reach to the
/// extreme weights.
double best_clipping(std::span<const float> weights, const Quantizer& quantizer);

/// The table of a quantizer for weights. Throws zipml::Error for weights that are not finite.
LevelTable fit_levels(std::span<const float> weights, const Quantizer& quantizer, double clipped = 0.0);

/// A layer's quantizer: its tables, and the codes of its weights.
class WeightLevels {
 public:
  WeightLevels(const Quantizer& quantizer, std::uint64_t seed, std::uint32_t layer)
      : quantizer_(quantizer), random_(seed), layer_(layer) {}

  /// Fits the tables; `anew`: also what is clipped, which changes slowly.
  void fit(const Weights& value, bool anew);
  /// used = the levels that `value` is rounded to; `step` tells draws apart.
  void round(const Weights& value, std::uint64_t step, Weights& used);

  const std::vector<LevelTable>& tables() const { return tables_; }
  /// Of the last rounding, row after row.
  const std::vector<std::uint8_t>& codes() const { return codes_; }
  const Quantizer& quantizer() const { return quantizer_; }

 private:
  Quantizer quantizer_;
  zipml::Random random_;
  std::uint32_t layer_;
  std::vector<LevelTable> tables_;  // one, or one a row
  double clipped_ = 0.0;            // share of the layer's weights
  std::vector<std::uint8_t> codes_;
};

}  // namespace deep
