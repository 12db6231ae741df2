#include "weight_levels.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <zipml/base/error.hpp>
#include <zipml/quantization/lloyd_max.hpp>
#include <zipml/quantization/optimal_levels.hpp>
#include <zipml/quantization/value_histogram.hpp>
#include <zipml/storage/sample_view.hpp>

namespace deep {

namespace {

float largest_magnitude(std::span<const float> weights) {
  float largest = 0.0f;
  for (const float w : weights) largest = std::max(largest, std::fabs(w));
  return largest;
}

/// At most so many of the weights, evenly over the layer: levels of 30,000 are those of all within half a percent, and are found
/// in a millisecond or two.
std::span<const float> sampled(std::span<const float> weights, std::size_t most, std::vector<float>& kept) {
  if (weights.size() <= most) return weights;
  for (std::size_t k = 0; k < most; ++k) kept.push_back(weights[k * weights.size() / most]);
  return kept;
}

/// Positions that levels may lie on: the values themselves where there are few.
zipml::LevelCandidates candidates_of(std::span<const float> weights) {
  if (weights.size() <= 512) return zipml::LevelCandidates::of_values(weights);
  zipml::ValueHistogram histogram;
  histogram.add(weights.data(), static_cast<Index>(weights.size()));
  return histogram.candidates();
}

/// |w|, at most `most`.
std::vector<float> magnitudes_of(std::span<const float> weights, float most) {
  std::vector<float> magnitudes(weights.begin(), weights.end());
  for (float& w : magnitudes) w = std::min(std::fabs(w), most);
  return magnitudes;
}

/// The magnitude that all but a share of the weights keep below.
float magnitude_of_share(std::span<const float> weights, double clipped) {
  std::vector<float> magnitudes = magnitudes_of(weights, INFINITY);
  const auto beyond = static_cast<std::ptrdiff_t>(clipped * static_cast<double>(magnitudes.size()));
  const auto at = magnitudes.end() - 1 - beyond;
  std::nth_element(magnitudes.begin(), at, magnitudes.end());
  return *at;
}

/// The scale of evenly spaced levels of least squared error: the best of 64 between a hundredth of the largest magnitude and
/// twice it, and the least about that by golden sections.
double best_even_scale(std::span<const float> weights, int levels) {
  const zipml::LevelCandidates candidates = candidates_of(weights);
  const double largest = static_cast<double>(largest_magnitude(weights));
  if (!(largest > 0.0)) return 0.0;
  const auto error = [&](double most) {
    const double step = 2.0 * most / (levels - 1);
    double sum = 0.0;
    Index below = -1;
    for (int k = 0; k < levels; ++k) {
      const double level = -most + step * k, end = level + 0.5 * step;
      // The last candidate below the end of the cell.
      Index low = below, high = candidates.size() - 1;
      if (k < levels - 1)
        while (low < high) {
          const Index middle = low + (high - low + 1) / 2;
          (candidates.position(middle) < end ? low : high) =
              candidates.position(middle) < end ? middle : middle - 1;
        }
      else
        low = high;
      if (low <= below) continue;
      const zipml::LevelCandidates::Cell cell = candidates.cell(below, low);
      sum += cell.squared_error + cell.weight * (cell.mean - level) * (cell.mean - level);
      below = low;
    }
    return sum;
  };
  constexpr int tries = 64;
  const auto scale = [&](double k) { return 0.01 * largest * std::pow(200.0, k / (tries - 1)); };
  int best = 0;
  double least = error(scale(0));
  for (int k = 1; k < tries; ++k)
    if (const double here = error(scale(k)); here < least) least = here, best = k;
  double low = scale(best - 1), high = scale(best + 1);
  const double golden = 0.5 * (std::sqrt(5.0) - 1.0);
  for (int k = 0; k < 20; ++k) {
    const double left = high - golden * (high - low), right = low + golden * (high - low);
    (error(left) < error(right) ? high : low) = error(left) < error(right) ? right : left;
  }
  return 0.5 * (low + high);
}

/// Levels at +-m for the magnitudes m, which increase, and at 0 where one of them is 0.
LevelTable mirrored(std::span<const double> magnitudes) {
  std::vector<double> levels;
  for (std::size_t k = magnitudes.size(); k-- > 0;) levels.push_back(-magnitudes[k]);
  for (const double m : magnitudes)
    if (m > 0.0) levels.push_back(m);
  return LevelTable::of(levels);
}

/// Levels of least variance, as many on either side of 0, of weights clipped at +-most. An odd number has one at 0.
LevelTable variance_optimal(std::span<const float> weights, int levels, float most) {
  std::vector<float> clipped = magnitudes_of(weights, most);
  if (levels % 2 == 1) {
    clipped.push_back(0.0f);
    const zipml::FoundLevels found =
        zipml::find_optimal_levels_through(candidates_of(clipped), (levels + 1) / 2, 0);
    return mirrored({found.levels.data(), found.levels.size()});
  }
  // Both of the levels next to 0 bear on what lies between them: searched on weights of either sign.
  const std::size_t count = clipped.size();
  for (std::size_t k = 0; k < count; ++k) clipped.push_back(-clipped[k]);
  const zipml::FoundLevels found = zipml::find_optimal_levels(candidates_of(clipped), levels);
  std::vector<double> upper;
  for (const double level : found.levels)
    if (level > 0.0) upper.push_back(level);
  return mirrored(upper);
}

/// Levels of least squared error, as many on either side of 0. An odd number has one at 0, for weights below half the next
/// level: that and the levels of the others in turn, from evenly spaced ones on (Lloyd 1957).
LevelTable lloyd_max(std::span<const float> weights, int levels) {
  std::vector<float> magnitudes = magnitudes_of(weights, INFINITY);
  if (levels % 2 == 0) {
    const zipml::FoundLevels found = zipml::find_lloyd_max_levels(candidates_of(magnitudes), levels / 2);
    return mirrored({found.levels.data(), found.levels.size()});
  }
  std::sort(magnitudes.begin(), magnitudes.end());
  std::vector<double> upper{0.0};
  auto end = std::lower_bound(magnitudes.begin(), magnitudes.end(),
                              static_cast<float>(best_even_scale(weights, levels) / (levels - 1)));
  for (int k = 0; k < 4 && end != magnitudes.end(); ++k) {
    const zipml::FoundLevels found =
        zipml::find_lloyd_max_levels(candidates_of({end, magnitudes.end()}), (levels - 1) / 2);
    upper.resize(1);
    upper.insert(upper.end(), found.levels.begin(), found.levels.end());
    const auto next =
        std::lower_bound(magnitudes.begin(), magnitudes.end(), static_cast<float>(0.5 * upper[1]));
    if (next == end) break;
    end = next;
  }
  return mirrored(upper);
}

/// What rounding weights does to them, squared: the error of nearest rounding, or the variance of stochastic and the error of
/// clipping.
double squared_change(std::span<const float> weights, const LevelTable& table, bool is_stochastic) {
  double sum = 0.0;
  for (const float w : weights) {
    const float x = std::clamp(w, table.values.front(), table.values.back());
    const double beyond = static_cast<double>(w - x);
    if (!is_stochastic) {
      const double error = static_cast<double>(w - table.values[static_cast<std::size_t>(table.nearest(w))]);
      sum += error * error;
      continue;
    }
    const auto low = static_cast<std::size_t>(table.stochastic(x, ~0u));
    const auto high = std::min(low + 1, table.values.size() - 1);
    sum += static_cast<double>(x - table.values[low]) * static_cast<double>(table.values[high] - x) +
           beyond * beyond;
  }
  return sum;
}

}  // namespace

double Quantizer::bits() const { return spacing == Spacing::none ? 32.0 : std::log2(levels); }

std::string Quantizer::name() const { return name_of(spacing); }

const std::vector<Spacing>& spacings() {
  static const std::vector<Spacing> all{Spacing::sign,
                                        Spacing::even_largest,
                                        Spacing::even_best,
                                        Spacing::optimal_stochastic,
                                        Spacing::optimal_nearest,
                                        Spacing::lloyd_max};
  return all;
}

std::string name_of(Spacing spacing) {
  switch (spacing) {
    case Spacing::none:
      return "none";
    case Spacing::sign:
      return "sign";
    case Spacing::even_largest:
      return "even-largest";
    case Spacing::even_best:
      return "even-best";
    case Spacing::optimal_stochastic:
      return "optimal-stochastic";
    case Spacing::optimal_nearest:
      return "optimal-nearest";
    case Spacing::lloyd_max:
      return "lloyd-max";
  }
  return "";
}

bool has_levels(Spacing spacing, int levels) {
  if (spacing == Spacing::none) return false;
  return spacing == Spacing::sign ? levels == 2 : levels >= 2 && levels <= 16;
}

LevelTable LevelTable::of(std::span<const double> levels) {
  LevelTable table;
  const double low = levels.front(), high = levels.back();
  table.offset = static_cast<float>(low);
  for (const double level : levels) {
    const double place = high > low ? std::round((level - low) / (high - low) * 254.0) : 0.0;
    const auto entry = static_cast<std::uint8_t>(place);
    if (!table.entries.empty() && table.entries.back() == entry) continue;
    table.entries.push_back(entry);
  }
  // Levels that are evenly spaced, as two are and three about zero, are their own codes, which kernels like best.
  int common = 0;
  for (const std::uint8_t entry : table.entries) common = std::gcd(common, static_cast<int>(entry));
  if (common == 0) common = 1;
  table.step = static_cast<float>((high - low) / 254.0 * common);
  for (std::uint8_t& entry : table.entries) {
    entry = static_cast<std::uint8_t>(entry / common);
    table.values.push_back(
        zipml::CodeLevels::affine_value(table.offset, table.step, static_cast<float>(entry)));
  }
  return table;
}

LevelTable LevelTable::even(int count, double most) {
  LevelTable table;
  table.offset = static_cast<float>(-most);
  table.step = count > 1 ? static_cast<float>(2.0 * most / (count - 1)) : 0.0f;
  for (int k = 0; k < count; ++k) {
    table.entries.push_back(static_cast<std::uint8_t>(k));
    table.values.push_back(zipml::CodeLevels::affine_value(table.offset, table.step, static_cast<float>(k)));
  }
  return table;
}

int LevelTable::nearest(float value) const {
  int code = 0;
  for (std::size_t k = 0; k + 1 < values.size(); ++k)
    code += value >= 0.5f * (values[k] + values[k + 1]) ? 1 : 0;
  return code;
}

int LevelTable::stochastic(float value, std::uint32_t word) const {
  if (values.size() == 1 || !(value > values.front())) return 0;
  if (!(value < values.back())) return static_cast<int>(values.size()) - 1;
  std::size_t low = 0;
  for (std::size_t k = 1; k + 1 < values.size(); ++k) low += value >= values[k] ? 1 : 0;
  const float fraction = (value - values[low]) / (values[low + 1] - values[low]);
  return static_cast<int>(low) + (zipml::rounds_up(std::min(fraction, 1.0f), word) ? 1 : 0);
}

double best_clipping(std::span<const float> weights, const Quantizer& quantizer) {
  constexpr std::array<double, 9> shares{0.0, 0.001, 0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.25};
  double best = 0.0, least = INFINITY;
  std::vector<float> kept;
  const std::span<const float> some = sampled(weights, 16'384, kept);
  for (const double share : shares) {
    const LevelTable table = variance_optimal(some, quantizer.levels, magnitude_of_share(some, share));
    const double change = squared_change(some, table, quantizer.is_stochastic());
    if (change < least) least = change, best = share;
  }
  return best;
}

LevelTable fit_levels(std::span<const float> weights, const Quantizer& quantizer, double clipped) {
  for (const float w : weights)
    if (!std::isfinite(w))
      throw zipml::Error("a weight is not finite: training diverged", "a smaller --step", "inf or nan");
  const float largest = largest_magnitude(weights);
  if (!(largest > 0.0f)) return LevelTable::even(1, 0.0);  // zero is the level
  std::vector<float> kept;
  const std::span<const float> some = sampled(weights, 32'768, kept);
  switch (quantizer.spacing) {
    case Spacing::none:
      throw zipml::Error("full precision has no levels");
    case Spacing::sign: {
      double sum = 0.0;
      for (const float w : weights) sum += static_cast<double>(std::fabs(w));
      return LevelTable::even(2, sum / static_cast<double>(weights.size()));
    }
    case Spacing::even_largest:
      return LevelTable::even(quantizer.levels, static_cast<double>(largest));
    case Spacing::even_best:
      return LevelTable::even(quantizer.levels, best_even_scale(some, quantizer.levels));
    case Spacing::optimal_stochastic:
    case Spacing::optimal_nearest:
      return variance_optimal(some, quantizer.levels,
                              clipped > 0.0 ? magnitude_of_share(some, clipped) : largest);
    case Spacing::lloyd_max:
      return lloyd_max(some, quantizer.levels);
  }
  return {};
}

void WeightLevels::fit(const Weights& value, bool anew) {
  const Index parts = quantizer_.by_channel ? value.rows() : 1;
  const Index size = value.size() / parts;
  if (anew && quantizer_.clips()) {
    // One share for a layer, whose channels are brought to one size.
    Weights scaled = value;
    for (Index k = 0; k < parts && parts > 1; ++k)
      if (const float norm = scaled.row(k).norm(); norm > 0.0f) scaled.row(k) /= norm;
    clipped_ = best_clipping({scaled.data(), static_cast<std::size_t>(scaled.size())}, quantizer_);
  }
  tables_.resize(static_cast<std::size_t>(parts));
  for (Index k = 0; k < parts; ++k)
    tables_[static_cast<std::size_t>(k)] =
        fit_levels({value.data() + k * size, static_cast<std::size_t>(size)}, quantizer_, clipped_);
}

void WeightLevels::round(const Weights& value, std::uint64_t step, Weights& used) {
  const Index rows_of_table = quantizer_.by_channel ? 1 : value.rows();
  codes_.resize(static_cast<std::size_t>(value.size()));
  for (std::size_t t = 0; t < tables_.size(); ++t) {
    const LevelTable& table = tables_[t];
    const Index first = static_cast<Index>(t) * rows_of_table * value.cols();
    const Index end = first + rows_of_table * value.cols();
    if (!quantizer_.is_stochastic()) {
      std::array<float, 15> middles{};
      const std::size_t steps = table.values.size() - 1;
      for (std::size_t k = 0; k < steps; ++k) middles[k] = 0.5f * (table.values[k] + table.values[k + 1]);
      for (Index i = first; i < end; ++i) {
        unsigned code = 0;
        for (std::size_t k = 0; k < steps; ++k) code += value.data()[i] >= middles[k] ? 1 : 0;
        codes_[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(code);
        used.data()[i] = table.values[code];
      }
      continue;
    }
    zipml::PhiloxWords words{};
    Index drawn = -1;
    for (Index i = first; i < end; ++i) {
      if (i / 4 != drawn) {
        drawn = i / 4;
        words = random_.words(zipml::Stream::model, layer_, static_cast<std::uint32_t>(drawn), step);
      }
      const auto code =
          static_cast<std::size_t>(table.stochastic(value.data()[i], words[static_cast<std::size_t>(i % 4)]));
      codes_[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(code);
      used.data()[i] = table.values[code];
    }
  }
}

}  // namespace deep
