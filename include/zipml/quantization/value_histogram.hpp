#pragma once
/// \file
/// Room quantization: what levels are fitted to when there are too many values to sort, or when they only
/// pass by.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include <zipml/base/buffer.hpp>
#include <zipml/base/error.hpp>
#include <zipml/quantization/level_candidates.hpp>

namespace zipml::inline ZIPML_ABI {

/// Counts float32 values in bins whose width is 1/128 of the power of two below their distance from `centre`:
/// fine about the centre, coarse in the tails, and nowhere without resolution, however long these are.
/// (Values that crowd far from the centre are told apart by no less than that.)
///
/// Count, sum and sum of squares of each bin are integers (of 2^-16 bins), hence exact and the same in any
/// order: chunks and threads can each fill one and merge, and a file, a stream and a matrix in memory give
/// the same levels. Up to 256 distinct values are kept apart as well, so that a column of few values is
/// exact. value - centre is taken in float32: exact for centre 0, else to 2^-24 of the distance. Memory: 5
/// KiB for each power of two and sign that occurs, 225 KiB after a million normal values.
///
///     zipml::ValueHistogram histogram(mean);
///     for (...) histogram.add(value);
///     const auto found = zipml::find_optimal_levels(histogram.candidates(), 16);
class ValueHistogram {
 public:
  explicit ValueHistogram(float centre = 0.0f) : centre_(centre) { pages_.fill(-1); }

  float centre() const { return centre_; }
  Index count() const { return count_; }
  float lowest() const { return min_; }
  float highest() const { return max_; }

  /// Throws Error for a value that is not finite, or farther from the centre than float32 reaches; the
  /// histogram is of no use then.
  void add(float value) { add(&value, 1, 1); }

  /// `n` values at a distance of `stride`.
  void add(const float* values, Index n, Index stride = 1);

  /// Adds what another histogram about the same centre has counted.
  void merge(const ValueHistogram& other);

  /// Where levels may lie: on the values when at most 256 are distinct, else on the edges of bins, on the
  /// values of bins that hold one only, and on the extremes; `with_zero` (about the centre 0) at 0 too.
  /// Throws Error when there are no values.
  LevelCandidates candidates(bool with_zero = false) const;

 private:
  static constexpr int mantissa_bits = 23;
  static constexpr int place_bits = 16;  // of a value inside its bin
  static constexpr std::uint32_t place_mask = (1u << place_bits) - 1u;
  static constexpr std::uint32_t page_count = 1u << (32 - mantissa_bits);
  static constexpr std::size_t bins_per_page = std::size_t{1} << (mantissa_bits - place_bits);

  struct Bin {
    std::uint64_t count;
    std::uint64_t sum;      // of places
    std::uint64_t squares;  // of places
  };

  // What is added to: count and sum share a word, so that a value costs two additions to memory. Room for
  // 2^24 - 1 values; then they are spilled.
  static constexpr int sum_bits = 40;
  static constexpr Index spill_after = (Index{1} << (64 - sum_bits)) - 1;
  static_assert(sum_bits >= place_bits + (64 - sum_bits));

  /// Up to 256 distinct values and how often each came: open addressing.
  class Distinct {
   public:
    /// Whether all values so far are kept.
    bool counts() const { return used_ <= limit; }
    void add(float value, std::uint64_t times) {
      if (!counts()) return;
      const float key = value + 0.0f;  // -0 and 0 are one value
      std::uint32_t word;
      std::memcpy(&word, &key, sizeof word);
      std::uint32_t slot = (word * 2654435769u) >> 22;
      while (entries_[slot].times > 0 && entries_[slot].value != key) slot = (slot + 1) % slot_count;
      if (entries_[slot].times == 0 && ++used_ > limit) return;
      entries_[slot].value = key;
      entries_[slot].times += times;
    }
    void merge(const Distinct& other) {
      if (!other.counts()) used_ = limit + 1;
      for (const Entry& entry : other.entries_)
        if (entry.times > 0) add(entry.value, entry.times);
    }
    List<LevelCandidates::Bin> sorted() const {
      List<LevelCandidates::Bin> all;
      for (const Entry& entry : entries_)
        if (entry.times > 0)
          all.push_back({static_cast<double>(entry.value), static_cast<double>(entry.times)});
      std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.position < b.position; });
      return all;
    }

   private:
    static constexpr int limit = 256;
    static constexpr std::uint32_t slot_count = 1024;
    struct Entry {
      float value = 0.0f;
      std::uint64_t times = 0;
    };
    List<Entry> entries_ = List<Entry>(slot_count);
    int used_ = 0;
  };

  static std::size_t bin_of(std::uint32_t word) { return word >> place_bits & (bins_per_page - 1); }

  /// Four readings at a time, far apart: in sorted data neighbours lie in one bin, and each addition to it
  /// would wait for the one before.
  void add_piece(const float* values, Index n, Index stride);

  void add_one(float value);

  void new_page(std::uint32_t page);
  std::int32_t page_for(std::uint32_t word, float value);

  Bin bin(std::size_t i) const;
  void spill();

  /// The bins that hold values, from the lowest: negative pages backwards, then positive ones.
  template <class F>
  void for_each_bin(const F& f) const {
    for (std::uint32_t k = 0; k < page_count; ++k) {
      const bool negative = k < page_count / 2;
      const std::uint32_t page = negative ? page_count - 1 - k : k - page_count / 2;
      if (pages_[page] < 0) continue;
      for (std::size_t i = 0; i < bins_per_page; ++i) {
        const std::size_t b = negative ? bins_per_page - 1 - i : i;
        const Bin found = bin(static_cast<std::size_t>(pages_[page]) + b);
        if (found.count > 0) f(negative, page & 255u, b, found);
      }
    }
  }

  List<LevelCandidates::Bin> edges() const;

  float centre_;
  Index count_ = 0;
  float min_ = (std::numeric_limits<float>::max)();
  float max_ = std::numeric_limits<float>::lowest();
  Index pending_ = 0;                             // values since the last spill
  std::array<std::int32_t, page_count> pages_{};  // first bin of each page, -1: none yet
  List<std::uint64_t> counts_and_sums_;
  List<std::uint64_t> squares_;
  List<Bin> spilled_;
  Distinct distinct_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void ValueHistogram::add(const float* values, Index n, Index stride) {
  const float* const first = values;
  const Index all = n;
  while (n > 0) {
    const Index piece = (std::min)(n, spill_after - pending_);
    add_piece(values, piece, stride);
    pending_ += piece;
    if (pending_ == spill_after) spill();
    values += piece * stride;
    n -= piece;
    count_ += piece;
  }
  for (Index i = 0; i < all && distinct_.counts(); ++i) distinct_.add(first[i * stride], 1);
}

ZIPML_FUNCTION void ValueHistogram::merge(const ValueHistogram& other) {
  if (other.centre_ != centre_)
    throw Error("histograms about different centres cannot merge", number_text(centre_),
                number_text(other.centre_));
  for (std::uint32_t p = 0; p < page_count; ++p) {
    if (other.pages_[p] < 0) continue;
    if (pages_[p] < 0) new_page(p);
    for (std::size_t b = 0; b < bins_per_page; ++b) {
      Bin& to = spilled_[static_cast<std::size_t>(pages_[p]) + b];
      const Bin from = other.bin(static_cast<std::size_t>(other.pages_[p]) + b);
      to.count += from.count;
      to.sum += from.sum;
      to.squares += from.squares;
    }
  }
  min_ = (std::min)(min_, other.min_);
  max_ = (std::max)(max_, other.max_);
  count_ += other.count_;
  distinct_.merge(other.distinct_);
}

ZIPML_FUNCTION LevelCandidates ValueHistogram::candidates(bool with_zero) const {
  if (with_zero && centre_ != 0.0f)
    throw Error("a histogram that is to have a level at 0 has its centre there", "centre 0",
                number_text(centre_));
  List<LevelCandidates::Bin> all = distinct_.counts() ? distinct_.sorted() : edges();
  if (with_zero && !all.empty()) {
    const auto above =
        std::find_if(all.begin(), all.end(), [](const auto& bin) { return bin.position >= 0.0; });
    if (above == all.end() || above->position > 0.0) all.insert(above, {0.0, 0.0});
  }
  return LevelCandidates(static_cast<Index>(all.size()),
                         [&all](Index i) { return all[static_cast<std::size_t>(i)]; });
}

ZIPML_FUNCTION void ValueHistogram::add_piece(const float* values, Index n, Index stride) {
  constexpr Index streams = 4;
  const Index quarter = n / streams;
  float low[streams];
  float high[streams];
  for (Index s = 0; s < streams; ++s) {
    low[s] = min_;
    high[s] = max_;
  }
  for (Index i = 0; i < quarter; ++i)
    for (Index s = 0; s < streams; ++s) {
      const float value = values[(s * quarter + i) * stride];
      add_one(value);
      low[s] = value < low[s] ? value : low[s];
      high[s] = value > high[s] ? value : high[s];
    }
  for (Index i = streams * quarter; i < n; ++i) {
    const float value = values[i * stride];
    add_one(value);
    low[0] = value < low[0] ? value : low[0];
    high[0] = value > high[0] ? value : high[0];
  }
  for (Index s = 0; s < streams; ++s) {
    min_ = (std::min)(min_, low[s]);
    max_ = (std::max)(max_, high[s]);
  }
}

ZIPML_FUNCTION void ValueHistogram::add_one(float value) {
  const float distance = value - centre_;
  std::uint32_t word;
  std::memcpy(&word, &distance, sizeof word);
  std::int32_t page = pages_[word >> mantissa_bits];
  if (page < 0) [[unlikely]]
    page = page_for(word, value);
  const std::size_t i = static_cast<std::size_t>(page) + bin_of(word);
  const std::uint64_t place = word & place_mask;
  counts_and_sums_[i] += std::uint64_t{1} << sum_bits | place;
  squares_[i] += place * place;
}

ZIPML_FUNCTION void ValueHistogram::new_page(std::uint32_t page) {
  pages_[page] = static_cast<std::int32_t>(spilled_.size());
  spilled_.resize(spilled_.size() + bins_per_page);
  counts_and_sums_.resize(spilled_.size());
  squares_.resize(spilled_.size());
}

ZIPML_FUNCTION std::int32_t ValueHistogram::page_for(std::uint32_t word, float value) {
  const std::uint32_t page = word >> mantissa_bits;
  if ((page & 255u) == 255u)
    throw Error("a value to fit levels to is not finite, or too far from the centre",
                "a finite number within 3.4e38 of " + number_text(centre_), number_text(value));
  new_page(page);
  return pages_[page];
}

ZIPML_FUNCTION ValueHistogram::Bin ValueHistogram::bin(std::size_t i) const {
  const Bin& spilled = spilled_[i];
  return {spilled.count + (counts_and_sums_[i] >> sum_bits),
          spilled.sum + (counts_and_sums_[i] & ((std::uint64_t{1} << sum_bits) - 1)),
          spilled.squares + squares_[i]};
}

ZIPML_FUNCTION void ValueHistogram::spill() {
  for (std::size_t i = 0; i < spilled_.size(); ++i) {
    spilled_[i] = bin(i);
    counts_and_sums_[i] = squares_[i] = 0;
  }
  pending_ = 0;
}

ZIPML_FUNCTION List<LevelCandidates::Bin> ValueHistogram::edges() const {
  List<LevelCandidates::Bin> all;
  const auto position = [this](double distance) {
    return std::clamp(static_cast<double>(centre_) + distance, static_cast<double>(min_),
                      static_cast<double>(max_));
  };
  for_each_bin([&](bool negative, std::uint32_t exponent, std::size_t b, const Bin& found) {
    // Places are multiples of the unit in the last place of a float32 of this exponent.
    const double unit = std::ldexp(1.0, static_cast<int>(exponent == 0 ? 1 : exponent) - 150);
    const double whole = exponent == 0 ? 0.0 : 8388608.0;
    const double rough = (whole + static_cast<double>(b << place_bits)) * unit;
    constexpr std::uint64_t width = std::uint64_t{1} << place_bits;
    const double beyond = rough + static_cast<double>(width) * unit;
    const auto count = static_cast<double>(found.count);
    const std::uint64_t place = found.sum / found.count;
    if (place * found.count == found.sum && place * found.sum == found.squares) {  // all values are one
      const double distance = rough + static_cast<double>(place) * unit;
      all.push_back({position(negative ? -distance : distance), count});
      return;
    }
    // Moments about the upper edge: places are counted from the edge that is nearer to the centre.
    const std::uint64_t below = negative ? found.sum : width * found.count - found.sum;
    const std::uint64_t squares =
        negative ? found.squares : found.squares + width * (width * found.count - 2 * found.sum);
    all.push_back({position(negative ? -beyond : rough), 0.0});
    const double edge = static_cast<double>(centre_) + (negative ? -rough : beyond);
    const double upper = position(negative ? -rough : beyond);
    const double shift = edge - upper;  // not 0 where the bin holds the highest value
    const double distance = -static_cast<double>(below) * unit;
    all.push_back({upper, count, distance + count * shift,
                   static_cast<double>(squares) * unit * unit + shift * (2.0 * distance + count * shift)});
  });
  if (!all.empty()) {  // what centre + distance misses by a rounding
    all.front().position = static_cast<double>(min_);
    all.back().position = static_cast<double>(max_);
  }
  return all;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
