#pragma once
/// \file
/// Room training: what the gradient device asks of a reader, one way to multiply samples with models and with
/// residuals.

#include <algorithm>
#include <cstdint>
#include <span>

#include <zipml/base/rounded.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/sample_view.hpp>
#include <zipml/training/gradient_sums.hpp>
#include <zipml/training/pass_team.hpp>

namespace zipml::inline ZIPML_ABI {

/// Rows of a batch that are worked on together: they stay in cache between margins and accumulation.
struct Pass {
  Index first = 0;          ///< row of the store
  Index count = 0;          ///< 0: a worker whose share is empty
  Index place = 0;          ///< of the first row in its batch
  Index lead = 0;           ///< rows of the first group that stand before the pass, where groups are read
  GroupRange groups{};      ///< that hold the rows, where groups are read
  std::uint64_t batch = 0;  ///< counts the batches of a fit: the row of the random numbers
  std::span<const Outlier> outliers = {};
};

/// The models of a batch.
struct BatchModels {
  struct Model {
    const float* x = nullptr;  ///< as it has arrived: padded, finite where training goes well
    double base = 0.0;         ///< the intercept, later with <o, x> where offsets are folded
  };
  List<Model> models;
  std::uint64_t batch = 0;
  bool needs_model = false;  ///< the model behind the margins will be asked for (Reader::model)
};

/// Where margins and residuals of a pass lie: [model][draw][slot], a slot for each row of the groups that
/// hold the pass, the first row of the pass in slot Pass::lead.
class PassSlots {
 public:
  PassSlots() = default;
  PassSlots(int models, int draws, Index places)
      : models_(models), draws_(draws), slots_(places), values_(places * draws * models) {}

  Index places() const { return slots_; }
  float* of(int model, int draw) { return values_.data() + (model * draws_ + draw) * slots_; }
  /// A draw of every model.
  ModelBlock<float> block(int draw) { return {of(0, draw), draws_ * slots_, models_}; }

 private:
  int models_ = 1;
  int draws_ = 1;
  Index slots_ = 0;
  Buffer<float> values_;
};

/// A reader holds its samples and the kernels; it is built once a fit. O(rows d) a batch.
class Reader {
 public:
  Reader(const KernelTable& kernels, const SampleView& samples, PassTeam& team)
      : kernels_(kernels), samples_(samples), team_(team), d_(samples.cols), padded_(padded(d_)) {
    if (samples.is_dense()) return;
    base_planes_ = samples.base_planes();
    for (int draw = 0; draw < samples.draws; ++draw) planes_.push_back(samples.planes(draw));
  }
  virtual ~Reader() = default;

  /// Rows worked on together, of a batch of so many: what is found in cache again. The same on every machine,
  /// because residuals are rounded with one scale for a pass.
  Index pass_rows(Index batch_rows) const {
    return batch_rows < group_rows ? batch_rows : (std::min)(batch_rows, most_rows_);
  }
  /// Whether rows are read in groups of 8.
  virtual bool reads_groups() const { return true; }

  virtual void begin_batch(BatchModels&) {}
  virtual void begin_pass(const Pass&) {}
  /// z_i = <a_i, x> + c for the draws of a mask and every model.
  virtual void margins(const Pass& pass, const BatchModels& batch, unsigned draws, PassSlots& z) = 0;
  /// sums += sum_i r_i a_i with the values of one draw. Entries of `r` behind the rows of the pass may be
  /// changed.
  virtual void accumulate(const Pass& pass, int draw, PassSlots& r, GradientSums& sums) = 0;
  /// The model that the margins are those of.
  virtual const float* model(const BatchModels& batch, int m) const {
    return batch.models[static_cast<std::size_t>(m)].x;
  }
  /// How the sums of a model become its gradient: steps and offsets.
  virtual GradientFrame frame(GradientSums& sums, int m);

 protected:
  PackedView view(int part) { return {samples_.codes, samples_.layout, d_, team_.ahead_of(part)}; }
  /// Rows whose values take so many bytes, at least a unit and whole units: once a reader, not once a batch.
  Index rows_of(Index bytes, Index most, Index unit) const;
  const PlaneList& planes(int draw) const { return planes_[static_cast<std::size_t>(draw)]; }
  /// The planes that all draws share.
  const PlaneList& base_planes() const { return base_planes_; }
  /// work(part, groups, first slot of them).
  template <class Work>
  void by_groups(const Pass& pass, const Work& work) {
    team_.by_rows(pass.groups.rows(), d_, [&](int part, Share rows) {
      const GroupRange groups{pass.groups.first + rows.first / group_rows, rows.count / group_rows};
      work(part, groups, rows.first);
    });
  }
  template <class T>
  static ModelBlock<T> from_slot(ModelBlock<T> block, Index slot) {
    return {block.data + slot, block.stride, block.count};
  }
  static ModelBlock<const float> constant(ModelBlock<float> block) {
    return {block.data, block.stride, block.count};
  }
  /// The models of a batch where they are multiplied as they have arrived: they lie at one distance.
  ModelBlock<const float> models_of(const BatchModels& batch) const {
    const auto count = static_cast<int>(batch.models.size());
    return {batch.models[0].x, count > 1 ? batch.models[1].x - batch.models[0].x : padded_, count};
  }
  /// Sets the padding to 0: kernels leave anything there.
  template <class T>
  void clear_padding(T* gradient) const {
    std::fill(gradient + d_, gradient + padded_, T{});
  }

  /// Adds base and outliers to the margins of a draw.
  void finish(const Pass& pass, const BatchModels& batch, int draw, PassSlots& z) const;
  /// Adds outliers to the margins of a model, from the first slot on.
  void add_outliers(const Pass& pass, const BatchModels& batch, int m, float* z) const;

  const KernelTable& kernels_;
  const SampleView& samples_;
  PassTeam& team_;
  Index d_;
  Index padded_;
  Index most_rows_ = group_rows;  // of a pass; set by each kind of reader

 private:
  List<PlaneList> planes_;  // of each draw
  PlaneList base_planes_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION GradientFrame Reader::frame(GradientSums& sums, int m) {
  GradientFrame frame{};
  clear_padding(sums.floats()[m]);
  frame.sums = sums.floats()[m];
  frame.inner = static_cast<float>(sums[m].inner);
  frame.outer = static_cast<float>(sums[m].residuals);
  return frame;
}

ZIPML_FUNCTION Index Reader::rows_of(Index bytes, Index most, Index unit) const {
  const double row_bytes = static_cast<double>(d_) * samples_.stored_bits / 8.0;
  const auto rows = static_cast<Index>(
      (std::min)(static_cast<double>(bytes) / (std::max)(row_bytes, 1e-3), static_cast<double>(most)));
  return (std::max)(rows / unit * unit, unit);
}

ZIPML_FUNCTION void Reader::finish(const Pass& pass, const BatchModels& batch, int draw, PassSlots& z) const {
  for (std::size_t m = 0; m < batch.models.size(); ++m) {
    float* values = z.of(static_cast<int>(m), draw) + pass.lead;
    const auto base = static_cast<float>(batch.models[m].base);
    for (Index i = 0; i < pass.count; ++i) values[i] += base;
    add_outliers(pass, batch, static_cast<int>(m), z.of(static_cast<int>(m), draw));
  }
}

ZIPML_FUNCTION void Reader::add_outliers(const Pass& pass, const BatchModels& batch, int m, float* z) const {
  const float* x = model(batch, m);
  for (const Outlier& outlier : pass.outliers)
    z[pass.lead + outlier.row] += pinned(outlier.correction * x[outlier.column]);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
