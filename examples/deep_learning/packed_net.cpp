#include "packed_net.hpp"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <zipml/packing/place_codes.hpp>
#include <zipml/zipml.hpp>

namespace deep {

PackedDense::PackedDense(const Parameters<float>& parameters, const WeightLevels& levels,
                         const zipml::KernelTable& kernels, zipml::Isa isa)
    : kernels_(kernels) {
  if (levels.tables().size() != 1)
    throw zipml::Error("packed weights have one table for a layer", "levels of a layer",
                       "levels of each channel");
  const LevelTable& table = levels.tables().front();
  const auto bits = std::max(1, static_cast<int>(std::bit_width(table.values.size() - 1)));
  layout_ = {parameters.value.rows(), parameters.value.cols(), bits};
  if (layout_.cols > zipml::max_int8_columns)
    throw zipml::Error("a layer has too many inputs for int8 margins",
                       std::to_string(zipml::max_int8_columns), std::to_string(layout_.cols));
  planes_ = zipml::PlaneList::of_code(bits);
  offset_ = table.offset;
  step_ = table.step;
  // A table with an entry for each code; of evenly spaced levels the code is the entry.
  entries_ = zipml::Buffer<std::uint8_t>(Index{1} << bits);
  has_table_ = false;
  for (Index k = 0; k < entries_.size(); ++k) {
    entries_[k] = table.entries[std::min(static_cast<std::size_t>(k), table.entries.size() - 1)];
    has_table_ = has_table_ || (k < static_cast<Index>(table.entries.size()) && entries_[k] != k);
  }
  largest_code_ = has_table_ ? zipml::table_model_levels(planes_) : zipml::max_model_code;
  codes_ = zipml::Buffer<std::uint8_t>(layout_.bytes() + 64);
  for (Index row = 0; row < layout_.rows; ++row)
    for (int p = 0; p < planes_.count; ++p) {
      const int width = planes_[p].width, bit = static_cast<int>(row % zipml::group_rows) * width;
      std::uint8_t* panel =
          codes_.data() + layout_.offset(planes_[p], row / zipml::group_rows) + bit / 8 * layout_.cols;
      zipml::place_codes(isa, width, levels.codes().data() + row * layout_.cols, layout_.cols,
                         planes_[p].shift, bit % 8 / width, panel);
    }
  bias_.assign(parameters.bias.data(), parameters.bias.data() + parameters.bias.size());
  model_ = zipml::Buffer<std::int8_t>(zipml::round_up(layout_.cols, zipml::model_padding));
  in_ = zipml::Buffer<float>(model_.size());
  sums_ = zipml::Buffer<std::int32_t>(layout_.groups() * zipml::group_rows);
}

void PackedDense::forward(const float* in, float* out) {
  std::copy_n(in, layout_.cols, in_.begin());
  const float largest = kernels_.largest(in_.data(), in_.size());
  const float scale = largest > 0.0f ? largest / static_cast<float>(largest_code_) : 1.0f;
  kernels_.round_symmetric(in_.data(), layout_.cols,
                           {.random = zipml::Random(0),
                            .place = {zipml::Stream::model, 0, 0, 0},
                            .scale = scale,
                            .levels = largest_code_,
                            .nearest = true},
                           model_.data());
  const zipml::PackedView view(codes_.data(), layout_);
  const zipml::GroupRange all{0, layout_.groups()};
  const zipml::ModelBlock<const std::int8_t> model{model_.data()};
  const zipml::ModelBlock<std::int32_t> sums{sums_.data()};
  if (has_table_)
    kernels_.margins(view, planes_, {entries_.data(), static_cast<int>(entries_.size())}, all, model, sums);
  else
    kernels_.margins(view, planes_, all, model, sums);
  const float base = offset_ * static_cast<float>(kernels_.sum_codes(model_.data(), model_.size()));
  for (Index k = 0; k < layout_.rows; ++k)
    out[k] = bias_[static_cast<std::size_t>(k)] + scale * (base + step_ * static_cast<float>(sums_[k]));
}

PackedReport run_packed(QuantizedNet& trained, const Images& test) {
  PackedReport report;
  auto& layers = trained.net.layers();
  // From the first dense layer on there is nothing but dense layers and rectifiers.
  std::size_t first = 0, weights_before = 0;
  while (dynamic_cast<Dense<float>*>(layers[first].get()) == nullptr)
    weights_before += layers[first++]->parameters() != nullptr ? 1 : 0;
  if (trained.levels.empty() || trained.levels[weights_before].quantizer().by_channel) return report;
  const zipml::Isa isa = zipml::active_isa();
  const zipml::KernelTable kernels = zipml::kernels_of(isa);
  report.ran = true;
  report.isa = kernels.name;
  std::vector<PackedDense> packed;
  std::size_t which_levels = weights_before;
  for (std::size_t k = first; k < layers.size(); ++k)
    if (const Parameters<float>* p = layers[k]->parameters()) {
      packed.emplace_back(*p, trained.levels[which_levels++], kernels, isa);
      report.bits = std::max(report.bits, packed.back().bits());
      report.bytes += packed.back().bytes();
      report.float_bytes += 4.0 * static_cast<double>(p->value.size());
    }

  // What the dense layers are given.
  constexpr Index together = 256;
  const Index size = layers[first]->input().size(), count = test.count();
  Matrix<float> inputs(size, count), at;
  std::vector<int> labels;
  for (Index i = 0; i < count; i += together) {
    std::vector<Index> some;
    for (Index k = i; k < std::min(i + together, count); ++k) some.push_back(k);
    take_images(test, some, at, labels);
    for (std::size_t k = 0; k < first; ++k) at = Matrix<float>(layers[k]->forward(at));
    inputs.middleCols(i, static_cast<Index>(some.size())) =
        Eigen::Map<const Matrix<float>>(at.data(), size, static_cast<Index>(some.size()));
  }

  using Clock = std::chrono::steady_clock;
  const auto best_of = [&](const auto& work) {
    double least = INFINITY;
    for (int k = 0; k < 5; ++k) {
      const auto start = Clock::now();
      work();
      least = std::min(least, std::chrono::duration<double>(Clock::now() - start).count());
    }
    return 1e6 * least / static_cast<double>(count);
  };
  const Index classes = layers.back()->output().size();
  Matrix<float> of_packed(classes, count), of_eigen(classes, count);
  std::vector<float> from, to;
  report.us_packed = best_of([&] {
    for (Index i = 0; i < count; ++i) {
      from.assign(inputs.col(i).data(), inputs.col(i).data() + size);
      for (std::size_t k = 0; k < packed.size(); ++k) {
        to.resize(static_cast<std::size_t>(packed[k].outputs()));
        packed[k].forward(from.data(), to.data());
        if (k + 1 < packed.size())
          for (float& x : to) x = std::max(x, 0.0f);
        from.swap(to);
      }
      std::copy(from.begin(), from.end(), of_packed.col(i).data());
    }
  });
  const auto with_eigen = [&](Index batched) {
    for (Index i = 0; i < count; i += batched) {
      const Index some = std::min(batched, count - i);
      Matrix<float> batch = inputs.middleCols(i, some);
      for (std::size_t k = first; k < layers.size(); ++k) batch = layers[k]->forward(batch);
      of_eigen.middleCols(i, some) = batch;
    }
  };
  report.us_eigen_one = best_of([&] { with_eigen(1); });
  report.us_eigen = best_of([&] { with_eigen(together); });
  for (Index i = 0; i < count; ++i) {
    Index ours = 0, theirs = 0;
    of_packed.col(i).maxCoeff(&ours);
    of_eigen.col(i).maxCoeff(&theirs);
    const Index label = test.labels[static_cast<std::size_t>(i)];
    report.same_answers += ours == theirs ? 1.0 : 0.0;
    report.accuracy += ours == label ? 1.0 : 0.0;
    report.float_accuracy += theirs == label ? 1.0 : 0.0;
  }
  for (double* share : {&report.same_answers, &report.accuracy, &report.float_accuracy})
    *share /= static_cast<double>(count);
  trained.net.release();
  return report;
}

}  // namespace deep
