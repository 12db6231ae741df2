#pragma once
/// \file
/// Room training: the gradient device of the ZipML computation model (ZipML 2017, section 2): it receives the
/// model, reads a batch of samples from a store, and returns a gradient. An estimator sees margins and
/// accumulates residuals in standardised units; the device does the folding of offsets and steps, and the
/// rounding of model and residuals where the integer path is chosen.
///
/// Affine levels: a_ij = o_j + s_j (p_i + t_i k_ij) with codes k (p_i = 0, t_i = 1 unless rows are scaled), u
/// = s x:
///     z_i = <o, x> + p_i sum(u) + t_i <k_i, u> + c
///     g_j = o_j sum_i r_i + s_j (sum_i r_i p_i + sum_i t_i r_i k_ij)
/// Integer path (the model channel rounds, levels are affine): u is replaced by Q(u) = scale * int8, and x by
/// x^ = Q(u) / s *everywhere*, offsets included, so that the margin is that of one rounded model; likewise t
/// r by integers in -R .. R. E x^ = x and E r^ = r, hence the gradient stays unbiased (ZipML 2017,
/// section 2.3: independent roundings of sample, model and gradient).
///
/// One table for all columns (SharedTableDecoder): the same with entries t_k in the place of codes k.
///
/// Batches of fewer than 8 rows with a float model: the rows are decoded once, outliers included, and are
/// then what rows of a float32 store are; nothing is folded. (Batches of one row without channels that round
/// do without a device, single_rows.hpp.)
///
/// Outliers add correction * x^_j to the margin of their row and r^_i * correction to the gradient of their
/// column, in store order; a correction of the diagonal is subtracted once per batch, g_j - bias_j x^_j.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>

#include <zipml/base/buffer.hpp>
#include <zipml/base/rounded.hpp>
#include <zipml/base/vector_math.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/quantization/quantized_vector.hpp>
#include <zipml/storage/dense_store.hpp>
#include <zipml/storage/packed_store.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/decoded_rows.hpp>
#include <zipml/training/folded_model.hpp>
#include <zipml/training/pass_team.hpp>

namespace zipml::inline ZIPML_ABI {

/// True when margins over this store can be integer: affine levels.
template <class Store>
inline constexpr bool has_integer_path = requires(const Store store) {
  store.decoder.step;
};

/// Largest magnitude of the integer residuals over this store: the R of the kernels' contract.
template <class Store>
int residual_levels_of(const Store& store) {
  const PlaneList planes = store.planes(0);
  if constexpr (requires { store.decoder.entries; })
    if (!store.decoder.entries.empty()) return table_residual_levels(planes);
  return residual_levels(planes);
}

/// See above. A batch: begin_batch, then while next_pass: margins of a draw, accumulate residuals; then
/// descend, or end_batch for the gradient itself. O(rows d) a batch.
template <class Store>
class GradientDevice {
  static constexpr bool dense = std::is_base_of_v<DenseStore, Store>;
  static constexpr bool affine = has_integer_path<Store>;
  static constexpr bool shared = requires(const Store s) { s.decoder.entries; };

 public:
  /// `store` and `team`, the threads that share the work of a pass, must outlive the device. Throws Error for
  /// channels out of range.
  ZIPML_NOINLINE GradientDevice(const KernelTable& kernels, const Store& store, const LabelMap& label_map,
                                const Channels& channels, std::uint64_t seed, ThreadTeam* team = nullptr)
      : kernels_(kernels),
        store_(store),
        // Integer passes pay from 128 KB of codes on; float ones are shorter, and wait for memory anyway.
        team_(team, multiplies_integers(store, channels.model)
                        ? static_cast<Index>(0x1p20 / store.stored_bits())
                        : Index{1} << 18),
        random_(seed),
        integer_(multiplies_integers(store, channels.model)),
        receives_codes_(integer_ && sends_codes(channels.model)),
        d_(store.cols()),
        padded_(padded(d_)),
        labels_(store.rows()),
        to_device_(channels.model, d_, random_, Stream::model),
        from_device_(channels.gradient, d_, random_, Stream::gradient),
        gradient_(padded_) {
    if (to_device_.rounds() && !receives_codes_) received_x_ = Buffer<float>(padded_);
    if (from_device_.rounds()) sent_ = Buffer<float>(padded_);
    for (Index i = 0; i < store.rows(); ++i) labels_[i] = label_map.apply(store.labels()[i]);
    if constexpr (affine) {
      FoldedRounding how{.integers = integer_};
      if (receives_codes_)
        how.bits = channels.model.bits;
      else
        how.draw = 1;  // what has arrived is rounded again
      if (has_table()) how.most_levels = table_model_levels(store.planes(0));
      folded_ = FoldedModel(store.decoder.step.data(), store.decoder.offset.data(), d_, how,
                            store.decoder.scales_rows());
    }
    if constexpr (!dense)
      if (!store.outliers.empty()) outlier_gradient_ = Buffer<float>(padded_);
    if (integer_) gradient32_ = Buffer<std::int32_t>(padded_ * team_.size());
  }

  /// Subtracts diagonal_j x_j from the gradient of every batch: the bias terms of the store, or what is left
  /// of them when they are shrunk; a negative entry is a ridge. Empty: nothing.
  void set_correction(const Buffer<float>& diagonal) {
    correction_ = Buffer<float>(diagonal.empty() ? 0 : padded_);
    std::copy(diagonal.begin(), diagonal.end(), correction_.begin());
  }

  /// Receives model x (d standardised weights, finite, padded with 0 to model_padding; read until descend or
  /// end_batch) and intercept for the rows [first, first + count) of the store. `batch` counts the batches of
  /// a fit: the row of the random numbers.
  ZIPML_NOINLINE void begin_batch(Index first, Index count, const float* x, float intercept,
                                  std::uint64_t batch) {
    first_ = next_ = first;
    end_ = first + count;
    batch_ = batch;
    base_ = static_cast<double>(intercept);
    x_ = x;
    if (!received_x_.empty()) {
      std::copy_n(x, padded_, received_x_.data());
      to_device_.send(kernels_, batch, received_x_.data());
      x_ = received_x_.data();
    } else {
      to_device_.count();
    }
    std::fill(outlier_gradient_.begin(), outlier_gradient_.end(), 0.0f);
    residual_sum_ = 0.0;
    inner_sum_ = 0.0;
    few_ = !integer_ && count < group_rows;
    reserve(pass_rows(count));
    if constexpr (affine)
      if (!few_)
        base_ += folded_.fold(kernels_, random_, batch_, x_, !correction_.empty() || !store_.outliers.empty(),
                              team_);
  }

  /// Rows that will be worked on after this batch, or after some more: during the last pass of the next batch
  /// to begin, as many of them as a pass takes are asked for.
  void announce(Index first, Index count) {
    announced_first_ = first;
    announced_count_ = count;
  }

  /// Moves to the next rows of the batch that are worked on together; false when there are none left: a pass
  /// stays in cache between margins and accumulation.
  ZIPML_NOINLINE bool next_pass() {
    if (next_ == end_) return false;
    pass_first_ = next_;
    pass_count_ = std::min(end_ - next_, pass_rows(end_ - first_));
    next_ += pass_count_;
    groups_ = {pass_first_ / group_rows, 0};
    groups_.count = (pass_first_ + pass_count_ + group_rows - 1) / group_rows - groups_.first;
    lead_ = dense || few_ ? 0 : pass_first_ % group_rows;
    if constexpr (!dense) {
      store_.outliers.find(pass_first_, pass_count_, outliers_);
      if (few_) decoded_.begin_pass(pass_first_, pass_count_, outliers_);
    }
    if (next_ < end_)
      look_ahead(next_, std::min(end_ - next_, pass_rows(end_ - first_)));
    else if (announced_count_ > 0)
      look_ahead(announced_first_, pass_rows(std::exchange(announced_count_, 0)));
    return true;
  }

  std::span<const float> labels() const {
    return {labels_.data() + pass_first_, static_cast<std::size_t>(pass_count_)};
  }

  /// z_i = <a_i, x> + c of one draw, for the rows of the pass. The caller may overwrite them, with residuals
  /// for instance; they live until the next pass.
  ZIPML_NOINLINE std::span<float> margins(int draw) {
    float* z = slots_of(draw);
    if (dense || few_) {
      const ModelBlock<const float> model{x_, padded_};
      const DenseRows all = float_rows(draw);
      team_.by_rows(pass_count_, d_, [&](int part, Share rows) {
        kernels_.margins(DenseRows{all.values + rows.first * all.stride, all.stride, all.cols, rows.count,
                                   team_.ahead_of(part)},
                         model, {z + rows.first});
      });
      add_base(z);
    } else {
      if constexpr (!dense) packed_margins(store_.planes(draw), z);
      finish_margins(z);
    }
    return pass_margins(draw);
  }

  /// The margins of every draw, which `pass_margins` then gives. The planes that draws share are read once.
  ZIPML_NOINLINE void margins_of_all_draws() {
    if constexpr (affine && Store::draws > 1) {
      const PlaneList base = store_.base_planes();
      if (base.count > 0 && !has_table() && !few_) {
        if (integer_)
          integer_margins(base, shared32_.data());
        else
          float_margins(base, shared_.data());
        for (int draw = 0; draw < Store::draws; ++draw) {
          PlaneList plane;
          plane.push_draw_plane(base.code_bits + draw);
          float* z = slots_of(draw);
          if (integer_) {
            integer_margins(plane, margins32_.data());
            for (Index i = 0; i < groups_.rows(); ++i) margins32_[i] += shared32_[i];
            to_float(margins32_.data(), z);
          } else {
            float_margins(plane, z);
            for (Index i = 0; i < groups_.rows(); ++i) z[i] += shared_[i];
          }
          finish_margins(z);
        }
        return;
      }
    }
    for (int draw = 0; draw < Store::draws; ++draw) margins(draw);
  }

  /// What `margins` or `margins_of_all_draws` has computed in this pass.
  std::span<float> pass_margins(int draw) {
    return {slots_of(draw) + lead_, static_cast<std::size_t>(pass_count_)};
  }

  /// g += sum_i r_i a_i over the rows of the pass, with the values of one draw. `residuals` must be finite.
  ZIPML_NOINLINE void accumulate(int draw, std::span<const float> residuals) {
    if constexpr (affine) {
      if (integer_) return accumulate_integer(draw, residuals.data());
    }
    if (dense || few_) return accumulate_rows(float_rows(draw), residuals);
    float* r = residuals_.data();
    std::fill_n(r, lead_, 0.0f);
    std::copy(residuals.begin(), residuals.end(), r + lead_);
    const Index used = lead_ + pass_count_;
    std::fill(r + used, r + groups_.rows(), 0.0f);
    residual_sum_ += detail::sum(r, used);
    if constexpr (!dense) {
      accumulate_outliers(r + lead_);
      if constexpr (affine)
        if (store_.decoder.scales_rows()) scale_residuals(r);
      const PlaneList planes = store_.planes(draw);
      team_.by_columns(pass_count_, d_, [&](int part, Share columns) {
        PackedView columns_of_view = view(part);
        columns_of_view.codes += columns.first;
        columns_of_view.width = columns.count;
        const ModelBlock<float> gradient{gradient_.data() + columns.first, padded_};
        if constexpr (!affine) {
          TableView tables = table();
          tables.tables += columns.first * tables.stride;
          kernels_.accumulate(columns_of_view, planes, tables, groups_, {r}, gradient);
        } else if (has_table()) {
          kernels_.accumulate(columns_of_view, planes, shared_values(), groups_, {r}, gradient);
        } else {
          kernels_.accumulate(columns_of_view, planes, groups_, {r}, gradient);
        }
      });
    }
  }

  /// x -= step * g with the mean gradient g of the batch; x, padded to model_padding, may be the model that
  /// the batch began with. Returns the mean gradient of the intercept.
  ZIPML_NOINLINE float descend(float step, float* x) {
    if (!from_device_.rounds()) {
      from_device_.count();
      return descend_exactly(step, x);
    }
    std::fill(sent_.begin(), sent_.end(), 0.0f);
    const float residual = descend_exactly(-1.0f, sent_.data());
    // What has run away cannot be rounded; the caller is told.
    constexpr float most = std::numeric_limits<float>::max();
    if (!(std::fabs(residual) <= most) || !(largest_ <= most)) return residual;
    from_device_.send(kernels_, batch_, sent_.data());
    kernels_.descend_row(RowStep{sent_.data(), step}, x, padded_);
    return residual;
  }
  /// The largest magnitude in the last gradient: what tells that weights run away.
  float largest() const { return largest_; }

  /// Writes the mean gradient of the batch (d values, padded to model_padding) as it arrives and returns that
  /// of the intercept.
  float end_batch(float* gradient) {
    std::fill_n(gradient, padded_, 0.0f);
    return descend(-1.0f, gradient);
  }

  /// Whether everything but the samples is float32: then batches of one row can do without the device.
  bool is_exact() const { return !integer_ && !to_device_.rounds() && !from_device_.rounds(); }
  /// Labels mapped for the loss, in store order.
  const Buffer<float>& mapped_labels() const { return labels_; }
  /// Counts the vectors of batches that did without the device.
  void count_batches(Index batches) {
    to_device_.count(batches);
    from_device_.count(batches);
  }

  /// What has moved through the channels so far.
  const Traffic& model_traffic() const { return to_device_.traffic(); }
  const Traffic& gradient_traffic() const { return from_device_.traffic(); }

 private:
  /// Whether the margins of this store and model channel are sums of integers.
  static bool multiplies_integers(const Store& store, const Channel& model) {
    return affine && model.rounds() && store.cols() <= max_int8_columns;
  }
  /// Whether the codes of the channel are what the margins are computed with.
  static bool sends_codes(const Channel& model) {
    return model.is_stochastic() && model.scaling == ChannelScaling::max &&
           model.levels == ChannelLevels::uniform;
  }

  float descend_exactly(float step, float* x) {
    const auto count = static_cast<float>(end_ - first_);
    GradientFrame frame{};
    if constexpr (affine) {
      if (!few_) {
        frame.step = folded_.step();
        frame.offset = folded_.offset();
      }
    }
    if (affine && integer_ && !has_float_sums_) {
      frame.codes = gradient32_.data();
      frame.code_scale = code_scale_;
    } else {
      if constexpr (affine) flush_codes();
      clear_padding(gradient_.data());
      frame.sums = gradient_.data();
    }
    code_scale_ = 0.0f;
    has_float_sums_ = false;
    frame.outliers = few_ ? nullptr : outlier_gradient_.data();
    frame.diagonal = correction_.data();
    frame.model = model();
    frame.inner = static_cast<float>(inner_sum_);
    frame.outer = static_cast<float>(residual_sum_);
    frame.share = 1.0f / count;
    team_.step_ahead();
    largest_ = kernels_.descend(frame, step, x, padded_);
    return static_cast<float>(residual_sum_ / static_cast<double>(count));
  }

  /// Asks for the rows [first, first + count) to be brought near while this pass is worked on: batches come
  /// in random order, which no processor foresees.
  void look_ahead(Index first, Index count) {
    if constexpr (!dense) store_.outliers.prefetch(first, count);
    const auto memory = store_.memory_of(first, count);
    team_.look_ahead(reinterpret_cast<const char*>(memory.data()), static_cast<Index>(memory.size()),
                     pass_count_ * d_);
    for (Index i = 0; i < count; i += 16) __builtin_prefetch(labels_.data() + first + i, 0, 3);
  }

  /// What kernels leave behind column d is no gradient.
  template <class T>
  void clear_padding(T* gradient) const {
    std::fill(gradient + d_, gradient + padded_, T{});
  }
  /// The model that the margins are those of: x as it has arrived.
  const float* model() const {
    if constexpr (affine)
      if (integer_) return folded_.rounded();
    return x_;
  }

  float* slots_of(int draw) { return margins_.data() + draw * slots_; }

  /// Whether codes stand for the entries of a table that all columns share.
  bool has_table() const {
    if constexpr (shared) return !store_.decoder.entries.empty();
    return false;
  }
  CodeTable code_table() const {
    if constexpr (shared)
      return {store_.decoder.entries.data(), static_cast<int>(store_.decoder.entries.size())};
    return {};
  }
  TableView shared_values() const {
    if constexpr (shared) return {store_.decoder.entry_values.data(), 0};
    return {};
  }

  void packed_margins(const PlaneList& planes, float* z) requires(!dense) {
    if constexpr (!affine) {
      const ModelBlock<const float> model{x_, padded_};
      by_groups([&](int part, GroupRange groups, Index slot) {
        kernels_.margins(view(part), planes, table(), groups, model, {z + slot});
      });
    } else if (integer_) {
      integer_margins(planes, margins32_.data());
      to_float(margins32_.data(), z);
    } else {
      float_margins(planes, z);
    }
  }
  void integer_margins(const PlaneList& planes, std::int32_t* out) requires(affine) {
    const ModelBlock<const std::int8_t> model{folded_.codes(), padded_};
    by_groups([&](int part, GroupRange groups, Index slot) {
      if (has_table())
        kernels_.margins(view(part), planes, code_table(), groups, model, {out + slot});
      else
        kernels_.margins(view(part), planes, groups, model, {out + slot});
    });
  }
  void float_margins(const PlaneList& planes, float* out) requires(affine) {
    const ModelBlock<const float> model{folded_.values(), padded_};
    by_groups([&](int part, GroupRange groups, Index slot) {
      if (has_table())
        kernels_.margins(view(part), planes, shared_values(), groups, model, {out + slot});
      else
        kernels_.margins(view(part), planes, groups, model, {out + slot});
    });
  }
  void to_float(const std::int32_t* sums, float* z) const {
    const float scale = folded_.scale();
    for (Index i = 0; i < groups_.rows(); ++i) z[i] = static_cast<float>(sums[i]) * scale;
    detail::barrier();
  }

  void add_base(float* z) const {
    const auto base = static_cast<float>(base_);
    for (Index i = 0; i < pass_count_; ++i) z[lead_ + i] += base;
  }

  /// The rows of the pass as float32 rows: those of a float32 store, or decoded ones.
  DenseRows float_rows(int draw) {
    if constexpr (dense)
      return {store_.row(pass_first_), d_, d_, pass_count_};
    else
      return decoded_.rows(kernels_, draw);
  }

  void accumulate_rows(DenseRows rows, std::span<const float> residuals) {
    for (const float r : residuals) residual_sum_ += static_cast<double>(r);
    team_.by_columns(pass_count_, d_, [&](int part, Share columns) {
      const DenseRows some{rows.values + columns.first, rows.stride, columns.count, rows.count,
                           team_.ahead_of(part)};
      kernels_.accumulate(some, {residuals.data()},
                          ModelBlock<float>{gradient_.data() + columns.first, padded_});
    });
  }

  /// From sums over codes to margins: the scaling of rows, outliers, <o, x> + c.
  void finish_margins(float* z) {
    if constexpr (affine) {
      if (store_.decoder.scales_rows()) scale_margins(z);
    }
    add_base(z);
    const float* x = model();
    for (const Outlier& outlier : outliers_)
      z[lead_ + outlier.row] += pinned(outlier.correction * x[outlier.column]);
  }

  /// `residuals` of the rows of the pass, as the kernel uses them.
  void accumulate_outliers(const float* residuals) {
    for (const Outlier& outlier : outliers_)
      outlier_gradient_[outlier.column] += pinned(residuals[outlier.row] * outlier.correction);
  }

  /// Rows worked on together: what is found in the second-level cache again, in whole blocks, and what the
  /// integers allow. The same on every machine, because residuals are rounded with one scale for a pass.
  /// Float32 rows stay in the first-level cache: memory then works on the next rows all the time, a fifth
  /// faster than in turns with the processor.
  Index pass_rows(Index batch_rows) const {
    if (batch_rows < group_rows) return batch_rows;
    const Index cached_bytes = Index{dense ? 16 : integer_ ? 512 : 256} * 1024;
    const double row_bytes = static_cast<double>(d_) * static_cast<double>(store_.stored_bits()) / 8.0;
    const Index most = integer_ ? max_int8_rows : 4096;
    const auto rows = static_cast<Index>(
        std::min(static_cast<double>(cached_bytes) / std::max(row_bytes, 1e-3), static_cast<double>(most)));
    const Index unit = integer_ ? block_rows : group_rows;
    return std::min(batch_rows, std::max(rows / unit * unit, unit));
  }

  void reserve(Index rows) {
    const Index slots = round_up(rows, group_rows) + group_rows;  // a pass may begin inside a group
    if (slots <= slots_) return;
    slots_ = slots;
    margins_ = Buffer<float>(slots * Store::draws);
    residuals_ = Buffer<float>(slots);
    if constexpr (!dense)
      if (!integer_) decoded_ = DecodedRows<Store>(store_);
    if (Store::draws > 1) shared_ = Buffer<float>(slots);
    if (integer_) {
      if (Store::draws > 1) shared32_ = Buffer<std::int32_t>(slots);
      margins32_ = Buffer<std::int32_t>(slots);
      residuals8_ = Buffer<std::int8_t>(slots);
      scaled_ = Buffer<float>(slots);
    }
  }

  /// work(part, groups, first slot of them).
  template <class Work>
  void by_groups(const Work& work) {
    team_.by_rows(groups_.rows(), d_, [&](int part, Share rows) {
      const GroupRange groups{groups_.first + rows.first / group_rows, rows.count / group_rows};
      work(part, groups, rows.first);
    });
  }
  PackedView view(int part) requires(!dense) {
    return {store_.codes().data(), store_.layout(), d_, team_.ahead_of(part)};
  }
  TableView table() const requires(!dense && !affine) {
    return {store_.decoder.tables.data(), store_.decoder.levels};
  }

  Index row_of_slot(Index slot) const {
    return std::min(groups_.first * group_rows + slot, store_.rows() - 1);
  }

  void scale_margins(float* z) requires(affine) {
    for (Index i = 0; i < groups_.rows(); ++i) {
      const Index row = row_of_slot(i);
      z[i] = pinned(store_.decoder.row_step[row] * z[i]) +
             pinned(store_.decoder.row_offset[row] * folded_.sum());
    }
  }

  void scale_residuals(float* r) requires(affine) {
    for (Index i = 0; i < groups_.rows(); ++i) {
      const Index row = row_of_slot(i);
      inner_sum_ += static_cast<double>(pinned(r[i] * store_.decoder.row_offset[row]));
      r[i] *= store_.decoder.row_step[row];
    }
  }

  void accumulate_integer(int draw, const float* r) requires(affine) {
    const PlaneList planes = store_.planes(draw);
    const bool scales_rows = store_.decoder.scales_rows();
    const float* scaled = r;
    if (scales_rows) {
      for (Index i = 0; i < pass_count_; ++i) scaled_[i] = r[i] * store_.decoder.row_step[pass_first_ + i];
      scaled = scaled_.data();
    }
    std::int8_t* codes = residuals8_.data() + lead_;
    std::fill_n(residuals8_.data(), lead_, std::int8_t{0});
    std::fill(codes + pass_count_, residuals8_.data() + groups_.rows(), std::int8_t{0});
    team_.step_ahead();
    const int levels = residual_levels_of(store_);
    const float scale = kernels_.largest(scaled, pass_count_) / static_cast<float>(levels);
    if (scale > 0.0f && scale <= std::numeric_limits<float>::max()) {
      const RandomPlace place{Stream::residual, batch_, static_cast<std::uint32_t>(draw),
                              pass_first_ - first_};
      kernels_.round_symmetric(scaled, pass_count_, {random_, place, scale, levels}, codes);
    } else {
      std::fill_n(codes, pass_count_, std::int8_t{0});
    }
    if (scales_rows) {
      for (Index i = 0; i < pass_count_; ++i) {
        const Index row = pass_first_ + i;
        const float row_step = store_.decoder.row_step[row];
        const float rounded = row_step > 0.0f ? scale * static_cast<float>(codes[i]) / row_step : r[i];
        residual_sum_ += static_cast<double>(rounded);
        inner_sum_ += static_cast<double>(pinned(rounded * store_.decoder.row_offset[row]));
      }
    } else {
      std::int32_t code_sum = 0;  // |code| <= 127, at most max_int8_rows of them
      for (Index i = 0; i < pass_count_; ++i) code_sum += codes[i];
      residual_sum_ += pinned(static_cast<double>(scale) * static_cast<double>(code_sum));
    }
    for (const Outlier& outlier : outliers_) {
      const float rounded = pinned(scale * static_cast<float>(residuals8_[lead_ + outlier.row]));
      outlier_gradient_[outlier.column] += pinned(rounded * outlier.correction);
    }
    flush_codes();
    code_scale_ = scale;
    by_groups([&](int part, GroupRange groups, Index slot) {
      const ModelBlock<std::int32_t> gradient{gradient32_.data() + part * padded_, padded_};
      if (has_table())
        kernels_.accumulate(view(part), planes, code_table(), groups, {residuals8_.data() + slot}, gradient);
      else
        kernels_.accumulate(view(part), planes, groups, {residuals8_.data() + slot}, gradient);
    });
    // Integers: the sum is the same in whatever parts it was formed.
    std::int32_t* sum = gradient32_.data();
    for (int part = 1; part < team_.size(); ++part) {
      std::int32_t* share = sum + part * padded_;
      for (Index j = 0; j < padded_; ++j) sum[j] += share[j];
      std::fill_n(share, padded_, 0);
    }
    clear_padding(sum);
    team_.step_ahead();
  }

  /// Integer sums wait for the end of the batch, or for others of another scale.
  void flush_codes() requires(affine) {
    if (code_scale_ == 0.0f) return;
    kernels_.add_scaled(gradient32_.data(), code_scale_, gradient_.data(), padded_);
    has_float_sums_ = true;
  }

  KernelTable kernels_;
  const Store& store_;
  PassTeam team_;
  Random random_;
  bool integer_;
  bool receives_codes_;  // of the model, else values
  Index d_;
  Index padded_;
  Buffer<float> labels_;  // mapped for the loss, in store order
  VectorChannel to_device_;
  VectorChannel from_device_;
  Buffer<float> received_x_;  // the model, where it arrives in values
  Buffer<float> sent_;        // the gradient, where it is rounded

  // of the batch
  Index first_ = 0;
  Index end_ = 0;
  Index next_ = 0;
  std::uint64_t batch_ = 0;
  double base_ = 0.0;          // <o, x> + c
  double residual_sum_ = 0.0;  // sum of the residuals as used
  double inner_sum_ = 0.0;     // sum of r_i p_i
  const float* x_ = nullptr;
  FoldedModel folded_;  // where levels are affine
  Buffer<float> correction_;
  Buffer<float> gradient_;
  Buffer<float> outlier_gradient_;
  Buffer<std::int32_t> gradient32_;  // 0 between passes
  float code_scale_ = 0.0f;          // of gradient32_; 0: nothing in it
  bool has_float_sums_ = false;      // in gradient_, on the integer path
  bool few_ = false;                 // fewer rows than a group, decoded
  float largest_ = 0.0f;
  Index announced_first_ = 0;
  Index announced_count_ = 0;

  // of the pass
  Index pass_first_ = 0;
  Index pass_count_ = 0;
  GroupRange groups_{};
  Index lead_ = 0;  // rows of the first group before the pass
  Index slots_ = 0;
  List<Outlier> outliers_;
  DecodedRows<Store> decoded_;
  Buffer<float> shared_;  // margins of the planes that all draws share
  Buffer<std::int32_t> shared32_;
  Buffer<float> margins_;
  Buffer<float> residuals_;
  Buffer<std::int32_t> margins32_;
  Buffer<std::int8_t> residuals8_;
  Buffer<float> scaled_;
};

}  // namespace zipml::inline ZIPML_ABI
