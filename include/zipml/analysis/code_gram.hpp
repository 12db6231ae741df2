#pragma once
/// \file
/// Room analysis: the second moments of packed samples, from sums of products of their codes in integers.

#include <algorithm>
#include <cstdint>

#include <zipml/base/buffer.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/eigen.hpp>
#include <zipml/kernels/gram_kernels.hpp>
#include <zipml/kernels/gram_panels.hpp>
#include <zipml/storage/sample_view.hpp>

namespace zipml::inline ZIPML_ABI {

/// Whether second_moments() are sums of integers: of packed samples with affine levels, or one table for all columns, whose
/// codes fit a byte, and whose rows have neither weights nor scales.
bool has_code_gram(const SampleView& samples, int draw = 0);

/// sum_i c_ij c_ik over all rows of a draw, exact; c_id = 1, so that the last row has the sums of the columns and, at its end, n. With a
/// table for all columns c is its entry. (d + 1)^2 numbers, the lower triangle of a symmetric matrix. The same for any
/// number of threads and any instruction set. O(n d^2).
Buffer<std::int64_t> code_gram(const SampleView& samples, int draw = 0, int threads = 1,
                               Isa isa = active_isa());

/// E q q' = 1/n sum_i (q_i, 1) (q_i, 1)' of a draw, outliers included, in standardised units, d + 1 rows and columns: from
/// code_gram() and the levels, and for rows with outliers in double what these add. O(n d^2), and O(d) an outlier.
///
///     const Eigen::MatrixXd matrix = zipml::second_moments(store.samples());
Eigen::MatrixXd second_moments(const SampleView& samples, int draw = 0, int threads = 1,
                               Isa isa = active_isa());

#if ZIPML_DEFINES

namespace detail {

/// What outliers add to sums of products: with rows w = v + e, of which e are the corrections, w w' - v v' = e w' + w e' - e
/// e'.
inline void add_outlier_moments(const SampleView& samples, int draw, Eigen::MatrixXd& sums) {
  if (samples.outliers.empty()) return;
  const Index d = samples.cols;
  RowMajorMatrix row(1, d + 1);
  row(0, d) = 1.0f;
  Eigen::MatrixXd products = Eigen::MatrixXd::Zero(d + 1, d + 1);  // column j: sum of e_j w
  List<Outlier> found;
  constexpr Index piece = 4096;
  for (Index first = 0; first < samples.rows; first += piece) {
    samples.outliers.find(first, (std::min)(piece, samples.rows - first), found);
    for (std::size_t k = 0; k < found.size();) {
      const Index of = found[k].row;
      samples.decode_row(first + of, draw, row.data());
      const Eigen::VectorXd w = row.row(0).transpose().cast<double>();
      const std::size_t begin = k;
      for (; k < found.size() && found[k].row == of; ++k)
        products.col(found[k].column) += static_cast<double>(found[k].correction) * w;
      for (std::size_t a = begin; a < k; ++a)
        for (std::size_t b = begin; b < k; ++b)
          sums(found[a].column, found[b].column) -=
              static_cast<double>(found[a].correction) * static_cast<double>(found[b].correction);
    }
  }
  sums += products + products.transpose();
}

}  // namespace detail

ZIPML_FUNCTION bool has_code_gram(const SampleView& samples, int draw) {
  if (!samples.has_integer_path() || samples.levels.scales_rows() || samples.weights != nullptr) return false;
  const PlaneList planes = samples.planes(draw);
  return planes.code_bits + (planes.has_draw_plane ? 1 : 0) <= 8;
}

ZIPML_FUNCTION Buffer<std::int64_t> code_gram(const SampleView& samples, int draw, int threads, Isa isa) {
  const Index n = samples.rows, size = samples.cols + 1;
  const Index piece = samples.cols < 256 ? 1024 : 512;  // panels stay in the second-level cache
  static_assert(gram_rows % 1024 == 0);
  const GramKernel kernel = gram_kernel(isa);
  ThreadTeam team(thread_count(threads));
  List<Buffer<std::int64_t>> sums(static_cast<std::size_t>(team.size()));
  team.run([&](int part) {
    Buffer<std::int64_t>& mine = sums[static_cast<std::size_t>(part)];
    mine = Buffer<std::int64_t>(checked_product(size, size, "sums of products"));
    detail::GramPanels panels(samples, draw, piece, isa);
    const Index columns = panels.columns();
    Buffer<std::int32_t> some(checked_product(columns, columns, "sums of products"));
    Index rows = 0;
    const auto flush = [&] {
      for (Index j = 0; j < size; ++j)
        for (Index k = 0; k <= j; ++k) mine[j * size + k] += some[j * columns + k];
      std::fill(some.begin(), some.end(), 0);
      rows = 0;
    };
    for (Index first = part * piece; first < n; first += team.size() * piece) {
      kernel(panels.of(first, (std::min)(piece, n - first)), some.data());
      rows += piece;
      if (rows == gram_rows) flush();
    }
    flush();
  });
  for (std::size_t part = 1; part < sums.size(); ++part)
    for (Index j = 0; j < sums[0].size(); ++j) sums[0][j] += sums[part][j];
  return std::move(sums[0]);
}

ZIPML_FUNCTION Eigen::MatrixXd second_moments(const SampleView& samples, int draw, int threads, Isa isa) {
  const Index d = samples.cols, size = d + 1;
  const Buffer<std::int64_t> codes = code_gram(samples, draw, threads, isa);
  const auto n = static_cast<double>(samples.rows);
  Eigen::VectorXd offset(size), step(size), mean(size);  // of the column of ones: 1 + 0 t
  for (Index j = 0; j < d; ++j) {
    offset(j) = static_cast<double>(samples.levels.offset[j]);
    step(j) = static_cast<double>(samples.levels.step[j]);
  }
  offset(d) = 1.0;
  step(d) = 0.0;
  for (Index j = 0; j < size; ++j) mean(j) = static_cast<double>(codes[d * size + j]);
  mean(d) = n;
  Eigen::MatrixXd sums(size, size);
  for (Index j = 0; j < size; ++j)
    for (Index k = 0; k <= j; ++k)
      sums(j, k) = sums(k, j) = n * offset(j) * offset(k) + offset(j) * step(k) * mean(k) +
                                offset(k) * step(j) * mean(j) +
                                step(j) * step(k) * static_cast<double>(codes[j * size + k]);
  detail::add_outlier_moments(samples, draw, sums);
  return sums / n;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
