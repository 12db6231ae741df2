#pragma once
/// \file
/// Room packing: from float32 samples to a packed store.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/levels_policy.hpp>
#include <zipml/packing/pilot_fit.hpp>
#include <zipml/packing/row_rounding.hpp>
#include <zipml/quantization/clipping.hpp>
#include <zipml/quantization/rounding.hpp>
#include <zipml/storage/packed_store.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Writes the codes of 8 rows into one group of every plane. `base` and `ups` hold 8 x cols: what the base
/// planes store, and one bit per draw where draws are apart.
template <class Encoding>
void write_group(Isa isa, std::uint8_t* codes, const PlaneLayout& layout, int bits, Index group,
                 const typename Encoding::Code* base, const std::uint8_t* ups) {
  const auto write_plane = [&](const Plane& plane, const auto* source, int source_shift) {
    std::uint8_t* out = codes + layout.offset(plane, group);
    for (int panel = 0; panel < plane.width; ++panel, out += layout.cols)
      pack_panel(isa, plane.width, source + panel * (8 / plane.width) * layout.cols, layout.cols, layout.cols,
                 source_shift, out);
  };
  const PlaneList planes = Encoding::base_planes(bits);
  for (int p = 0; p < planes.count; ++p) write_plane(planes[p], base, planes[p].shift);
  if constexpr (Encoding::draws > 1)
    for (int draw = 0; draw < Encoding::draws; ++draw)
      write_plane({1, 0, Encoding::base_bits(bits) + draw}, ups, draw);
}

/// Independent roundings of a value that an encoding takes.
template <class Encoding>
inline constexpr int draws_taken = Encoding::draws > Encoding::summed ? Encoding::draws : Encoding::summed;

/// A random word for each draw of a value.
template <class Encoding>
using DrawWords = std::array<std::uint32_t, static_cast<std::size_t>(draws_taken<Encoding>)>;

/// Rounds one value in every draw. Returns how many draws went up.
template <class Encoding, class R>
int encode_position(Position position, R, const DrawWords<Encoding>& words, typename Encoding::Code& base,
                    std::uint8_t& ups) {
  unsigned up = 0;
  int count = 0;
  for (int draw = 0; draw < draws_taken<Encoding>; ++draw) {
    const unsigned bit = R::up(position, words[static_cast<std::size_t>(draw)]) ? 1u : 0u;
    up |= bit << draw;
    count += static_cast<int>(bit);
  }
  using Code = typename Encoding::Code;
  if constexpr (Encoding::draws > 1) {
    base = static_cast<Code>(position.code);
    ups = static_cast<std::uint8_t>(up);
  } else {
    base = static_cast<Code>(position.code * Encoding::summed + count);
  }
  return count;
}

/// Makes the range symmetric about `middle`.
void center(ColumnStatistics& column, double middle);

/// The statistics of the columns, their ranges as levels are fitted to: without the outliers that are kept,
/// symmetric where that is asked for.
Buffer<ColumnStatistics> columns_to_fit(const MatrixView& features, const QuantizeOptions& options);

/// Rounds samples to the codes of a store: once, or again for each epoch of fresh draws. Holds a view of the
/// samples. The width is a number here: what differs between widths is a shift, and one packer serves all.
template <class Encoding, class Decoder, class R>
class Packer {
 public:
  using Store = PackedStore<Encoding, Decoder>;
  using ColumnLevels = typename Decoder::ColumnLevels;

  /// `columns` as columns_to_fit gives them, `levels` fitted to these.
  Packer(const MatrixView& features, Buffer<ColumnStatistics> columns, ColumnLevels levels, int bits,
         const QuantizeOptions& options)
      : features_(features),
        options_(options),
        bits_(bits),
        by_row_(options.scales_rows()),
        isa_(active_isa(options.isa)),
        columns_(std::move(columns)),
        levels_(std::move(levels)),
        ranges_(features.cols) {
    static_assert(!shared || Encoding::summed == 1,
                  "zipml: means of draws are on no shared table: use optimal_levels with the sum code");
    if constexpr (!affine) {
      if (options.scaling != Scaling::column_range)
        throw Error("tables of levels are fitted to columns", "Scaling::column_range", "another scaling");
    }
    for (Index j = 0; j < features.cols; ++j) {
      ranges_.lowest[j] = columns_[j].min;
      ranges_.highest[j] = columns_[j].max;
      if constexpr (!affine) levels_[j].require_range();
      if constexpr (!affine && !shared)
        if (!levels_.fitted) {
          ranges_.lowest[j] = levels_[j].value(0);
          ranges_.highest[j] = levels_[j].value(levels_.count - 1);
        }
    }
    if constexpr (affine)
      if (!by_row_) uniform_ = UniformColumns(levels_, 1 << bits);
  }

  Store pack(const LabelView& labels) const {
    Store store(StoreHeader(features_, labels, columns_, options_.standardize, options_.seed), bits_);
    make_decoder(store);
    if constexpr (Encoding::has_bias) store.bias = Buffer<float>(features_.cols);
    const bool keep = options_.outliers > 0.0;
    Reading reading{.codes = store.mutable_codes().data(), .bias = store.bias.data(), .keeps_outliers = keep};
    if constexpr (affine) {
      reading.row_offset = store.decoder.row_offset.data();
      reading.row_step = store.decoder.row_step.data();
    }
    if (const Index rows = pilot_rows(features_.rows, features_.cols, options_.pilot); rows > 0) {
      store.pilot = fit_pilot(features_, labels.values, store.weights().span(), store.placement(),
                              store.standardization(), rows, options_.threads, isa_);
      if (!store.pilot.empty()) {
        store.pilot.labels = label_fingerprint(store.targets().of(0));
        reading.pilot = &store.pilot;
        reading.labels = store.targets().of(0);
      }
    }
    const auto passes = read(store, reading);
    if (keep) {
      store.outliers = Outliers(features_.cols);
      for (const Pass& pass : passes)
        for (const Kept& kept : pass.kept) store.outliers.add(kept.row, kept.column, kept.correction);
      store.outliers.close(features_.rows);
    }
    for (const Pass& pass : passes) store.clamped += pass.clamped;
    return store;
  }

  /// Draws every value of a packed store anew, for a later epoch: only codes and bias terms change.
  void draw_again(Store& store, int epoch) const {
    read(store, {.codes = store.mutable_codes().data(), .bias = store.bias.data(), .epoch = epoch});
  }

 private:
  static constexpr bool affine = std::same_as<Decoder, AffineDecoder>;
  static constexpr bool shared = std::same_as<Decoder, SharedTableDecoder>;

  void make_decoder(Store& store) const {
    const Index d = features_.cols;
    const Standardization& map = store.standardization();
    const auto standardised = [&](double value, Index j) { return static_cast<float>(map.apply(value, j)); };
    constexpr int summed = Encoding::summed;
    if constexpr (affine) {
      store.decoder.offset = Buffer<float>(d);
      store.decoder.step = Buffer<float>(d);
      for (Index j = 0; j < d; ++j) {
        store.decoder.offset[j] = by_row_ ? 0.0f : standardised(static_cast<double>(levels_[j].offset()), j);
        const double step = static_cast<double>(levels_[j].step()) / map.scale[j];
        store.decoder.step[j] = by_row_ ? 1.0f : static_cast<float>(step) / static_cast<float>(summed);
      }
      if (by_row_) {
        store.decoder.row_offset = Buffer<float>(features_.rows);
        store.decoder.row_step = Buffer<float>(features_.rows);
      }
    } else if constexpr (shared) {
      const Buffer<std::uint8_t>& entries = levels_.entries;
      bool even = true;  // evenly spaced, as two levels always are: then a code times the gap
      for (Index k = 1; k < entries.size(); ++k)
        even = even && entries[k] - entries[k - 1] == entries[1] - entries[0];
      const double gap = even ? static_cast<double>(entries[1] - entries[0]) : 1.0;
      const double first = even ? static_cast<double>(entries[0]) : 0.0;
      store.decoder.offset = Buffer<float>(d);
      store.decoder.step = Buffer<float>(d);
      for (Index j = 0; j < d; ++j) {
        const double step = static_cast<double>(levels_.grids[j].step());
        store.decoder.offset[j] =
            standardised(static_cast<double>(levels_.grids[j].offset()) + pinned(step * first), j);
        store.decoder.step[j] = static_cast<float>(step * gap / map.scale[j]);
      }
      if (!even) {
        store.decoder.entries = entries;
        store.decoder.entry_values = Buffer<float>(entries.size());
        for (Index k = 0; k < entries.size(); ++k)
          store.decoder.entry_values[k] = static_cast<float>(entries[k]);
      }
    } else {
      const int count = summed * (levels_.count - 1) + 1;
      store.decoder.levels = count;
      store.decoder.tables = Buffer<float>(checked_product(d, count, "the tables of levels"));
      for (Index j = 0; j < d; ++j)
        for (int code = 0; code < count; ++code) {
          const DrawCount draws = split_sum(code, summed, bits_);
          const double low = static_cast<double>(levels_[j].value(draws.low));
          const double high = draws.up > 0 ? static_cast<double>(levels_[j].value(draws.low + 1)) : low;
          store.decoder.tables[j * count + code] =
              standardised((low * (summed - draws.up) + high * draws.up) / summed, j);
        }
    }
  }

  /// One reading of the samples, and where its results go: some may be null.
  struct Reading {
    std::uint8_t* codes;
    float* bias;
    int epoch = 0;
    float* row_offset = nullptr;  // where the scaling of rows goes, when it is not known yet
    float* row_step = nullptr;
    bool keeps_outliers = false;
    Pilot* pilot = nullptr;              // whose gradient is summed
    std::span<const float> labels = {};  // in store order, for the pilot
  };
  struct Kept {
    Index row;
    Index column;
    float correction;
  };

  class Pass;

  /// Threads read ranges of whole chunks; what they sum is summed by chunk, so that the bits do not depend on
  /// the ranges. Returns them in the order of the rows.
  List<Pass> read(const Store& store, const Reading& reading) const {
    const Index d = features_.cols;
    const Index chunks = (features_.rows + statistics_chunk - 1) / statistics_chunk;
    Buffer<double> spread(Encoding::has_bias ? checked_product(chunks, d, "the bias terms") : 0);
    const bool sums = reading.pilot != nullptr;
    Buffer<double> pilot(sums ? checked_product(chunks, PilotSums::entries(d), "the pilot's sums") : 0);
    ThreadTeam team(thread_count(options_.threads));
    List<Pass> passes;
    passes.reserve(static_cast<std::size_t>(team.size()));
    for (int part = 0; part < team.size(); ++part)
      passes.emplace_back(*this, store, reading, share_of(chunks, 1, part, team.size()), spread.data(),
                          pilot.data());
    team.run([&](int part) { passes[static_cast<std::size_t>(part)].run(); });
    if constexpr (Encoding::has_bias) {
      const auto n = static_cast<double>(features_.rows);
      for (Index j = 0; j < d; ++j) {
        double total = 0.0;
        for (Index chunk = 0; chunk < chunks; ++chunk) total += spread[chunk * d + j];
        reading.bias[j] = static_cast<float>(total * passes[0].spread_unit(j) / n);
      }
    }
    if (sums) finish_pilot(*reading.pilot, store.standardization(), pilot.span(), features_.rows);
    return passes;
  }

  /// The reading of some chunks of rows.
  class Pass {
   public:
    Pass(const Packer& packer, const Store& store, const Reading& reading, Share chunks, double* spread,
         double* pilot)
        : packer_(packer),
          store_(store),
          reading_(reading),
          chunks_(chunks),
          rows_(packer.features_),
          levels_(store.decoder.view()),
          chunk_spread_(spread),
          chunk_pilot_(pilot),
          first_draw_(static_cast<std::uint32_t>(reading.epoch) *
                      static_cast<std::uint32_t>(draws_taken<Encoding>)),
          spread_(Encoding::has_bias ? round_up(packer.features_.cols, column_piece) : 0),
          counted_(Encoding::has_bias ? packer.features_.cols : 0),
          weights_(store.weights()),
          weighted_(Encoding::has_bias && !weights_.empty() ? packer.features_.cols : 0),
          standardised_(packer.by_row_ ? packer.features_.cols : 0),
          low_(Encoding::summed > 1 ? round_up(packer.features_.cols, column_piece) : 0) {
      if (reading.pilot != nullptr) pilot_.emplace(*reading.pilot, store.standardization(), packer.isa_);
    }

    List<Kept> kept;
    Index clamped = 0;

    void run() {
      const Index n = packer_.features_.rows;
      const Index d = packer_.features_.cols;
      constexpr Index chunk_groups = statistics_chunk / group_rows;
      // What round_row leaves behind column d of a row is overwritten by the next one.
      Buffer<typename Encoding::Code> base(group_rows * d + column_piece);
      Buffer<std::uint8_t> ups(base.size());
      const Index first_group = chunks_.first * chunk_groups;
      const Index end_group =
          (std::min)(first_group + chunks_.count * chunk_groups, store_.layout().groups());
      Index first_known = 0;  // of ids_
      for (Index group = first_group; group < end_group; ++group) {
        if (group % known_groups == 0 || group == first_group) {
          first_known = group * group_rows;
          store_.row_ids(first_known, (std::min)(known_rows, n - first_known), ids_);
        }
        for (Index r = 0; r < group_rows; ++r) {
          const Index i = group * group_rows + r;
          if (i + rows_ahead < n) look_ahead(ids_[i - first_known + rows_ahead]);
          if (i < n) {
            const Index original = ids_[i - first_known];
            const float* row = rows_(original);
            encode_row(i, original, row, base.data() + r * d, ups.data() + r * d);
            const float weight = weights_.empty() ? 1.0f : weights_[i];
            if (Encoding::has_bias && !weights_.empty()) weigh_spread(static_cast<double>(weight));
            if (pilot_) pilot_->add(row, reading_.labels[static_cast<std::size_t>(i)], weight);
          } else {  // the store promises code 0 behind the last row
            std::fill_n(base.data() + r * d, d, typename Encoding::Code{0});
            std::fill_n(ups.data() + r * d, d, std::uint8_t{0});
          }
        }
        write_group<Encoding>(packer_.isa_, reading_.codes, store_.layout(), packer_.bits_, group,
                              base.data(), ups.data());
        if ((group + 1) % chunk_groups == 0 || group + 1 == end_group) close_chunk(group / chunk_groups);
      }
    }

    /// What one unit of the counted spread is, in standardised units squared.
    double spread_unit(Index j) const {
      constexpr double k = Encoding::summed;
      const double count_unit = Encoding::summed == 1 ? 0x1p-48 : 1.0 / (k * k * (k - 1.0));
      double gap = 1.0;  // standardised units of a row's step
      if constexpr (affine) {
        if (one_step()) gap = k * static_cast<double>(store_.decoder.step[j]);
      } else {
        gap = 1.0 / store_.standardization().scale[j];
      }
      return count_unit * gap * gap;
    }

   private:
    /// Rows are read in the order of the store, which no prefetcher follows. (In line: for g++ 12 a function
    /// that only prefetches does nothing, and its calls are dropped.)
    ZIPML_ALWAYS_INLINE void look_ahead(Index original) const {
      if (!packer_.features_.has_rows()) return;
      const char* row = reinterpret_cast<const char*>(packer_.features_.row(original));
      const Index bytes = packer_.features_.cols * static_cast<Index>(sizeof(float));
      for (Index k = 0; k < bytes; k += 64) __builtin_prefetch(row + k, 0, 2);
    }

    /// Whether the steps of a column are one: then spread_ counts in units of a step squared.
    bool one_step() const { return affine && !packer_.by_row_; }

    void encode_row(Index i, Index original, const float* row, typename Encoding::Code* base,
                    std::uint8_t* ups) {
      if (!packer_.by_row_) {
        if constexpr (affine)
          round_uniform(i, original, row, base, ups);
        else
          encode_values(i, original, row, base, ups, [&](Index j) { return packer_.levels_[j]; });
        return;
      }
      if constexpr (affine) {
        const Standardization& map = store_.standardization();
        ColumnStatistics range;
        for (Index j = 0; j < packer_.features_.cols; ++j) {
          const auto v = static_cast<float>(map.apply(static_cast<double>(row[j]), j));
          standardised_[j] = v;
          range.min = j == 0 ? v : (std::min)(range.min, v);
          range.max = j == 0 ? v : (std::max)(range.max, v);
        }
        if (packer_.options_.scaling == Scaling::row_max_abs) center(range, 0.0);
        const UniformGrid levels(range.min, range.max, 1 << packer_.bits_);
        if (reading_.row_step != nullptr) {
          reading_.row_offset[i] = levels.offset();
          reading_.row_step[i] = levels.step() / static_cast<float>(Encoding::summed);
        }
        encode_values(i, original, standardised_.data(), base, ups, [&](Index) { return levels; });
      }
    }

    /// Uniform levels of columns: vectors of them.
    void round_uniform(Index i, Index original, const float* row, typename Encoding::Code* base,
                       std::uint8_t* ups) requires(affine) {
      constexpr int draws = draws_taken<Encoding>;
      const Index d = packer_.features_.cols;
      std::uint64_t* spread = Encoding::has_bias && Encoding::summed == 1 ? spread_.data() : nullptr;
      const RowRounding how{Random(packer_.options_.seed), static_cast<std::uint64_t>(original), first_draw_,
                            draws, R::stochastic};
      const MatrixView& all = packer_.features_;
      // Up to the end of the matrix, or of a row that was converted.
      const Index readable = all.has_rows() ? (all.rows - 1 - original) * all.stride + d : d;
      bool outside = false;
      if constexpr (Encoding::draws > 1) {
        outside = round_row(packer_.isa_, row, d, readable, packer_.uniform_, packer_.ranges_, how,
                            {base, ups, spread});
      } else if constexpr (Encoding::summed == 1) {
        outside = round_row(packer_.isa_, row, d, readable, packer_.uniform_, packer_.ranges_, how,
                            {base, nullptr, spread});
      } else {
        outside = round_row(packer_.isa_, row, d, readable, packer_.uniform_, packer_.ranges_, how,
                            {low_.data(), ups, spread});
        for (Index j = 0; j < d; ++j) {
          unsigned count = 0;
          for (int t = 0; t < draws; ++t) count += unsigned{ups[j]} >> t & 1u;
          base[j] = static_cast<std::uint16_t>(low_[j] * Encoding::summed + count);
          spread_[j] += count * (Encoding::summed - count);
        }
      }
      if (!outside) [[likely]]
        return;
      for (Index j = 0; j < d; ++j)
        if (packer_.ranges_.outside(j, row[j]))
          keep_outside(i, j, row[j], base[j] + (Encoding::draws > 1 ? ups[j] & 1 : 0));
    }

    template <class LevelsOf>
    void encode_values(Index i, Index original, const float* row, typename Encoding::Code* base,
                       std::uint8_t* ups, const LevelsOf& levels_of) {
      const Random random(packer_.options_.seed);
      const Index d = packer_.features_.cols;
      for (Index first = 0; first < d; first += 4) {
        DrawWords<Encoding> words[4] = {};
        if constexpr (R::stochastic) {
          for (std::size_t draw = 0; draw < words[0].size(); ++draw) {
            const PhiloxWords four =
                random.words(Stream::samples, first_draw_ + static_cast<std::uint32_t>(draw),
                             static_cast<std::uint32_t>(first / 4), static_cast<std::uint64_t>(original));
            for (std::size_t k = 0; k < 4; ++k) words[k][draw] = four[k];
          }
        }
        for (Index k = 0; k < 4 && first + k < d; ++k) {
          const Index j = first + k;
          const auto levels = levels_of(j);
          const Position position = levels.lower(row[j]);
          const int up = encode_position<Encoding>(position, R{}, words[k], base[j], ups[j]);
          if constexpr (Encoding::has_bias) add_spread(j, levels, position, up);
          if (packer_.ranges_.outside(j, row[j])) [[unlikely]]
            keep_outside(i, j, row[j], base[j] + (Encoding::draws > 1 ? ups[j] & 1 : 0));
        }
      }
    }

    /// A value beyond the levels: an outlier, or moved to the end of the levels. (A row's own levels reach
    /// all of its values.)
    void keep_outside(Index i, Index j, float value, int code) {
      if (packer_.by_row_) return;
      if (!reading_.keeps_outliers) {
        if constexpr (!affine) ++clamped;  // uniform levels end at the extremes, up to rounding
        return;
      }
      const Standardization& map = store_.standardization();
      const auto exact = static_cast<float>(map.apply(static_cast<double>(value), j));
      kept.push_back({i, j, exact - levels_.value(i, j, code)});
    }

    /// Counts the variance of what will be read of this value. One draw: P (1 - P) gap^2 with the probability
    /// P = floor(fraction 2^24) / 2^24 that is used, exact in integers. Sums: the estimate from the draws.
    template <class L>
    void add_spread(Index j, const L& levels, Position position, int up) {
      std::uint64_t units = static_cast<std::uint64_t>(up * (Encoding::summed - up));
      if constexpr (Encoding::summed == 1) {
        const auto p = static_cast<std::uint64_t>(position.fraction * 16777216.0f);
        units = p * (16777216u - p);
      }
      if (one_step()) {
        spread_[j] += units;  // below 2^46: a chunk of 1,024 rows fits
      } else {
        const double gap = static_cast<double>(levels.value(position.code + 1)) -
                           static_cast<double>(levels.value(position.code));
        counted_[j] += pinned(static_cast<double>(units) * pinned(gap * gap));
      }
    }

    /// The spread of one row, times its weight.
    void weigh_spread(double weight) {
      for (Index j = 0; j < weighted_.size(); ++j) weighted_[j] += pinned(weight * take_spread(j));
    }
    double take_spread(Index j) {
      return one_step() ? static_cast<double>(std::exchange(spread_[j], 0)) : std::exchange(counted_[j], 0.0);
    }

    void close_chunk(Index chunk) {
      const Index d = packer_.features_.cols;
      if (pilot_) pilot_->close_chunk(chunk_pilot_ + chunk * PilotSums::entries(d));
      if constexpr (!Encoding::has_bias) return;
      for (Index j = 0; j < d; ++j)
        chunk_spread_[chunk * d + j] = weights_.empty() ? take_spread(j) : std::exchange(weighted_[j], 0.0);
    }

    const Packer& packer_;
    const Store& store_;
    Reading reading_;
    Share chunks_;
    MatrixRows rows_;
    CodeLevels levels_;
    double* chunk_spread_;  // d of each chunk
    double* chunk_pilot_;   // PilotSums::entries of each chunk
    std::uint32_t first_draw_;
    Buffer<std::uint64_t> spread_;  // of the chunk, where the steps of a column are one
    Buffer<double> counted_;        // of the chunk, else
    const Buffer<float>& weights_;  // of the rows in store order, or empty
    Buffer<double> weighted_;       // of the chunk, where rows have weights: both are of a row then
    Buffer<float> standardised_;
    Buffer<std::uint8_t> low_;
    std::optional<PilotSums> pilot_;
    static constexpr Index rows_ahead = 16;
    static constexpr Index known_groups = 8 * block_groups;
    static constexpr Index known_rows = known_groups * group_rows + rows_ahead;
    Index ids_[known_rows] = {};  // original rows
  };

  MatrixView features_;
  QuantizeOptions options_;
  int bits_;
  bool by_row_;
  Isa isa_;
  Buffer<ColumnStatistics> columns_;
  ColumnLevels levels_;
  UniformColumns uniform_;  // the levels as vectors, where they are uniform and belong to columns
  ColumnRanges ranges_;     // values outside of these are outliers, or are moved
};

#if ZIPML_HAS_LIBRARY
// The packers of most programs are in the library.
#if ZIPML_DEFINES
#define ZIPML_PACKER template class
#else
#define ZIPML_PACKER extern template class
#endif
ZIPML_PACKER Packer<CorrectedDraw, AffineDecoder, StochasticRounding>;
ZIPML_PACKER Packer<CorrectedDraw, TableDecoder, StochasticRounding>;
ZIPML_PACKER Packer<SeparateDraws<1>, AffineDecoder, StochasticRounding>;
ZIPML_PACKER Packer<SeparateDraws<1>, AffineDecoder, NearestRounding>;
ZIPML_PACKER Packer<SeparateDraws<1>, TableDecoder, NearestRounding>;
ZIPML_PACKER Packer<SeparateDraws<2>, AffineDecoder, StochasticRounding>;
#undef ZIPML_PACKER
#endif

/// The packer of `Encoding` for samples whose levels a policy chooses.
template <class Encoding, class Policy, class R>
Packer<Encoding, typename Policy::Decoder, R> make_packer(const MatrixView& features, const Policy& policy,
                                                          int bits, const QuantizeOptions& options) {
  auto columns = columns_to_fit(features, options);
  auto levels = policy.levels(features, columns, bits);
  return {features, std::move(columns), std::move(levels), bits, options};
}

}  // namespace detail

/// The store of `Encoding` at `bits` bits a draw: rounds every value in every draw, O(n d draws).
/// Throws Error on n = 0, on values or labels that are not finite, on a range beyond float32.
template <class Encoding, LevelsPolicy Policy, class R>
ZIPML_NOINLINE PackedStore<Encoding, typename Policy::Decoder> pack(const MatrixView& features,
                                                                    const LabelView& labels,
                                                                    const Policy& policy, R, int bits,
                                                                    const QuantizeOptions& options) {
  return detail::make_packer<Encoding, Policy, R>(features, policy, bits, options).pack(labels);
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void center(ColumnStatistics& column, double middle) {
  const double reach =
      (std::max)(static_cast<double>(column.max) - middle, middle - static_cast<double>(column.min));
  column.min = static_cast<float>(middle - reach);
  column.max = static_cast<float>(middle + reach);
}

ZIPML_FUNCTION Buffer<ColumnStatistics> columns_to_fit(const MatrixView& features,
                                                       const QuantizeOptions& options) {
  Buffer<ColumnStatistics> columns = column_statistics(features, options.threads);
  if (!(options.outliers >= 0.0 && options.outliers < 0.5))
    throw Error("the fraction of outliers is out of range", "0 <= fraction < 0.5",
                number_text(options.outliers));
  if (options.outliers > 0.0) {
    if (options.scales_rows())
      throw Error("outliers are clipped from columns", "scaling by column, or no outliers", "scaling by row");
    const Buffer<Range> ranges = clipping_ranges(features, options.outliers);
    for (Index j = 0; j < features.cols; ++j) {
      columns[j].min = ranges[j].min;
      columns[j].max = ranges[j].max;
    }
  }
  if (options.scaling == Scaling::column_max_abs)
    for (Index j = 0; j < features.cols; ++j) center(columns[j], options.standardize ? columns[j].mean : 0.0);
  return columns;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
