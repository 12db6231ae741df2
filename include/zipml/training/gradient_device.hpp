#pragma once
/// \file
/// Room training: the gradient device of the ZipML computation model (ZipML 2017, section 2): it receives
/// models, reads a batch of samples, and returns a gradient for each model. An estimator sees margins and
/// gives residuals in standardised units; a reader (training/readers/) multiplies the samples with them; the
/// device receives models and sends gradients through their channels, cuts batches into passes, looks ahead
/// in memory, and lets workers meet.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>

#include <zipml/base/vector_math.hpp>
#include <zipml/estimators/corrected_loss.hpp>
#include <zipml/estimators/estimator.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/storage/sample_view.hpp>
#include <zipml/storage/targets.hpp>
#include <zipml/training/channel_sums.hpp>
#include <zipml/training/channels.hpp>
#include <zipml/training/pass_team.hpp>
#include <zipml/training/readers/float_rows.hpp>
#include <zipml/training/readers/packed_floats.hpp>
#include <zipml/training/readers/packed_integers.hpp>
#include <zipml/training/reducer.hpp>
#include <zipml/training/refetching.hpp>
#include <zipml/training/visiting_order.hpp>

namespace zipml::inline ZIPML_ABI {

/// Targets mapped to the labels that a loss is defined on, in store order. Built once a fit.
class MappedTargets {
 public:
  MappedTargets() = default;
  /// `maps` has an entry for each target; model m has target `of_models[m]`, or the first where that is empty.
  MappedTargets(const Targets& targets, std::span<const LabelMap> maps, std::span<const int> of_models = {});
  /// n labels of 0, for any model.
  explicit MappedTargets(Index rows) : rows_(rows), values_(rows) {}

  const float* of(int model) const {
    return values_.data() + (of_models_.empty() ? 0 : of_models_[static_cast<std::size_t>(model)]) * rows_;
  }

  /// The margins of a pilot in all rows, n of them, in store order.
  void set_anchors(Buffer<float> margins) { anchors_ = std::move(margins); }
  /// They, or null.
  const float* anchors() const { return anchors_.empty() ? nullptr : anchors_.data(); }

 private:
  Index rows_ = 0;
  Buffer<float> values_;
  List<int> of_models_;  // empty: all have the first target
  Buffer<float> anchors_;
};

/// Options of a device.
struct DeviceOptions {
  int models = 1;
  Channels channels = {};
  std::uint64_t seed = 0;      ///< of the channels and of residuals
  ThreadTeam* team = nullptr;  ///< threads that share the work of a pass, or null
  Reducer* reducer = nullptr;  ///< other workers, or null
  /// Whether this worker adds up the rows of its share alone: gradients are those of its own rows.
  bool alone = false;
  /// Rows that a model does not see, an entry for each; empty: every model sees all of them.
  std::span<const RowRange> held_out = {};
  const Refetcher* refetcher = nullptr;  ///< full-precision rows for add_refetched_pass, or null
};

/// See above. A batch: begin_batch, then while next_pass: margins, the estimator, accumulate (all three:
/// add_pass); then descend for each model, or end_batch for the gradient itself. O(rows d) a batch.
class GradientDevice {
 public:
  /// What `samples` shows, team and reducer must outlive the device; `targets` is what labels() gives. Throws
  /// Error for channels out of range.
  GradientDevice(const KernelTable& kernels, const SampleView& samples, const MappedTargets& targets,
                 const DeviceOptions& options);
  GradientDevice(const GradientDevice&) = delete;
  GradientDevice& operator=(const GradientDevice&) = delete;

  /// Subtracts diagonal_j x_j, times the factor that the estimator gives, from the gradient of every batch:
  /// the bias terms of the samples, or what is left of them when they are shrunk; a negative entry is a
  /// ridge. Empty: nothing.
  void set_correction(const Buffer<float>& diagonal);

  /// Receives the models (d standardised weights each, padded(d) floats apart, 0 from d on; read until descend
  /// or end_batch), and their intercepts, for the rows [first, first + count). `batch` counts the batches of a
  /// fit: the row of the random numbers.
  void begin_batch(Index first, Index count, const float* x, const float* intercepts, std::uint64_t batch);

  /// The same for one model.
  void begin_batch(Index first, Index count, const float* x, float intercept, std::uint64_t batch) {
    begin_batch(first, count, x, &intercept, batch);
  }

  /// Rows that will be worked on after this batch, or after some more: during the last pass of the next batch
  /// to begin, as many of them as a pass takes are prefetched.
  void announce(Index first, Index count) {
    announced_first_ = first;
    announced_count_ = count;
  }

  /// Moves to the next rows of the batch that are worked on together; false when there are none left.
  bool next_pass();

  int models() const { return models_; }
  /// Rows of the pass that this worker takes.
  Index rows() const { return pass_.count; }
  /// Labels of the pass, as the loss wants them.
  std::span<const float> labels(int model = 0) const {
    return {targets_.of(model) + pass_.first, static_cast<std::size_t>(pass_.count)};
  }

  /// Margins of a pilot in the rows of the pass, or null.
  const float* anchors() const {
    return targets_.anchors() != nullptr ? targets_.anchors() + pass_.first : nullptr;
  }

  /// How much the rows of the pass count; empty: 1.
  std::span<const float> weights() const {
    if (samples_.weights == nullptr) return {};
    return {samples_.weights + pass_.first, static_cast<std::size_t>(pass_.count)};
  }

  /// Forms the margins of the draws of a mask, z_i = <a_i, x> + c, for every model. Planes that draws share
  /// are read once.
  ZIPML_NOINLINE void margins(unsigned draws) {
    if (pass_.count > 0) reader_->margins(pass_, batch_, draws, margins_);
  }
  /// The margins of a model: a list for each draw, until the next pass.
  DrawLists<const float> margins_of(int model = 0) {
    return {margins_.of(model, 0) + pass_.lead, margins_.places(), pass_.count};
  }
  /// Where the residuals of a model are to be written.
  DrawLists<float> residuals_of(int model = 0) {
    return {residuals_.of(model, 0) + pass_.lead, residuals_.places(), pass_.count};
  }
  /// Adds sum_i r_i a_i over the rows of the pass for the draws of a mask and every model, r the residuals
  /// that were written, weights included. These must be finite. They are overwritten.
  ZIPML_NOINLINE void accumulate(unsigned draws) {
    for (int draw = 0; draw < samples_.draws; ++draw)
      if ((draws >> draw & 1u) != 0 && (pass_.count > 0 || integer_))
        reader_->accumulate(pass_, draw, residuals_, sums_);
  }
  /// Adds to what the correction of a model is multiplied with: the sum over the rows of the pass.
  void subtract(double factor, int model = 0) { sums_[model].subtracted += factor; }

  /// Margins, the residuals of an estimator times the weights of their rows, and their accumulation. What is
  /// subtracted needs no weights: the bias terms of the samples have them.
  template <class Estimator, class L>
  void add_pass(const Estimator& estimator, const L& loss) {
    margins(margin_draws<Estimator>());
    for (int m = 0; m < models_; ++m)
      of_seen_rows(m, sample_draws<Estimator>(), [&](Index first, Index count) {
        const auto rows = static_cast<std::size_t>(count);
        return estimate(estimator, loss, margins_of(m).part(first, count),
                        labels(m).subspan(static_cast<std::size_t>(first), rows),
                        residuals_of(m).part(first, count));
      });
    if (!weights().empty()) weigh_residuals(sample_draws<Estimator>());
    accumulate(sample_draws<Estimator>());
  }

  /// The same of an estimator that reads one draw, for a RowwiseLoss: `loss_of(m)` is that of a model.
  template <class LossOf>
  void add_rowwise_pass(const LossOf& loss_of) {
    static_assert(RowwiseLoss<std::remove_cvref_t<decltype(loss_of(0))>>);
    margins(1u);
    const float* const weight = samples_.weights != nullptr ? samples_.weights + pass_.first : nullptr;
    for (int m = 0; m < models_ && pass_.count > 0; ++m)
      of_seen_rows(m, 1u, [&](Index first, Index count) {
        return loss_of(m).slopes(margins_of(m)[0].data() + first, labels(m).data() + first,
                                 anchors() != nullptr ? anchors() + first : nullptr,
                                 weight != nullptr ? weight + first : nullptr, count,
                                 residuals_of(m)[0].data() + first);
      });
    if (weight != nullptr) weigh_residuals(1u);
    accumulate(1u);
  }

  /// The same for a JointLoss: each `classes` models that stand side by side share a normaliser, and hold out the same rows.
  template <JointLoss L>
  void add_joint_pass(const L& loss, int classes) {
    margins(1u);
    for (int first = 0; first < models_ && pass_.count > 0; first += classes)
      for (int k = 0; k < classes; ++k)
        of_seen_rows(first + k, 1u, [&](Index begin, Index count) {
          if (k == 0) {  // of all classes
            const JointLists lists = joint_lists(first, classes, begin);
            loss.slopes(lists.margins.data(), lists.labels.data(), classes, count, lists.residuals.data());
          }
          return 0.0;
        });
    if (!weights().empty()) weigh_residuals(1u);
    accumulate(1u);
  }
  /// Sum over the rows of the pass of a JointLoss of `classes` models from `first` on, weights included.
  template <JointLoss L>
  double joint_total(const L& loss, int first, int classes) {
    if (pass_.count == 0) return 0.0;
    const JointLists lists = joint_lists(first, classes, 0);
    return loss.total(lists.margins.data(), lists.labels.data(),
                      samples_.weights != nullptr ? samples_.weights + pass_.first : nullptr, classes,
                      pass_.count);
  }

  /// Fetches the rows of the pass whose side of the kink of a loss rounding leaves open, in full precision, from the
  /// refetcher of the options: the margins of a model are then certain of their decisions, and the loss that is returned
  /// knows which are exact, until the next call.
  template <KinkedLoss L>
  detail::DecidedLoss<L> decide(const L& loss, int m) {
    flags_.resize(static_cast<std::size_t>((std::max)(pass_.count, Index{1})));
    float* const z = margins_.of(m, 0) + pass_.lead;
    fetched_ += detail::refetch(*refetcher_, reader_->model(batch_, m), intercepts_[m], pass_.first,
                                pass_.count, L::kink, labels(m).data(), z, flags_.data());
    return {loss, z, flags_.data()};
  }
  /// add_pass with decided margins.
  template <KinkedLoss L>
  void add_refetched_pass(const L& loss) {
    margins(1u);
    const float* const weight = samples_.weights != nullptr ? samples_.weights + pass_.first : nullptr;
    for (int m = 0; m < models_ && pass_.count > 0; ++m) {
      const detail::DecidedLoss<L> decided = decide(loss, m);
      of_seen_rows(m, 1u, [&](Index first, Index count) {
        return decided.slopes(margins_of(m)[0].data() + first, labels(m).data() + first, nullptr,
                              weight != nullptr ? weight + first : nullptr, count,
                              residuals_of(m)[0].data() + first);
      });
    }
    if (weight != nullptr) weigh_residuals(1u);
    accumulate(1u);
  }
  /// Rows that were fetched since the last call, those of each model counted.
  Index take_fetched() { return std::exchange(fetched_, 0); }

  /// Rows of the batch that a model sees, those of all workers, or of one alone. A model that sees none stays as it is.
  Index seen_rows(int m) const {
    if (is_alone()) return seen_[static_cast<std::size_t>(m)];
    return end_ - first_ - hidden_rows(m, first_, end_ - first_).count;
  }

  /// Variance of the rounding in the margins of a model of this batch, x'diag(correction) x. O(d) once a batch.
  double margin_variance(int m = 0);

  /// x -= step * g for one model, with the mean gradient g of the batch as it arrives; x, padded to
  /// model_padding, may be the model that the batch began with. Each model once a batch, in their order.
  /// Returns the mean gradient of the intercept.
  float descend(int m, float step, float* x);
  /// Largest magnitude of the last gradient, to detect divergence.
  float largest() const { return largest_; }

  /// Writes the mean gradient of the batch (d values, padded to model_padding) as it arrives and returns that
  /// of the intercept.
  float end_batch(float* gradient, int m = 0) {
    std::fill_n(gradient, padded_, 0.0f);
    return descend(m, -1.0f, gradient);
  }

  /// Whether everything but the samples is float32: then batches of one row can do without the device.
  bool is_exact() const { return !integer_ && !to_device_[0].rounds() && !from_device_[0].rounds(); }
  /// Counts the vectors of batches that did without the device.
  void count_batches(Index batches) {
    for (ChannelEncoder& encoder : to_device_) encoder.count(batches);
    for (ChannelEncoder& encoder : from_device_) encoder.count(batches);
  }

  /// Bytes that have moved through the channels of a model so far.
  const Traffic& model_traffic(int m = 0) const { return to_device_[static_cast<std::size_t>(m)].traffic(); }
  const Traffic& gradient_traffic(int m = 0) const {
    return from_device_[static_cast<std::size_t>(m)].traffic();
  }

 private:
  /// Whether the margins of these samples and model channel are sums of integers.
  static bool multiplies_integers(const SampleView& samples, const Channel& model) {
    return samples.has_integer_path() && model.rounds() && samples.cols <= max_int8_columns;
  }
  /// Whether the codes of the channel are what the margins are computed with.
  static bool sends_codes(const Channel& model) {
    return model.is_stochastic() && model.scaling == ChannelScaling::max &&
           model.levels == ChannelLevels::uniform;
  }

  /// Whether this worker keeps what its share of the rows adds up to.
  bool is_alone() const { return reducer_ != nullptr && meets_ == nullptr; }
  /// Whether workers add up integers in every pass, with a scale that they agree on.
  bool meets_in_passes() const { return meets_ != nullptr && integer_ && !from_device_[0].rounds(); }
  /// This worker's part of so many rows.
  Share mine_of(Index count) const { return share_of_worker(count, group_rows, reducer_); }

  /// The part of [first, first + count) that a model does not see, from `first` on.
  RowRange hidden_rows(int m, Index first, Index count) const {
    if (held_out_.empty()) return {};
    const RowRange& hidden = held_out_[static_cast<std::size_t>(m)];
    const Index begin = (std::max)(hidden.first, first);
    const Index end = (std::min)(hidden.first + hidden.count, first + count);
    return end > begin ? RowRange{begin - first, end - begin} : RowRange{};
  }

  /// f(first, count), which writes residuals and returns what is subtracted, of the rows of the pass that a model sees;
  /// residuals of the others are 0.
  template <class F>
  void of_seen_rows(int m, unsigned draws, const F& f) {
    const RowRange hidden = hidden_rows(m, pass_.first, pass_.count);
    if (hidden.count == 0) return subtract(f(Index{0}, pass_.count), m);
    const DrawLists<float> lists = residuals_of(m);
    for (int draw = 0; draw < samples_.draws; ++draw)
      if ((draws >> draw & 1u) != 0) std::fill_n(lists[draw].data() + hidden.first, hidden.count, 0.0f);
    const Index behind = hidden.first + hidden.count;
    if (hidden.first > 0) subtract(f(Index{0}, hidden.first), m);
    if (behind < pass_.count) subtract(f(behind, pass_.count - behind), m);
  }

  /// Margins, labels and residuals of models that share a loss, from a row of the pass on.
  struct JointLists {
    List<const float*> margins, labels;
    List<float*> residuals;
  };
  JointLists joint_lists(int first, int classes, Index row) {
    JointLists lists;
    for (int m = first; m < first + classes; ++m) {
      lists.margins.push_back(margins_of(m)[0].data() + row);
      lists.labels.push_back(labels(m).data() + row);
      lists.residuals.push_back(residuals_of(m)[0].data() + row);
    }
    return lists;
  }

  void choose_readers(const Channel& model);

  void weigh_residuals(unsigned draws);

  float descend_exactly(int m, float step, float* x);

  /// The correction times a factor, or null. The factor is the slope of an affine loss, the same in every
  /// batch.
  const float* correction_for(double factor);

  /// Replaces `sent`, this worker's part of a gradient, by the sum of what travels of all workers; returns the sum of their
  /// residuals.
  float meet(int m, float residual, float* sent);

  /// Prefetches the rows [first, first + count) while this pass is worked on: batches come in random order,
  /// which the hardware prefetcher does not follow.
  void look_ahead(Index first, Index count);

  void reserve(Index rows);

  KernelTable kernels_;
  SampleView samples_;
  const MappedTargets& targets_;
  Reducer* reducer_;  // with whom rows are shared
  Reducer* meets_;    // with whom sums are: reducer_, or null
  Random random_;
  bool integer_;
  bool receives_codes_;  // of the model, else values
  PassTeam team_;
  int models_;
  List<RowRange> held_out_;  // of each model, or empty
  List<Index> seen_;         // rows of the batch, of each model, where a worker is alone
  const Refetcher* refetcher_;
  Index fetched_ = 0;
  List<char> flags_;  // of the rows of a pass: fetched
  Index d_;
  Index padded_;
  List<ChannelEncoder> to_device_;    // of each model
  List<ChannelEncoder> from_device_;  // of each model
  Buffer<float> received_;            // the models, where they arrive in values
  Buffer<float> sent_;                // the gradients, where they are rounded
  std::unique_ptr<Reader> main_;
  std::unique_ptr<Reader> few_;  // for batches of fewer rows than a group
  Buffer<float> correction_;
  Buffer<float> scaled_correction_;
  float factor_ = 1.0f;        // of scaled_correction_
  Buffer<double> variances_;   // margin_variance() of each model, negative: not known yet
  Buffer<double> intercepts_;  // of each model
  Buffer<float> scratch_;      // padded

  // of the batch
  Index first_ = 0;
  Index end_ = 0;
  Index next_ = 0;
  Index last_ = 0;  // of the rows that this worker works on: end_, or the end of its share
  BatchModels batch_;
  Reader* reader_ = nullptr;
  GradientSums sums_;
  float largest_ = 0.0f;
  Index announced_first_ = 0;
  Index announced_count_ = 0;

  // of the pass
  Pass pass_;
  List<Outlier> outliers_;
  PassSlots margins_;
  PassSlots residuals_;
};

#if ZIPML_DEFINES

ZIPML_FUNCTION MappedTargets::MappedTargets(const Targets& targets, std::span<const LabelMap> maps,
                                            std::span<const int> of_models)
    : rows_(targets.rows()),
      values_(targets.values().size()),
      of_models_(of_models.begin(), of_models.end()) {
  for (int m = 0; m < targets.models(); ++m) {
    const std::span<const float> from = targets.of(m);
    for (Index i = 0; i < rows_; ++i)
      values_[m * rows_ + i] = maps[static_cast<std::size_t>(m)].apply(from[static_cast<std::size_t>(i)]);
  }
}

ZIPML_FUNCTION GradientDevice::GradientDevice(const KernelTable& kernels, const SampleView& samples,
                                              const MappedTargets& targets, const DeviceOptions& options)
    : kernels_(kernels),
      samples_(samples),
      targets_(targets),
      reducer_(options.reducer),
      meets_(options.alone ? nullptr : options.reducer),
      random_(options.seed),
      integer_(multiplies_integers(samples, options.channels.model)),
      receives_codes_(integer_ && sends_codes(options.channels.model)),
      // Integer passes pay from 128 KB of codes on; float ones are shorter, and wait for memory anyway.
      team_(options.team, integer_ ? static_cast<Index>(0x1p20 / samples.stored_bits) : Index{1} << 18),
      models_(options.models),
      held_out_(options.held_out.begin(), options.held_out.end()),
      refetcher_(options.refetcher),
      d_(samples.cols),
      padded_(padded(d_)),
      sums_(d_, models_, integer_ ? team_.size() : 1, integer_, !samples.outliers.empty()) {
  for (int m = 0; m < models_; ++m) {
    to_device_.emplace_back(options.channels.model, d_, random_, Stream::model);
    from_device_.emplace_back(options.channels.gradient, d_, worker_random(options.seed, options.reducer),
                              Stream::gradient);
  }
  if (to_device_[0].rounds() && !receives_codes_) received_ = Buffer<float>(padded_ * models_);
  if (from_device_[0].rounds()) sent_ = Buffer<float>(padded_ * models_);
  if (is_alone()) seen_ = List<Index>(static_cast<std::size_t>(models_));
  batch_.models.resize(static_cast<std::size_t>(models_));
  variances_ = Buffer<double>(models_);
  intercepts_ = Buffer<double>(models_);
  scratch_ = Buffer<float>(padded_);
  choose_readers(options.channels.model);
}

ZIPML_FUNCTION void GradientDevice::set_correction(const Buffer<float>& diagonal) {
  correction_ = Buffer<float>(diagonal.empty() ? 0 : padded_);
  std::copy(diagonal.begin(), diagonal.end(), correction_.begin());
  factor_ = 1.0f;
  scaled_correction_ = Buffer<float>();
}

ZIPML_FUNCTION void GradientDevice::begin_batch(Index first, Index count, const float* x,
                                                const float* intercepts, std::uint64_t batch) {
  first_ = first;
  end_ = first + count;
  // What meets at the end of a batch is shared as a batch: passes of many columns have too few rows for all.
  const Share mine = meets_in_passes() ? Share{0, count} : mine_of(count);
  next_ = first + mine.first;
  last_ = next_ + mine.count;
  batch_.batch = batch;
  std::fill(variances_.begin(), variances_.end(), -1.0);
  batch_.needs_model = !correction_.empty() || !samples_.outliers.empty() || refetcher_ != nullptr;
  for (int m = 0; m < models_; ++m) {
    BatchModels::Model& model = batch_.models[static_cast<std::size_t>(m)];
    model.base = intercepts_[m] = static_cast<double>(intercepts[m]);
    model.x = x + m * padded_;
    ChannelEncoder& encoder = to_device_[static_cast<std::size_t>(m)];
    if (!received_.empty()) {
      float* received = received_.data() + m * padded_;
      std::copy_n(model.x, padded_, received);
      encoder.send(kernels_, batch, received);
      model.x = received;
    } else {
      encoder.count();
    }
  }
  sums_.begin_batch();
  std::fill(seen_.begin(), seen_.end(), 0);
  reader_ = !integer_ && count < group_rows ? few_.get() : main_.get();
  reserve(reader_->pass_rows(count));
  reader_->begin_batch(batch_);
}

ZIPML_FUNCTION double GradientDevice::margin_variance(int m) {
  if (correction_.empty()) return 0.0;
  BatchModels::Model& model = batch_.models[static_cast<std::size_t>(m)];
  double& variance = variances_[m];
  if (variance < 0.0) {
    for (Index j = 0; j < padded_; ++j)
      scratch_[j] = (correction_[j] > 0.0f ? correction_[j] : 0.0f) * model.x[j];
    detail::barrier();
    variance = detail::dot(scratch_.data(), model.x, scratch_.data(), padded_);
  }
  return variance;
}

ZIPML_FUNCTION bool GradientDevice::next_pass() {
  if (next_ == last_) return false;
  const Index first = next_;
  const Index count = (std::min)(last_ - next_, reader_->pass_rows(end_ - first_));
  next_ += count;
  const Share mine = meets_in_passes() ? mine_of(count) : Share{0, count};
  pass_.batch = batch_.batch;
  pass_.first = first + mine.first;
  pass_.count = mine.count;
  pass_.place = pass_.first - first_;
  const bool grouped = reader_->reads_groups() && pass_.count > 0;
  pass_.lead = grouped ? pass_.first % group_rows : 0;
  pass_.groups = {pass_.first / group_rows, 0};
  if (pass_.count > 0)
    pass_.groups.count = (pass_.first + pass_.count + group_rows - 1) / group_rows - pass_.groups.first;
  for (std::size_t m = 0; m < seen_.size(); ++m)
    seen_[m] += pass_.count - hidden_rows(static_cast<int>(m), pass_.first, pass_.count).count;
  samples_.outliers.find(pass_.first, pass_.count, outliers_);
  pass_.outliers = outliers_;
  reader_->begin_pass(pass_);
  if (next_ < last_)
    look_ahead(next_, (std::min)(last_ - next_, reader_->pass_rows(end_ - first_)));
  else if (const Index count_ahead = std::exchange(announced_count_, 0); count_ahead > 0) {
    const Share ahead = meets_in_passes() ? Share{0, count_ahead} : mine_of(count_ahead);
    if (ahead.count > 0)
      look_ahead(announced_first_ + ahead.first, (std::min)(ahead.count, reader_->pass_rows(count_ahead)));
  }
  return true;
}

ZIPML_FUNCTION float GradientDevice::descend(int m, float step, float* x) {
  ChannelEncoder& encoder = from_device_[static_cast<std::size_t>(m)];
  if (!encoder.rounds() && m == 0) sums_.reduce(meets_, integer_);
  if (seen_rows(m) == 0) {
    largest_ = 0.0f;
    return 0.0f;
  }
  if (!encoder.rounds()) {
    encoder.count();
    return descend_exactly(m, step, x);
  }
  float* sent = sent_.data() + m * padded_;
  std::fill_n(sent, padded_, 0.0f);
  // A worker's message holds the share of the gradient, and of the correction, that its own rows make.
  float residual = descend_exactly(m, -1.0f, sent);
  // Non-finite gradients cannot be rounded; the caller detects divergence.
  constexpr float most = (std::numeric_limits<float>::max)();
  if (meets_ == nullptr && (!(std::fabs(residual) <= most) || !(largest_ <= most))) return residual;
  if (meets_ != nullptr)
    residual = meet(m, residual, sent);
  else
    encoder.send(kernels_, batch_.batch, sent);
  kernels_.descend_row(RowStep{sent, step}, x, padded_);
  return residual;
}

ZIPML_FUNCTION void GradientDevice::choose_readers(const Channel& model) {
  if (samples_.is_dense()) {
    main_ = std::make_unique<FloatRows>(kernels_, samples_, team_);
  } else if (integer_) {
    FoldedRounding how;
    if (receives_codes_)
      how.bits = model.bits;
    else
      how.draw = 1;  // what has arrived is rounded again
    // Rounded gradients of workers meet as messages, exact ones as integers.
    Reducer* const meets = from_device_[0].rounds() ? nullptr : meets_;
    main_ = std::make_unique<PackedIntegers>(kernels_, samples_, team_, models_, how, random_, meets);
  } else if (samples_.levels.is_affine()) {
    main_ = std::make_unique<AffineFloats>(kernels_, samples_, team_, models_);
  } else {
    main_ = std::make_unique<ColumnTableFloats>(kernels_, samples_, team_);
  }
  if (samples_.is_dense())
    few_ = std::make_unique<FloatRows>(kernels_, samples_, team_);
  else if (!integer_)
    few_ = std::make_unique<DecodedRows>(kernels_, samples_, team_);
  reader_ = main_.get();
}

ZIPML_FUNCTION void GradientDevice::weigh_residuals(unsigned draws) {
  const std::span<const float> weight = weights();
  for (int m = 0; m < models_; ++m) {
    const DrawLists<float> lists = residuals_of(m);
    for (int draw = 0; draw < samples_.draws; ++draw)
      if ((draws >> draw & 1u) != 0)
        for (std::size_t i = 0; i < weight.size(); ++i) lists[draw][i] *= weight[i];
  }
}

ZIPML_FUNCTION float GradientDevice::descend_exactly(int m, float step, float* x) {
  const GradientSums::OfModel sums = sums_[m];
  const auto count = static_cast<float>(seen_rows(m));
  GradientFrame frame = reader_->frame(sums_, m);
  frame.outliers = reader_->reads_groups() ? sums_.outliers(m) : nullptr;
  frame.diagonal = correction_for(sums.subtracted / static_cast<double>(count));
  frame.model = reader_->model(batch_, m);
  frame.share = 1.0f / count;
  team_.step_ahead();
  largest_ = kernels_.descend(frame, step, x, padded_);
  return static_cast<float>(sums.residuals / static_cast<double>(count));
}

ZIPML_FUNCTION const float* GradientDevice::correction_for(double factor) {
  if (correction_.empty() || factor == 0.0) return nullptr;
  const auto rounded = static_cast<float>(factor);
  if (rounded == 1.0f) return correction_.data();
  if (scaled_correction_.empty() || rounded != factor_) {
    if (scaled_correction_.empty()) scaled_correction_ = Buffer<float>(padded_);
    for (Index j = 0; j < padded_; ++j) scaled_correction_[j] = rounded * correction_[j];
    factor_ = rounded;
  }
  return scaled_correction_.data();
}

ZIPML_FUNCTION float GradientDevice::meet(int m, float residual, float* sent) {
  sum_through_channel(*meets_, kernels_, from_device_[static_cast<std::size_t>(m)], batch_.batch, d_, sent);
  largest_ = kernels_.largest(sent, padded_);
  auto sum = static_cast<double>(residual);
  meets_->sum(std::span<double>(&sum, 1));
  return static_cast<float>(sum);
}

ZIPML_FUNCTION void GradientDevice::look_ahead(Index first, Index count) {
  samples_.outliers.prefetch(first, count);
  const auto memory = samples_.memory_of(first, count);
  team_.look_ahead(reinterpret_cast<const char*>(memory.data()), static_cast<Index>(memory.size()),
                   pass_.count * d_);
  for (int m = 0; m < models_; ++m)
    if (m == 0 || targets_.of(m) != targets_.of(m - 1))
      for (Index i = 0; i < count; i += 16) __builtin_prefetch(targets_.of(m) + first + i, 0, 3);
}

ZIPML_FUNCTION void GradientDevice::reserve(Index rows) {
  const Index places = round_up(rows, group_rows) + group_rows;  // a pass may begin inside a group
  if (places <= margins_.places()) return;
  margins_ = PassSlots(models_, samples_.draws, places);
  residuals_ = PassSlots(models_, samples_.draws, places);
}

#endif

}  // namespace zipml::inline ZIPML_ABI
