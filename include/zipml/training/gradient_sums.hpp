#pragma once
/// \file
/// Room training: what the residuals of a batch add up to over its rows, before steps, offsets and outliers
/// are put together to a gradient.

#include <algorithm>
#include <cstdint>
#include <span>

#include <zipml/base/rounded.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/storage/outliers.hpp>
#include <zipml/training/reducer.hpp>

namespace zipml::inline ZIPML_ABI {

/// Sums of a batch for m models, all 0 when a batch begins. On the integer path the codes of a pass add up to
/// integers; these wait for the end of the batch, or become floats when a pass of another scale follows.
class GradientSums {
 public:
  GradientSums() = default;
  GradientSums(Index d, int models, int parts, bool integers, bool has_outliers);

  /// `residuals` is sum_i r_i as they were used, `inner` sum_i r_i p_i with the offset p_i of a scaled row,
  /// `subtracted` the sum of the factors with which the correction is subtracted.
  struct OfModel {
    double residuals = 0.0;
    double inner = 0.0;
    double subtracted = 0.0;
    float code_scale = 0.0f;  ///< of the codes; 0: nothing in them
    bool has_floats = false;  ///< on the integer path
  };

  void begin_batch() {
    std::fill(of_models_.begin(), of_models_.end(), OfModel{});
    std::fill(outliers_.begin(), outliers_.end(), 0.0f);
  }

  OfModel& operator[](int model) { return of_models_[static_cast<std::size_t>(model)]; }
  /// Float sums of all models, or of some columns.
  ModelBlock<float> floats(Index first_column = 0) {
    return {floats_.data() + first_column, padded_, models_};
  }
  /// Integer sums of a thread.
  ModelBlock<std::int32_t> codes(int part = 0) {
    return {codes_.data() + part * padded_ * models_, padded_, models_};
  }
  float* outliers(int model) { return outliers_.empty() ? nullptr : outliers_.data() + model * padded_; }

  /// Adds a code times what an outlier has lost, exactly: the correction is taken as a multiple of 2^-24, so that sums below
  /// 2^28 are those of any order of the rows, on any worker. On the integer path.
  void add_outlier(int model, const Outlier& outlier, std::int8_t code) {
    constexpr double bring_to_2_24 = 0x1.8p28;
    const double exact = (static_cast<double>(outlier.correction) + bring_to_2_24) - bring_to_2_24;
    exact_outliers_[model * padded_ + outlier.column] += pinned(static_cast<double>(code) * exact);
  }
  /// Takes those of a pass, of all workers, to floats with the scales of its codes. `outliers` are this worker's.
  void close_outliers(Reducer* reducer, std::span<const Outlier> outliers);

  /// Adds the integer sums of all threads, the same in whatever parts they were formed, and of all workers.
  void close_codes(Reducer* reducer);

  /// Makes floats of the codes.
  void flush_codes(const KernelTable& kernels, int model);

  /// Adds what other workers have summed in floats. On the integer path codes and outliers are shared pass by pass
  /// already.
  void reduce(Reducer* reducer, bool integers);

 private:
  /// What workers exchange of m padded vectors: of one its d entries.
  template <class T>
  std::span<T> of_workers(Buffer<T>& vectors) {
    return {vectors.data(), static_cast<std::size_t>(models_ == 1 ? d_ : padded_ * models_)};
  }

  int models_ = 1;
  Index d_ = 0;
  Index padded_ = 0;
  List<OfModel> of_models_;
  Buffer<float> floats_;        // m x padded
  Buffer<std::int32_t> codes_;  // parts x m x padded
  int parts_ = 1;
  Buffer<float> outliers_;         // m x padded, or empty
  Buffer<double> exact_outliers_;  // of the pass, on the integer path
};

#if ZIPML_DEFINES

ZIPML_FUNCTION GradientSums::GradientSums(Index d, int models, int parts, bool integers, bool has_outliers)
    : models_(models),
      d_(d),
      padded_(zipml::padded(d)),
      of_models_(static_cast<std::size_t>(models)),
      floats_(padded_ * models),
      codes_(integers ? padded_ * models * parts : 0),
      parts_(parts),
      outliers_(has_outliers ? padded_ * models : 0),
      exact_outliers_(integers ? outliers_.size() : 0) {}

ZIPML_FUNCTION void GradientSums::close_codes(Reducer* reducer) {
  const Index size = padded_ * models_;
  for (int part = 1; part < parts_; ++part) {
    std::int32_t* share = codes_.data() + part * size;
    for (Index j = 0; j < size; ++j) codes_[j] += share[j];
    std::fill_n(share, size, 0);
  }
  if (reducer != nullptr) reducer->sum(of_workers(codes_));
}

ZIPML_FUNCTION void GradientSums::close_outliers(Reducer* reducer, std::span<const Outlier> outliers) {
  if (exact_outliers_.empty()) return;
  const auto take = [&](Index m, Index column) {
    double& exact = exact_outliers_[m * padded_ + column];
    if (exact == 0.0) return;
    const auto scale = static_cast<double>(of_models_[static_cast<std::size_t>(m)].code_scale);
    outliers_[m * padded_ + column] += static_cast<float>(scale * exact);
    exact = 0.0;
  };
  if (reducer != nullptr) reducer->sum(of_workers(exact_outliers_));
  for (Index m = 0; m < models_; ++m)
    if (reducer != nullptr)
      for (Index j = 0; j < padded_; ++j) take(m, j);
    else
      for (const Outlier& outlier : outliers) take(m, outlier.column);
}

ZIPML_FUNCTION void GradientSums::flush_codes(const KernelTable& kernels, int model) {
  OfModel& sums = (*this)[model];
  if (sums.code_scale == 0.0f) return;
  kernels.add_scaled(codes()[model], sums.code_scale, floats()[model], padded_);
  sums.code_scale = 0.0f;
  sums.has_floats = true;
}

ZIPML_FUNCTION void GradientSums::reduce(Reducer* reducer, bool integers) {
  if (reducer == nullptr) return;
  if (!integers) reducer->sum(of_workers(floats_));
  if (!integers && !outliers_.empty()) reducer->sum(of_workers(outliers_));
  List<double> all;
  for (const OfModel& sums : of_models_)
    for (const double part : {sums.residuals, sums.inner, sums.subtracted}) all.push_back(part);
  reducer->sum(std::span<double>(all.data(), all.size()));
  const double* next = all.data();
  for (OfModel& sums : of_models_) {
    sums.residuals = *next++;
    sums.inner = *next++;
    sums.subtracted = *next++;
  }
}

#endif

}  // namespace zipml::inline ZIPML_ABI
