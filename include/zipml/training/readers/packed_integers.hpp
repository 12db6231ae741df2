#pragma once
/// \file
/// Room training: codes multiplied with int8 models and int8 residuals, exact sums in int32. Affine levels as
/// in packed_floats.hpp, but u is replaced by Q(u) = scale * int8 and x by x^ = Q(u) / s *everywhere*,
/// offsets and outliers included, so that the margin is that of one rounded model; likewise t_i r_i by
/// integers in -R .. R times one scale for a pass. E x^ = x and E r^ = r, hence the gradient stays unbiased
/// (ZipML 2017, section 2.3: independent roundings of sample, model and gradient).

#include <cstdint>
#include <limits>

#include <zipml/training/folded_model.hpp>
#include <zipml/training/readers/reader.hpp>

namespace zipml::inline ZIPML_ABI {

/// Largest magnitude of the integer residuals over these samples: the R of the kernels' contract.
inline int residual_levels_of(const SampleView& samples) {
  const PlaneList planes = samples.planes(0);
  return samples.levels.entries != nullptr ? table_residual_levels(planes) : residual_levels(planes);
}

/// Affine levels, or one table on the grid of bytes for all columns.
class PackedIntegers : public Reader {
 public:
  /// `how` says how models are rounded; `reducer`, which agrees on the scale of residuals, may be null.
  PackedIntegers(const KernelTable& kernels, const SampleView& samples, PassTeam& team, int models,
                 FoldedRounding how, const Random& random, Reducer* reducer);

  void begin_batch(BatchModels& batch) override;
  const float* model(const BatchModels&, int m) const override { return folded_.rounded(m); }

  void margins(const Pass& pass, const BatchModels& batch, unsigned draws, PassSlots& z) override;

  void accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) override;

  GradientFrame frame(GradientSums& sums, int m) override;

 private:
  bool has_table() const { return samples_.levels.entries != nullptr; }
  CodeTable table() const { return {samples_.levels.entries, samples_.levels.entry_count}; }

  void reserve(int models, Index places);

  void multiply(const Pass& pass, const PlaneList& planes, Buffer<std::int32_t>& out);

  void scale_margins(const Pass& pass, int m, float constant, float* z) const;

  /// The largest residual of each model, of all workers, times the step of its row where rows are scaled.
  void find_largest(const Pass& pass, int draw, PassSlots& r);
  /// Rounds the residuals of a model for the rows of the pass and adds up what does not go through the
  /// kernels.
  void round_residuals(const Pass& pass, int draw, int m, const float* r, GradientSums& sums);

  Random random_;
  Reducer* reducer_;
  int residual_levels_ = 127;
  FoldedModels folded_;
  Index slots_ = 0;
  Buffer<std::int32_t> margins_;  // m x places
  Buffer<std::int32_t> shared_;   // of the planes that all draws share
  Buffer<std::int8_t> residuals_;
  Buffer<float> scaled_;  // residuals as find_largest sees them
  Buffer<float> largest_;
  SharedHalfWords half_words_;  // of the residuals of a pass
};

#if ZIPML_DEFINES

ZIPML_FUNCTION PackedIntegers::PackedIntegers(const KernelTable& kernels, const SampleView& samples,
                                              PassTeam& team, int models, FoldedRounding how,
                                              const Random& random, Reducer* reducer)
    : Reader(kernels, samples, team), random_(random), reducer_(reducer), largest_(models) {
  most_rows_ = rows_of(512 * 1024, max_int8_rows, block_rows);
  residual_levels_ = residual_levels_of(samples);
  how.integers = true;
  if (has_table()) how.most_levels = table_model_levels(samples.planes(0));
  folded_ =
      FoldedModels(samples.levels.step, samples.levels.offset, d_, models, how, samples.levels.scales_rows());
}

ZIPML_FUNCTION void PackedIntegers::begin_batch(BatchModels& batch) {
  for (std::size_t m = 0; m < batch.models.size(); ++m) {
    BatchModels::Model& model = batch.models[m];
    model.base +=
        folded_.fold(kernels_, random_, batch.batch, static_cast<int>(m), model.x, batch.needs_model, team_);
  }
}

ZIPML_FUNCTION void PackedIntegers::margins(const Pass& pass, const BatchModels& batch, unsigned draws,
                                            PassSlots& z) {
  const auto models = static_cast<int>(batch.models.size());
  reserve(models, z.places());
  const PlaneList& base = base_planes();
  // The planes that draws share are read once where several draws are asked for.
  const bool shares = (draws & (draws - 1)) != 0 && base.count > 0 && !has_table();
  if (shares) multiply(pass, base, shared_);
  for (int draw = 0; draw < samples_.draws; ++draw) {
    if ((draws >> draw & 1u) == 0) continue;
    if (shares) {
      PlaneList plane;
      plane.push_draw_plane(base.code_bits + draw);
      multiply(pass, plane, margins_);
      for (int m = 0; m < models; ++m)
        for (Index i = m * slots_; i < m * slots_ + pass.groups.rows(); ++i) margins_[i] += shared_[i];
    } else {
      multiply(pass, planes(draw), margins_);
    }
    const bool scales_rows = samples_.levels.scales_rows();
    for (int m = 0; m < models; ++m) {
      float* values = z.of(m, draw);
      const auto constant = static_cast<float>(batch.models[static_cast<std::size_t>(m)].base);
      kernels_.scale_sums(margins_.data() + m * slots_, folded_.scale(m), scales_rows ? 0.0f : constant,
                          values, pass.groups.rows());
      if (scales_rows) scale_margins(pass, m, constant, values);
      add_outliers(pass, batch, m, values);
    }
  }
}

ZIPML_FUNCTION void PackedIntegers::accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) {
  const PlaneList& draw_planes = planes(draw);
  const int models = r.block(draw).count;
  find_largest(pass, draw, r);
  for (int m = 0; m < models; ++m) round_residuals(pass, draw, m, r.of(m, draw) + pass.lead, sums);
  if (pass.count > 0)
    by_groups(pass, [&](int part, GroupRange groups, Index slot) {
      const ModelBlock<const std::int8_t> residuals{residuals_.data() + slot, slots_, models};
      if (has_table())
        kernels_.accumulate(view(part), draw_planes, table(), groups, residuals, sums.codes(part));
      else
        kernels_.accumulate(view(part), draw_planes, groups, residuals, sums.codes(part));
    });
  sums.close_codes(reducer_);
  sums.close_outliers(reducer_, pass.outliers);
  for (int m = 0; m < models; ++m) clear_padding(sums.codes()[m]);
  team_.step_ahead();
}

ZIPML_FUNCTION GradientFrame PackedIntegers::frame(GradientSums& sums, int m) {
  GradientFrame frame{};
  if (sums[m].has_floats) {
    sums.flush_codes(kernels_, m);
    frame = Reader::frame(sums, m);
  } else {
    frame.codes = sums.codes()[m];
    frame.code_scale = sums[m].code_scale;
    frame.inner = static_cast<float>(sums[m].inner);
    frame.outer = static_cast<float>(sums[m].residuals);
  }
  frame.step = folded_.step();
  frame.offset = folded_.offset();
  return frame;
}

ZIPML_FUNCTION void PackedIntegers::reserve(int models, Index places) {
  if (places <= slots_) return;
  slots_ = places;
  margins_ = Buffer<std::int32_t>(places * models);
  if (samples_.draws > 1) shared_ = Buffer<std::int32_t>(places * models);
  residuals_ = Buffer<std::int8_t>(places * models);
  scaled_ = Buffer<float>(samples_.levels.scales_rows() ? places * models : 0);
  if (models > 1) half_words_ = SharedHalfWords(places);
}

ZIPML_FUNCTION void PackedIntegers::multiply(const Pass& pass, const PlaneList& planes,
                                             Buffer<std::int32_t>& out) {
  by_groups(pass, [&](int part, GroupRange groups, Index slot) {
    const ModelBlock<std::int32_t> to{out.data() + slot, slots_, folded_.codes().count};
    if (has_table())
      kernels_.margins(view(part), planes, table(), groups, folded_.codes(), to);
    else
      kernels_.margins(view(part), planes, groups, folded_.codes(), to);
  });
}

ZIPML_FUNCTION void PackedIntegers::scale_margins(const Pass& pass, int m, float constant, float* z) const {
  for (Index i = 0; i < pass.groups.rows(); ++i) {
    const Index row = (std::min)(pass.groups.first * group_rows + i, samples_.rows - 1);
    z[i] = pinned(samples_.levels.row_step[row] * z[i]) +
           pinned(samples_.levels.row_offset[row] * folded_.sum(m)) + constant;
  }
}

ZIPML_FUNCTION void PackedIntegers::find_largest(const Pass& pass, int draw, PassSlots& r) {
  for (int m = 0; m < r.block(draw).count; ++m) {
    const float* residuals = r.of(m, draw) + pass.lead;
    if (samples_.levels.scales_rows()) {
      float* const scaled = scaled_.data() + m * slots_;
      for (Index i = 0; i < pass.count; ++i)
        scaled[i] = residuals[i] * samples_.levels.row_step[pass.first + i];
      residuals = scaled;
    }
    largest_[m] = kernels_.largest(residuals, pass.count);
  }
  if (reducer_ != nullptr) reducer_->largest(largest_.span());
}

ZIPML_FUNCTION void PackedIntegers::round_residuals(const Pass& pass, int draw, int m, const float* r,
                                                    GradientSums& sums) {
  const bool scales_rows = samples_.levels.scales_rows();
  const float* const scaled = scales_rows ? scaled_.data() + m * slots_ : r;
  std::int8_t* places = residuals_.data() + m * slots_;
  std::int8_t* codes = places + pass.lead;
  std::fill_n(places, pass.lead, std::int8_t{0});
  std::fill(codes + pass.count, places + pass.groups.rows(), std::int8_t{0});
  team_.step_ahead();
  const int levels = residual_levels_;
  const float scale = largest_[m] / static_cast<float>(levels);
  if (scale > 0.0f && scale <= (std::numeric_limits<float>::max)()) {
    const RandomPlace place{Stream::residual, pass.batch, static_cast<std::uint32_t>(draw), pass.place};
    VectorRounding rounding{random_, place, scale, levels};
    rounding.half_words = half_words_.of(kernels_, rounding, pass.count);
    kernels_.round_symmetric(scaled, pass.count, rounding, codes);
  } else {
    std::fill_n(codes, pass.count, std::int8_t{0});
  }
  GradientSums::OfModel& of_model = sums[m];
  if (scales_rows) {
    for (Index i = 0; i < pass.count; ++i) {
      const Index row = pass.first + i;
      const float row_step = samples_.levels.row_step[row];
      const float rounded = row_step > 0.0f ? scale * static_cast<float>(codes[i]) / row_step : r[i];
      of_model.residuals += static_cast<double>(rounded);
      of_model.inner += static_cast<double>(pinned(rounded * samples_.levels.row_offset[row]));
    }
  } else {
    const std::int32_t code_sum = kernels_.sum_codes(codes, pass.count);  // at most max_int8_rows of them
    of_model.residuals += pinned(static_cast<double>(scale) * static_cast<double>(code_sum));
  }
  for (const Outlier& outlier : pass.outliers) sums.add_outlier(m, outlier, codes[outlier.row]);
  sums.flush_codes(kernels_, m);  // of the pass before, which had another scale
  of_model.code_scale = scale;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
