#pragma once
/// \file
/// Room training: codes multiplied with models in float32: affine levels, which are folded into the model,
/// and tables of levels, one for each column.
///
/// Affine levels: a_ij = o_j + s_j (p_i + t_i k_ij) with codes k (p_i = 0, t_i = 1 unless rows are scaled;
/// entries of a table in the place of k where all columns share one), u = s x:
///     z_i = <o, x> + p_i sum(u) + t_i <k_i, u> + c
///     g_j = o_j sum_i r_i + s_j (sum_i r_i p_i + sum_i t_i r_i k_ij)
///
/// Outliers add correction * x_j to the margin of their row and r_i * correction to the gradient of their
/// column, in store order.

#include <algorithm>
#include <cstring>

#include <zipml/base/vector_math.hpp>
#include <zipml/training/folded_model.hpp>
#include <zipml/training/readers/reader.hpp>

namespace zipml::inline ZIPML_ABI {

/// What the readers of codes in float32 share: residuals are summed, outliers accumulated.
class PackedFloats : public Reader {
 public:
  PackedFloats(const KernelTable& kernels, const SampleView& samples, PassTeam& team)
      : Reader(kernels, samples, team) {
    most_rows_ = rows_of(256 * 1024, 4096, group_rows);
  }

  void accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) override;

 protected:
  /// Scales residuals by their rows.
  virtual void scale(const Pass&, float* /*residuals*/, GradientSums::OfModel&) {}
  virtual void add_rows(const Pass& pass, const PlaneList& planes, const PackedView& some, Share columns,
                        ModelBlock<const float> residuals, ModelBlock<float> gradients) = 0;
};

/// Tables of levels for each column.
class ColumnTableFloats : public PackedFloats {
 public:
  using PackedFloats::PackedFloats;

  void margins(const Pass& pass, const BatchModels& batch, unsigned draws, PassSlots& z) override;

 protected:
  void add_rows(const Pass& pass, const PlaneList& planes, const PackedView& some, Share columns,
                ModelBlock<const float> residuals, ModelBlock<float> gradients) override {
    kernels_.accumulate(some, planes, table(columns.first), pass.groups, residuals, gradients);
  }

 private:
  TableView table(Index first_column) const {
    return {samples_.levels.tables + first_column * samples_.levels.levels, samples_.levels.levels};
  }
};

/// Affine levels, or one table for all columns.
class AffineFloats : public PackedFloats {
 public:
  AffineFloats(const KernelTable& kernels, const SampleView& samples, PassTeam& team, int models)
      : PackedFloats(kernels, samples, team),
        folded_(samples.levels.step, samples.levels.offset, samples.cols, models, {},
                samples.levels.scales_rows()) {}

  void begin_batch(BatchModels& batch) override;

  void margins(const Pass& pass, const BatchModels& batch, unsigned draws, PassSlots& z) override;

  GradientFrame frame(GradientSums& sums, int m) override;

 protected:
  void scale(const Pass& pass, float* residuals, GradientSums::OfModel& sums) override;
  void add_rows(const Pass& pass, const PlaneList& planes, const PackedView& some, Share,
                ModelBlock<const float> residuals, ModelBlock<float> gradients) override;

 private:
  bool has_table() const { return samples_.levels.entries != nullptr; }
  TableView entries() const { return {samples_.levels.entry_values, 0}; }
  Index row_of_slot(const Pass& pass, Index slot) const {
    return (std::min)(pass.groups.first * group_rows + slot, samples_.rows - 1);
  }

  void multiply(const Pass& pass, const PlaneList& planes, ModelBlock<float> out);
  void scale_margins(const Pass& pass, int m, float* z) const;

  FoldedModels folded_;
  Random unused_{0};  // nothing is rounded
  bool all_same_ =
      true;  // the folded models of the batch, as those of no weights are: their margins are formed once
  PassSlots shared_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION void PackedFloats::accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) {
  const ModelBlock<float> residuals = r.block(draw);
  const Index used = pass.lead + pass.count;
  for (int m = 0; m < residuals.count; ++m) {
    float* of_model = residuals[m];
    std::fill_n(of_model, pass.lead, 0.0f);
    std::fill(of_model + used, of_model + pass.groups.rows(), 0.0f);
    sums[m].residuals += detail::sum(of_model, used);
    float* outliers = sums.outliers(m);
    for (const Outlier& outlier : pass.outliers)
      outliers[outlier.column] += pinned(of_model[pass.lead + outlier.row] * outlier.correction);
    scale(pass, of_model, sums[m]);
  }
  const PlaneList& draw_planes = planes(draw);
  team_.by_columns(pass.count, d_, [&](int part, Share columns) {
    PackedView some = view(part);
    some.codes += columns.first;
    some.width = columns.count;
    add_rows(pass, draw_planes, some, columns, constant(residuals), sums.floats(columns.first));
  });
}

ZIPML_FUNCTION void ColumnTableFloats::margins(const Pass& pass, const BatchModels& batch, unsigned draws,
                                               PassSlots& z) {
  for (int draw = 0; draw < samples_.draws; ++draw) {
    if ((draws >> draw & 1u) == 0) continue;
    const PlaneList& draw_planes = planes(draw);
    by_groups(pass, [&](int part, GroupRange groups, Index slot) {
      kernels_.margins(view(part), draw_planes, table(0), groups, models_of(batch),
                       from_slot(z.block(draw), slot));
    });
    finish(pass, batch, draw, z);
  }
}

ZIPML_FUNCTION void AffineFloats::begin_batch(BatchModels& batch) {
  for (std::size_t m = 0; m < batch.models.size(); ++m) {
    BatchModels::Model& model = batch.models[m];
    model.base += folded_.fold(kernels_, unused_, batch.batch, static_cast<int>(m), model.x, false, team_);
  }
  const ModelBlock<const float> values = folded_.values();
  all_same_ = true;
  for (int m = 1; m < values.count && all_same_; ++m)
    all_same_ = std::memcmp(values[0], values[m], static_cast<std::size_t>(padded_) * sizeof(float)) == 0;
}

ZIPML_FUNCTION void AffineFloats::margins(const Pass& pass, const BatchModels& batch, unsigned draws,
                                          PassSlots& z) {
  const PlaneList& base = base_planes();
  // The planes that draws share are read once where several draws are asked for.
  const bool shares = (draws & (draws - 1)) != 0 && base.count > 0 && !has_table();
  if (shares) {
    if (shared_.places() < z.places())
      shared_ = PassSlots(static_cast<int>(batch.models.size()), 1, z.places());
    multiply(pass, base, shared_.block(0));
  }
  for (int draw = 0; draw < samples_.draws; ++draw) {
    if ((draws >> draw & 1u) == 0) continue;
    const ModelBlock<float> out = z.block(draw);
    if (shares) {
      PlaneList plane;
      plane.push_draw_plane(base.code_bits + draw);
      multiply(pass, plane, out);
      for (int m = 0; m < out.count; ++m)
        for (Index i = 0; i < pass.groups.rows(); ++i) out[m][i] += shared_.of(m, 0)[i];
    } else {
      multiply(pass, planes(draw), out);
    }
    if (samples_.levels.scales_rows())
      for (int m = 0; m < out.count; ++m) scale_margins(pass, m, out[m]);
    finish(pass, batch, draw, z);
  }
}

ZIPML_FUNCTION GradientFrame AffineFloats::frame(GradientSums& sums, int m) {
  GradientFrame frame = Reader::frame(sums, m);
  frame.step = folded_.step();
  frame.offset = folded_.offset();
  return frame;
}

ZIPML_FUNCTION void AffineFloats::scale(const Pass& pass, float* residuals, GradientSums::OfModel& sums) {
  if (!samples_.levels.scales_rows()) return;
  for (Index i = 0; i < pass.groups.rows(); ++i) {
    const Index row = row_of_slot(pass, i);
    sums.inner += static_cast<double>(pinned(residuals[i] * samples_.levels.row_offset[row]));
    residuals[i] *= samples_.levels.row_step[row];
  }
}

ZIPML_FUNCTION void AffineFloats::add_rows(const Pass& pass, const PlaneList& planes, const PackedView& some,
                                           Share, ModelBlock<const float> residuals,
                                           ModelBlock<float> gradients) {
  if (has_table())
    kernels_.accumulate(some, planes, entries(), pass.groups, residuals, gradients);
  else
    kernels_.accumulate(some, planes, pass.groups, residuals, gradients);
}

ZIPML_FUNCTION void AffineFloats::multiply(const Pass& pass, const PlaneList& planes, ModelBlock<float> out) {
  ModelBlock<const float> models = folded_.values();
  ModelBlock<float> to = out;
  if (all_same_) models.count = to.count = 1;
  by_groups(pass, [&](int part, GroupRange groups, Index slot) {
    if (has_table())
      kernels_.margins(view(part), planes, entries(), groups, models, from_slot(to, slot));
    else
      kernels_.margins(view(part), planes, groups, models, from_slot(to, slot));
  });
  for (int m = to.count; m < out.count; ++m) std::copy_n(out[0], pass.groups.rows(), out[m]);
}

ZIPML_FUNCTION void AffineFloats::scale_margins(const Pass& pass, int m, float* z) const {
  for (Index i = 0; i < pass.groups.rows(); ++i) {
    const Index row = row_of_slot(pass, i);
    z[i] = pinned(samples_.levels.row_step[row] * z[i]) +
           pinned(samples_.levels.row_offset[row] * folded_.sum(m));
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
