#pragma once
/// \file
/// Room training: rows of float32: samples in full precision, and a few packed rows that are decoded first,
/// for batches too small for the kernels of groups. Nothing is folded; outliers are values like others.

#include <algorithm>

#include <zipml/base/vector_math.hpp>
#include <zipml/kernels/row_decoder.hpp>
#include <zipml/training/readers/reader.hpp>

namespace zipml::inline ZIPML_ABI {

/// Samples that are float32 rows.
class FloatRows : public Reader {
 public:
  /// They stay in the first-level cache: memory then works on the next rows all the time, a fifth faster than
  /// in turns with the processor.
  FloatRows(const KernelTable& kernels, const SampleView& samples, PassTeam& team)
      : Reader(kernels, samples, team) {
    most_rows_ = rows_of(16 * 1024, 4096, group_rows);
  }

  bool reads_groups() const override { return false; }

  void margins(const Pass& pass, const BatchModels& batch, unsigned draws, PassSlots& z) override;

  void accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) override;

 protected:
  virtual DenseRows rows(const Pass& pass, int /*draw*/) {
    // The kernels read up to 15 floats behind their last row.
    const Index behind = (samples_.rows - pass.first - pass.count) * samples_.stride;
    if (!samples_.has_tail && behind < 16) return copied(pass);
    return {samples_.row(pass.first), samples_.stride, d_, pass.count};
  }

 private:
  DenseRows some(const DenseRows& all, Share rows, Share columns, int part) {
    return {all.values + rows.first * all.stride + columns.first, all.stride, columns.count, rows.count,
            team_.ahead_of(part)};
  }
  /// The last rows, where the kernels may read behind them.
  DenseRows copied(const Pass& pass);

  Buffer<float> last_;
};

/// Fewer packed rows than a group, decoded once for every draw that is asked for, outliers included.
class DecodedRows : public FloatRows {
 public:
  DecodedRows(const KernelTable& kernels, const SampleView& samples, PassTeam& team)
      : FloatRows(kernels, samples, team), decoder_(samples), values_(samples.draws * group_rows * padded_) {}

  void begin_pass(const Pass&) override { decoded_ = 0; }

 protected:
  DenseRows rows(const Pass& pass, int draw) override;

 private:
  RowDecoder decoder_;
  unsigned decoded_ = 0;  // draws that are
  Buffer<float> values_;  // of each draw, padded
};

#if ZIPML_DEFINES

ZIPML_FUNCTION DenseRows FloatRows::copied(const Pass& pass) {
  const Index stride = padded(d_);
  if (last_.size() < pass.count * stride) last_ = Buffer<float>(pass.count * stride);
  for (Index i = 0; i < pass.count; ++i)
    std::copy_n(samples_.row(pass.first + i), d_, last_.data() + i * stride);
  return {last_.data(), stride, d_, pass.count};
}

ZIPML_FUNCTION void FloatRows::margins(const Pass& pass, const BatchModels& batch, unsigned draws,
                                       PassSlots& z) {
  for (int draw = 0; draw < samples_.draws; ++draw) {
    if ((draws >> draw & 1u) == 0) continue;
    const DenseRows all = rows(pass, draw);
    team_.by_rows(pass.count, d_, [&](int part, Share share) {
      kernels_.margins(some(all, share, {0, d_}, part), models_of(batch),
                       from_slot(z.block(draw), share.first));
    });
    for (std::size_t m = 0; m < batch.models.size(); ++m) {
      float* values = z.of(static_cast<int>(m), draw);
      const auto base = static_cast<float>(batch.models[m].base);
      for (Index i = 0; i < pass.count; ++i) values[i] += base;
    }
  }
}

ZIPML_FUNCTION void FloatRows::accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) {
  const ModelBlock<float> residuals = r.block(draw);
  for (int m = 0; m < residuals.count; ++m)
    for (Index i = 0; i < pass.count; ++i) sums[m].residuals += static_cast<double>(residuals[m][i]);
  const DenseRows all = rows(pass, draw);
  team_.by_columns(pass.count, d_, [&](int part, Share columns) {
    kernels_.accumulate(some(all, {0, pass.count}, columns, part), constant(residuals),
                        sums.floats(columns.first));
  });
}

ZIPML_FUNCTION DenseRows DecodedRows::rows(const Pass& pass, int draw) {
  float* rows = values_.data() + draw * group_rows * padded_;
  if ((decoded_ >> draw & 1u) == 0) {
    for (Index i = 0; i < pass.count; ++i) decoder_.read(kernels_, pass.first + i, draw, rows + i * padded_);
    for (const Outlier& outlier : pass.outliers)
      rows[outlier.row * padded_ + outlier.column] += outlier.correction;
    decoded_ |= 1u << draw;
  }
  return {rows, padded_, d_, pass.count};
}

#endif

}  // namespace zipml::inline ZIPML_ABI
