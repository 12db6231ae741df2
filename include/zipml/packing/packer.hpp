#pragma once
/// \file
/// Room packing: from float32 samples to a packed store.
///
/// Rows are read once, in the user's order, and each row's codes are placed where the store wants them: a
/// matrix is read as fast as memory allows however rows are shuffled, and what comes from a stream has the
/// same bits. All sums over rows are either of integers or over chunks of rows in the user's order.

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include <zipml/base/error.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/base/views.hpp>
#include <zipml/packing/column_fit.hpp>
#include <zipml/packing/column_sums.hpp>
#include <zipml/packing/decoders.hpp>
#include <zipml/packing/kept_values.hpp>
#include <zipml/packing/levels_policy.hpp>
#include <zipml/packing/pilot_fit.hpp>
#include <zipml/packing/place_codes.hpp>
#include <zipml/packing/row_rounding.hpp>
#include <zipml/packing/spread.hpp>
#include <zipml/quantization/rounding.hpp>
#include <zipml/storage/packed_store.hpp>

namespace zipml::inline ZIPML_ABI {

namespace detail {

/// Places the codes of row i in every plane: `base` is what the base planes store, `ups` one bit per draw
/// where draws are apart.
template <class Encoding>
void write_row(Isa isa, std::uint8_t* codes, const PlaneLayout& layout, int bits, Index i,
               const typename Encoding::Code* base, const std::uint8_t* ups) {
  const Index group = i / group_rows;
  const auto row = static_cast<int>(i % group_rows);
  const auto place = [&](const Plane& plane, const auto* source, int shift) {
    const int together = 8 / plane.width;  // rows of a panel
    std::uint8_t* const panel = codes + layout.offset(plane, group) + row / together * layout.cols;
    place_codes(isa, plane.width, source, layout.cols, shift, row % together, panel);
  };
  const PlaneList planes = Encoding::base_planes(bits);
  for (int p = 0; p < planes.count; ++p) place(planes[p], base, planes[p].shift);
  if constexpr (Encoding::draws > 1)
    for (int draw = 0; draw < Encoding::draws; ++draw)
      place({1, 0, Encoding::base_bits(bits) + draw}, ups, draw);
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

/// Rounds samples to the codes of a store: once, or again for each epoch of fresh draws. Holds a view of the
/// samples. The width is a number here: what differs between widths is a shift, and one packer serves all.
template <class Encoding, class Decoder, class R>
class Packer {
 public:
  using Store = PackedStore<Encoding, Decoder>;
  using ColumnLevels = typename Decoder::ColumnLevels;

  /// `columns` as fit_columns gives them, of a sample or not, `levels` fitted to these.
  Packer(const MatrixView& features, Buffer<ColumnStatistics> columns, bool sampled, ColumnLevels levels,
         int bits, const QuantizeOptions& options)
      : features_(features),
        options_(options),
        bits_(bits),
        by_row_(options.scales_rows()),
        sampled_(sampled),
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
    if constexpr (Encoding::has_bias) spread_scale_ = spread_scale();
    if constexpr (!affine) {
      const ColumnTables& tables = tables_of(levels_);
      if (tables.count <= TableColumns::most_levels)
        tables_ = TableColumns(tables.values.data(), spread_scale_, features.cols, tables.count);
    }
  }

  Store pack(const LabelView& labels) const {
    Store store(StoreHeader(features_, labels, columns_, options_.standardize, options_.seed), bits_);
    const bool keep = options_.outliers > 0.0;
    Reading reading{.codes = store.mutable_codes().data(),
                    .keeps_outliers = keep,
                    .sums_columns = sampled_,
                    .pilot_loss = options_.pilot_loss};
    if constexpr (affine)
      if (by_row_) {
        store.decoder.row_offset = Buffer<float>(features_.rows);
        store.decoder.row_step = Buffer<float>(features_.rows);
        reading.row_offset = store.decoder.row_offset.data();
        reading.row_step = store.decoder.row_step.data();
      }
    const Standardization centred = store.standardization();  // the store's own, or that of a sample
    if (const Index rows = pilot_rows(features_.rows, features_.cols, options_.pilot); rows > 0) {
      reading.pilot_loss.see(store.targets().statistics(0));
      store.pilot = fit_pilot(features_, labels.values, store.weights().span(), store.placement(), centred,
                              reading.pilot_loss, rows, options_.threads, isa_);
      if (!store.pilot.empty()) {
        store.pilot.labels = label_fingerprint(store.targets().of(0));
        reading.pilot = &store.pilot;
        reading.labels = labels.values;
      }
    }
    Sums sums = read(store, reading);
    if (sampled_) store.standardise(sums.columns, options_.standardize);
    fill_decoder(levels_, store.standardization(), Encoding::summed, bits_, by_row_, store.decoder);
    if constexpr (Encoding::has_bias) {
      store.bias = Buffer<float>(features_.cols);
      take_bias(store, sums);
    }
    if (keep)
      store.outliers = outliers_of({sums.kept.data(), sums.kept.size()}, store.standardization(),
                                   store.decoder.view(), features_.rows);
    if (reading.pilot != nullptr)
      finish_pilot(store.pilot, centred, store.standardization(), sums.pilot.span(), features_.rows);
    store.clamped = sums.clamped;
    return store;
  }

  /// Draws every value of a packed store anew, for a later epoch: only codes and bias terms change.
  void draw_again(Store& store, int epoch) const {
    const Sums sums = read(store, {.codes = store.mutable_codes().data(), .epoch = epoch});
    if constexpr (Encoding::has_bias) take_bias(store, sums);
  }

 private:
  static constexpr bool affine = std::same_as<Decoder, AffineDecoder>;
  static constexpr bool shared = std::same_as<Decoder, SharedTableDecoder>;
  static const ColumnTables& tables_of(const ColumnTables& levels) { return levels; }
  static const ColumnTables& tables_of(const SharedLevels& levels) { return levels.tables; }

  /// One reading of the samples, and where its results go.
  struct Reading {
    std::uint8_t* codes;
    int epoch = 0;
    float* row_offset = nullptr;  // where the scaling of rows goes, when it is not known yet
    float* row_step = nullptr;
    bool keeps_outliers = false;
    bool sums_columns = false;
    const Pilot* pilot = nullptr;  // whose gradient is summed
    PilotLoss pilot_loss = {};
    std::span<const float> labels = {};  // in the user's order, for the pilot
  };
  /// What a reading has summed.
  struct Sums {
    Buffer<double> spread;  // of each column, in units of spread_unit
    Buffer<double> pilot;   // of each chunk
    Buffer<ColumnStatistics> columns;
    List<List<KeptValue>> kept;  // of each thread
    Index clamped = 0;
  };

  class Pass;

  Sums read(const Store& store, const Reading& reading) const {
    const Index d = features_.cols;
    const Index chunks = (features_.rows + statistics_chunk - 1) / statistics_chunk;
    Sums sums;
    Buffer<double> of_columns(
        reading.sums_columns ? checked_product(chunks, ColumnSums::entries(d), "the sums of columns") : 0);
    if (reading.pilot != nullptr)
      sums.pilot = Buffer<double>(checked_product(chunks, PilotSums::entries(d), "the pilot's sums"));
    ThreadTeam team(thread_count(options_.threads));
    List<Pass> passes;
    passes.reserve(static_cast<std::size_t>(team.size()));
    for (int part = 0; part < team.size(); ++part)
      passes.emplace_back(*this, store, reading, share_of(chunks, 1, part, team.size()),
                          share_of(features_.rows, block_rows, part, team.size()), of_columns.data(),
                          sums.pilot.data());
    if (features_.has_rows()) {
      team.run([&](int part) { passes[static_cast<std::size_t>(part)].run(features_, 0); });
    } else {  // some rows at a time, in memory, for all threads
      const Index together = (std::min)(rows_together(d), features_.rows);
      auto values = Buffer<float>::uninitialised(checked_product(together, d, "some rows"));
      for (Index first = 0; first < features_.rows; first += together) {
        const MatrixView some{values.data(), (std::min)(together, features_.rows - first), d, d};
        team.run([&](int part) {
          const Share mine = share_of(some.rows, 1, part, team.size());
          if (mine.count > 0) features_.read(first + mine.first, mine.count, values.data() + mine.first * d);
        });
        team.run([&](int part) { passes[static_cast<std::size_t>(part)].run(some, first); });
      }
    }
    List<ColumnSums> columns;
    SpreadTotals spread(Encoding::has_bias ? d : 0);
    for (Pass& pass : passes) {
      pass.finish();
      if (!pass.finite) require_finite(features_, "the sample matrix");  // names the first
      if (pass.columns) columns.push_back(std::move(*pass.columns));
      spread.add(pass.spread);
      sums.clamped += pass.clamped;
      sums.kept.push_back(std::move(pass.kept));
    }
    sums.spread = spread.values();
    if (reading.sums_columns)
      sums.columns =
          statistics_of(columns_, of_columns.span(), {columns.data(), columns.size()}, features_.rows);
    return sums;
  }

  /// A multiple of the rows that a pass looks at together; 4 MiB of them where they are not very wide.
  static constexpr Index rows_together(Index cols) {
    return (std::max)(Pass::piece, (Index{1} << 20) / std::max<Index>(cols, 1) / Pass::piece * Pass::piece);
  }

  /// Bias terms from what was counted of the spread.
  void take_bias(Store& store, const Sums& sums) const {
    double weights = static_cast<double>(features_.rows);
    if (!store.weights().empty()) weights *= SpreadTotals::weight_one / largest_weight(store);
    for (Index j = 0; j < features_.cols; ++j)
      store.bias[j] = static_cast<float>(sums.spread[j] * spread_unit(store, j) / weights);
  }
  static double largest_weight(const Store& store) {
    double largest = 0.0;
    for (const float w : store.weights()) largest = (std::max)(largest, static_cast<double>(w));
    return largest;
  }

  /// Whether the steps of a column are one: then a spread is P (2^24 - P), or up (k - up) of sums of draws.
  bool one_step() const { return affine && !by_row_; }
  /// Else each interval of a table has a factor that makes integers of the variances, which are the same in
  /// any order: 2^46 is the square of the column's whole width.
  Buffer<float> spread_scale() const {
    if constexpr (affine) {
      return {};
    } else {
      const int count = levels_[0].count;
      Buffer<float> scale(checked_product(features_.cols, count, "the intervals of levels"));
      for (Index j = 0; j < features_.cols; ++j) {
        const double width = width_of(j);
        for (int k = 0; k + 1 < count && width > 0.0; ++k) {
          const double gap =
              (static_cast<double>(levels_[j].value(k + 1)) - static_cast<double>(levels_[j].value(k))) /
              width;
          scale[j * count + k] = static_cast<float>(gap * gap * 0x1p46 * count_unit);
        }
      }
      return scale;
    }
  }
  double width_of(Index j) const {
    if constexpr (affine) {
      return 0.0;  // has no table
    } else {
      const LevelTable table = levels_[j];
      return static_cast<double>(table.value(table.count - 1)) - static_cast<double>(table.value(0));
    }
  }
  /// The variance, in gaps squared, that one of P (2^24 - P), or of up (k - up), stands for.
  static constexpr double count_unit =
      Encoding::summed == 1
          ? 0x1p-48
          : 1.0 / (Encoding::summed * Encoding::summed * (std::max)(Encoding::summed - 1.0, 1.0));
  static constexpr double row_unit = 0x1p-30;  // of variances where rows are scaled, standardised units

  /// What one of the counted spread is, in standardised units squared.
  double spread_unit(const Store& store, Index j) const {
    if constexpr (affine) {
      if (by_row_) return row_unit;
      const double gap = Encoding::summed * static_cast<double>(store.decoder.step[j]);
      return count_unit * gap * gap;
    } else {
      const double width = width_of(j) / store.standardization().scale[j];
      return width * width * 0x1p-46;
    }
  }

  /// The reading of one thread: the sums of a share of the chunks, and the codes of a share of the places.
  class Pass {
   public:
    Pass(const Packer& packer, const Store& store, const Reading& reading, Share chunks, Share places,
         double* of_columns, double* of_pilot)
        : spread(Encoding::has_bias ? packer.features_.cols : 0),
          packer_(packer),
          store_(store),
          reading_(reading),
          chunks_(chunks),
          places_(places),
          chunk_columns_(of_columns),
          chunk_pilot_(of_pilot),
          first_draw_(static_cast<std::uint32_t>(reading.epoch) *
                      static_cast<std::uint32_t>(draws_taken<Encoding>)),
          base_(round_up(packer.features_.cols, column_piece)),
          ups_(base_.size()),
          low_(Encoding::summed > 1 ? base_.size() : 0),
          outside_(base_.size() / 32 + 2),
          row_spread_(Encoding::has_bias ? base_.size() : 0),
          standardised_(packer.by_row_ ? packer.features_.cols : 0) {
      if (reading.pilot != nullptr)
        pilot_.emplace(*reading.pilot, reading.pilot_loss, store.standardization(), packer.isa_);
      if (reading.sums_columns) columns.emplace(packer.columns_);
      if (!store.weights().empty()) spread.weigh(largest_weight(store));
    }

    std::optional<ColumnSums> columns;
    SpreadTotals spread;
    List<KeptValue> kept;
    Index clamped = 0;
    bool finite = true;

    static constexpr Index piece = 64;

    /// Rows in the user's order, `rows` of them from row `start` on, a multiple of `piece`, eight at a time:
    /// first what is summed of them, then their codes, while they are in cache.
    void run(const MatrixView& rows, Index start) {
      const bool sums = columns.has_value() || pilot_.has_value();
      constexpr Index ahead = 2 * group_rows;  // rows whose codes are prefetched
      Index places[piece + ahead] = {};
      const Index n = packer_.features_.rows;
      for (Index at = 0; at < rows.rows && finite; at += piece) {
        const Index first = start + at;
        const Index count = (std::min)(piece, rows.rows - at);
        store_.placement().places(first, (std::min)(piece + ahead, n - first), places);
        const bool is_summed = sums && within(chunks_, first / statistics_chunk);
        for (Index k = 0; k < count; k += group_rows) {
          const Index together = (std::min)(group_rows, count - k);
          for (Index r = k + ahead; r < (std::min)(k + ahead + group_rows, n - first); ++r)
            if (is_mine(places[r])) prefetch_codes(places[r]);
          if (is_summed && !sum(rows, at + k, first + k, places + k, together)) {
            finite = false;
            return;
          }
          for (Index r = k; r < k + together; ++r) {
            // Up to the end of the matrix.
            readable_ = (rows.rows - 1 - (at + r)) * rows.stride + rows.cols;
            if (is_mine(places[r])) encode(places[r], first + r, rows.row(at + r));
          }
        }
        if (is_summed && ((first + count) % statistics_chunk == 0 || first + count == n))
          close_chunk(first / statistics_chunk);
      }
    }
    /// After the last row.
    void finish() { spread.flush(row_spread_); }

   private:
    static bool within(Share share, Index i) { return i >= share.first && i < share.first + share.count; }
    bool is_mine(Index place) const { return within(places_, place); }

    /// Where the codes of a row go: rows lie in the order of the store, which no prefetcher follows. (In
    /// line: for g++ 12 a function that only prefetches does nothing, and its calls are dropped.)
    ZIPML_ALWAYS_INLINE void prefetch_codes(Index place) const {
      const PlaneLayout& layout = store_.layout();
      const Index group = place / group_rows;
      const Index r = place % group_rows;
      const PlaneList planes = Encoding::base_planes(packer_.bits_);
      for (int p = 0; p < planes.count; ++p) {
        const Index panel = layout.offset(planes[p], group) + r / (8 / planes[p].width) * layout.cols;
        for (Index k = 0; k < layout.cols + 63; k += 64) __builtin_prefetch(reading_.codes + panel + k, 0, 2);
      }
    }

    /// Rows of `rows` from `at` on, row `first` of the user's. False when a value is not finite.
    bool sum(const MatrixView& rows, Index at, Index first, const Index* places, Index count) {
      std::array<const float*, group_rows> some;
      for (Index r = 0; r < count; ++r) some[static_cast<std::size_t>(r)] = rows.row(at + r);
      if (columns && !columns->add(packer_.isa_, {some.data(), static_cast<std::size_t>(count)}))
        return false;
      if (!pilot_) return true;
      const Buffer<float>& weights = store_.weights();
      std::array<float, group_rows> of_rows;
      for (Index r = 0; r < count && !weights.empty(); ++r)
        of_rows[static_cast<std::size_t>(r)] = weights[places[r]];
      pilot_->add({some.data(), static_cast<std::size_t>(count)}, reading_.labels.data() + first,
                  weights.empty() ? nullptr : of_rows.data());
      return true;
    }
    void close_chunk(Index chunk) {
      const Index d = packer_.features_.cols;
      if (columns) columns->close_chunk(chunk_columns_ + chunk * ColumnSums::entries(d));
      if (pilot_) pilot_->close_chunk(chunk_pilot_ + chunk * PilotSums::entries(d));
    }

    /// Rounds row `original` of the user's and puts it at its place.
    void encode(Index place, Index original, const float* row) {
      encode_row(place, original, row);
      write_row<Encoding>(packer_.isa_, reading_.codes, store_.layout(), packer_.bits_, place, base_.data(),
                          ups_.data());
      if constexpr (Encoding::has_bias)
        spread.add_row(row_spread_,
                       store_.weights().empty() ? 1.0 : static_cast<double>(store_.weights()[place]));
    }

    void encode_row(Index i, Index original, const float* row) {
      if (!packer_.by_row_) {
        if constexpr (affine) {
          round_vectors(i, original, row, packer_.uniform_);
        } else {
          if (packer_.tables_.count > 0)
            round_vectors(i, original, row, packer_.tables_);
          else
            encode_values(i, original, row, [&](Index j) { return packer_.levels_[j]; });
        }
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
        const auto gap = static_cast<double>(levels.step());
        row_scale_ = (std::min)(gap * gap * count_unit / row_unit, 0x1p52 * count_unit);
        encode_values(i, original, standardised_.data(), [&](Index) { return levels; });
      }
    }

    /// Levels of columns: vectors of them.
    template <class Columns>
    void round_vectors(Index i, Index original, const float* row, const Columns& columns_of_levels) {
      constexpr int draws = draws_taken<Encoding>;
      const Index d = packer_.features_.cols;
      std::uint64_t* spread_of_row =
          Encoding::has_bias && Encoding::summed == 1 ? row_spread_.data() : nullptr;
      const RowRounding how{Random(packer_.options_.seed), static_cast<std::uint64_t>(original), first_draw_,
                            draws, R::stochastic};
      bool outside = false;
      const auto round = [&](std::uint8_t* low, std::uint8_t* ups) {
        return round_row(packer_.isa_, row, d, readable_, columns_of_levels, packer_.ranges_, how,
                         {low, ups, spread_of_row, outside_.data()});
      };
      if constexpr (Encoding::draws > 1) {
        outside = round(base_.data(), ups_.data());
      } else if constexpr (Encoding::summed == 1) {
        outside = round(base_.data(), nullptr);
      } else {
        outside = round(low_.data(), ups_.data());
        for (Index j = 0; j < d; ++j) {
          unsigned count = 0;
          for (int t = 0; t < draws; ++t) count += unsigned{ups_[j]} >> t & 1u;
          base_[j] = static_cast<std::uint16_t>(low_[j] * Encoding::summed + count);
          add_spread(j, low_[j], 0, static_cast<int>(count));
        }
      }
      if (!outside) [[likely]]
        return;
      for (Index word = 0; word < (d + 31) / 32; ++word)
        for (std::uint32_t bits = outside_[word]; bits != 0; bits &= bits - 1) {
          const Index j = 32 * word + std::countr_zero(bits);
          if (j < d) keep_outside(i, j, row[j]);
        }
    }

    template <class LevelsOf>
    void encode_values(Index i, Index original, const float* row, const LevelsOf& levels_of) {
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
          const int up = encode_position<Encoding>(position, R{}, words[k], base_[j], ups_[j]);
          if constexpr (Encoding::has_bias)
            add_spread(j, position.code, static_cast<std::uint32_t>(position.fraction * 16777216.0f), up);
          if (packer_.ranges_.outside(j, row[j])) [[unlikely]]
            keep_outside(i, j, row[j]);
        }
      }
    }

    /// A value beyond the levels: an outlier, or moved to the end of the levels. (A row's own levels reach
    /// all of its values.)
    void keep_outside(Index i, Index j, float value) {
      if (packer_.by_row_) return;
      if (!reading_.keeps_outliers) {
        if constexpr (!affine) ++clamped;  // uniform levels end at the extremes, up to rounding
        return;
      }
      const int code = base_[j] + (Encoding::draws > 1 ? ups_[j] & 1 : 0);
      kept.push_back({i, static_cast<std::int32_t>(j), code, value});
    }

    /// Counts the variance of what will be read of a value. One draw: p (2^24 - p), 2^-24 p the probability
    /// of going up. Sums: the estimate up (k - up) from the draws. Where steps are not one, times what
    /// belongs to the interval above level `code`.
    void add_spread(Index j, int code, std::uint32_t p, int up) {
      const std::uint64_t units = Encoding::summed == 1
                                      ? std::uint64_t{p} * (16777216u - p)
                                      : static_cast<std::uint64_t>(up * (Encoding::summed - up));
      if (packer_.one_step()) {
        row_spread_[j] += units;
        return;
      }
      double scale = row_scale_;
      if constexpr (!affine)
        scale = static_cast<double>(packer_.spread_scale_[j * packer_.levels_[0].count + code]);
      row_spread_[j] += static_cast<std::uint64_t>(static_cast<double>(units) * scale);
    }

    const Packer& packer_;
    const Store& store_;
    Reading reading_;
    Share chunks_;
    Share places_;
    double* chunk_columns_;  // ColumnSums::entries of each chunk
    double* chunk_pilot_;    // PilotSums::entries of each chunk
    std::uint32_t first_draw_;
    // Of the row that is encoded:
    Buffer<typename Encoding::Code> base_;
    Buffer<std::uint8_t> ups_, low_;
    Buffer<std::uint32_t> outside_;
    Buffer<std::uint64_t> row_spread_;  // and of those before, until they are counted
    Buffer<float> standardised_;
    double row_scale_ = 1.0;
    Index readable_ = 0;  // floats from its beginning to the end of memory
    std::optional<PilotSums> pilot_;
  };

  MatrixView features_;
  QuantizeOptions options_;
  int bits_;
  bool by_row_;
  bool sampled_;
  Isa isa_;
  Buffer<ColumnStatistics> columns_;
  ColumnLevels levels_;
  UniformColumns uniform_;      // the levels as vectors, where they are uniform and belong to columns
  ColumnRanges ranges_;         // values outside of these are outliers, or are moved
  TableColumns tables_;         // or tables of few levels
  Buffer<float> spread_scale_;  // of each interval of a column's table
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
  ColumnFit fit = fit_columns(features, options);
  auto levels = policy.levels(fit.rows, fit.columns, bits);
  return {features, std::move(fit.columns), fit.sampled, std::move(levels), bits, options};
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

}  // namespace zipml::inline ZIPML_ABI
