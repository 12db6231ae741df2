#pragma once
/// \file
/// Room analysis: the Gram matrix of a packed store from integers, exact, where its values are offset + step *
/// code: what solves its least-squares problem, at several times the speed of float32 products.
///
/// With q = o + s t (t the codes or the entries of the table that all columns share, o and s of each column), and
/// the exact sums P_jk = sum_i t_ij t_ik and S_j = sum_i t_ij,
///
///     sum_i q_ij q_ik = n o_j o_k + o_j s_k S_k + o_k s_j S_j + s_j s_k P_jk
///
/// in double. Outliers e correct it: (q + e)(q + e)' - q q' = B + B', B = e (q + e / 2)', of which only the rows of
/// the columns that have outliers are not 0.

#include <algorithm>
#include <cstdint>
#include <string>

#include <zipml/base/buffer.hpp>
#include <zipml/base/collective.hpp>
#include <zipml/base/thread_team.hpp>
#include <zipml/eigen.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/kernels/row_decoder.hpp>
#include <zipml/storage/sample_view.hpp>

namespace zipml::inline ZIPML_ABI {

/// Products and sums of the columns of a store of n rows and d columns, for one of its draws.
struct CodeGram {
  Index rows = 0;                 ///< n
  Index cols = 0;                 ///< d
  Buffer<std::int64_t> products;  ///< P: row j of the lower triangle, k = 0 .. j, stands at j (j + 1) / 2
  Buffer<std::int64_t> sums;      ///< S
  /// (1/n) sum_i q_i q_i' of the decoded values in standardised units, outliers as they are, with an intercept of
  /// ones as column d: d + 1 rows and columns, both triangles.
  Eigen::MatrixXd moments;

  /// P_jk, in any order of j and k.
  std::int64_t product(Index j, Index k) const {
    return j >= k ? products[j * (j + 1) / 2 + k] : products[k * (k + 1) / 2 + j];
  }
};

/// Whether code_gram is for these samples: packed, levels offset + step * code or the entries of one table for all
/// columns, not scaled by row, rows that count alike, codes of a byte.
bool has_code_gram(const SampleView& samples);

/// The Gram matrix of a draw: the same bits whatever the number of threads (0: as many as the machine has), and
/// whatever the kernels and the number of workers are where there are no outliers. Each worker reads a share of the rows; one
/// exchange of d (d + 1) / 2 integers brings all of them together, another as many doubles where there are outliers. Throws Error for samples that has_code_gram refuses, and
/// for a draw that they lack. O(n d^2), and O(d) for each outlier.
///
///     const zipml::SampleView samples = store.samples();
///     const auto kernels = zipml::kernels_for<zipml::AnyCode, zipml::kernel_families::gram>(zipml::active_isa());
///     if (zipml::has_code_gram(samples)) moments = zipml::code_gram(kernels, samples, 0).moments;
CodeGram code_gram(const KernelTable& kernels, const SampleView& samples, int draw, int threads = 1,
                   Collective* workers = nullptr);

#if ZIPML_DEFINES

namespace detail {

/// The sums of a share of the groups of rows, which are added to `to`.
ZIPML_FUNCTION void add_code_products(const KernelTable& kernels, const SampleView& samples, int draw,
                                      ThreadTeam& team, Collective* workers, CodeGram& to) {
  struct Sums {
    Buffer<std::int64_t> products;
    Buffer<std::int64_t> sums;
  };
  const CodeTable table{samples.levels.entries, samples.levels.entry_count};
  const Share of_worker = share_of_worker(samples.layout.groups(), block_groups, workers);
  List<Sums> others(static_cast<std::size_t>(team.size() - 1));
  team.run([&](int part) {
    Buffer<std::int64_t>* products = &to.products;
    Buffer<std::int64_t>* sums = &to.sums;
    if (part > 0) {
      Sums& other = others[static_cast<std::size_t>(part - 1)];
      other = {Buffer<std::int64_t>(to.products.size()), Buffer<std::int64_t>(to.cols)};
      products = &other.products;
      sums = &other.sums;
    }
    const Share share = share_of(of_worker.count, block_groups, part, team.size());
    if (share.count > 0)
      kernels.gram({samples.codes, samples.layout}, samples.planes(draw), table,
                   {of_worker.first + share.first, share.count}, {products->data(), sums->data()});
  });
  for (const Sums& other : others) {
    for (Index k = 0; k < to.products.size(); ++k) to.products[k] += other.products[k];
    for (Index j = 0; j < to.cols; ++j) to.sums[j] += other.sums[j];
  }
  if (workers == nullptr) return;
  workers->sum(to.products.span());
  workers->sum(to.sums.span());
}

/// Sums B of the outliers: pieces of rows in float32, one for each thread at a time, and these in their order in
/// double, so that threads change no bit.
class OutlierProducts {
 public:
  OutlierProducts(const KernelTable& kernels, const SampleView& samples, int draw, ThreadTeam& team,
                  Collective* workers)
      : kernels_(kernels),
        samples_(samples),
        draw_(draw),
        width_(padded(samples.cols + 1)),
        rows_(samples),
        pieces_(static_cast<std::size_t>(team.size())),
        sums_(samples.cols * width_) {
    const Share mine = share_of_worker((samples.rows + piece - 1) / piece, 1, workers);
    const Index count = mine.first + mine.count;
    for (Index first = mine.first; first < count; first += team.size()) {
      const auto together = static_cast<int>(std::min<Index>(team.size(), count - first));
      team.run([&](int part) {
        if (part < together) add_piece(first + part, pieces_[static_cast<std::size_t>(part)]);
      });
      team.run([&](int part) {
        const Share share = share_of(sums_.size(), model_padding, part, team.size());
        for (int k = 0; k < together; ++k)
          kernels_.add_to_doubles(pieces_[static_cast<std::size_t>(k)].data() + share.first,
                                  sums_.data() + share.first, share.count);
      });
    }
    if (workers != nullptr) workers->sum(sums_.span());
  }

  /// B_jk, k = d being the intercept.
  double operator()(Index j, Index k) const { return j < samples_.cols ? sums_[j * width_ + k] : 0.0; }

 private:
  /// Some 50 outliers of a column at a rate of 0.3 %.
  static constexpr Index piece = 16384;

  void add_piece(Index which, Buffer<float>& sums) const {
    if (sums.empty())
      sums = Buffer<float>(sums_.size());
    else
      std::fill(sums.begin(), sums.end(), 0.0f);
    const Index first = which * piece;
    List<Outlier> found;
    samples_.outliers.find(first, (std::min)(piece, samples_.rows - first), found);
    Buffer<float> row(width_);
    for (std::size_t at = 0; at < found.size();) {
      const std::int32_t i = found[at].row;
      std::size_t end = at;
      while (end < found.size() && found[end].row == i) ++end;
      rows_.read(kernels_, first + i, draw_, row.data());
      row[samples_.cols] = 1.0f;
      for (std::size_t k = at; k < end; ++k) row[found[k].column] += 0.5f * found[k].correction;
      for (; at < end; ++at)
        kernels_.descend_row(RowStep{row.data(), -found[at].correction},
                             sums.data() + found[at].column * width_, width_);
    }
  }

  const KernelTable& kernels_;
  const SampleView& samples_;
  int draw_;
  Index width_;
  RowDecoder rows_;
  List<Buffer<float>> pieces_;  // of each thread
  Buffer<double> sums_;
};

/// Moments of offset + step * code, the upper triangle: by columns, as they lie in memory.
ZIPML_FUNCTION void find_moments(const CodeLevels& levels, CodeGram& gram) {
  const Index d = gram.cols;
  const auto n = static_cast<double>(gram.rows);
  gram.moments = Eigen::MatrixXd(d + 1, d + 1);
  Buffer<double> scaled(d);  // s_j S_j
  for (Index j = 0; j < d; ++j)
    scaled[j] = static_cast<double>(levels.step[j]) * static_cast<double>(gram.sums[j]);
  for (Index j = 0; j < d; ++j) {
    const auto offset = static_cast<double>(levels.offset[j]);
    const auto step = static_cast<double>(levels.step[j]);
    for (Index k = 0; k <= j; ++k) {
      const auto other = static_cast<double>(levels.offset[k]);
      const double squares = step * static_cast<double>(levels.step[k]) *
                             static_cast<double>(gram.products[j * (j + 1) / 2 + k]);
      gram.moments(k, j) = offset * other + (offset * scaled[k] + other * scaled[j] + squares) / n;
    }
    gram.moments(j, d) = offset + scaled[j] / n;
  }
  gram.moments(d, d) = 1.0;
}

}  // namespace detail

ZIPML_FUNCTION bool has_code_gram(const SampleView& samples) {
  return samples.has_integer_path() && samples.levels.tables == nullptr && !samples.levels.scales_rows() &&
         samples.weights == nullptr && samples.rows > 0 && samples.cols > 0 &&
         detail::largest_code(samples.planes(0)) <= 255;
}

ZIPML_FUNCTION CodeGram code_gram(const KernelTable& kernels, const SampleView& samples, int draw,
                                  int threads, Collective* workers) {
  if (!has_code_gram(samples))
    throw Error("code_gram: these samples have no integer form",
                "levels offset + step * code or one table, codes of up to 8 bits, no weights",
                std::to_string(samples.bits) + " bits");
  if (draw < 0 || draw >= samples.draws)
    throw Error("code_gram: there is no such draw", "0 to " + std::to_string(samples.draws - 1),
                std::to_string(draw));
  const Index d = samples.cols;
  CodeGram gram;
  gram.rows = samples.rows;
  gram.cols = d;
  gram.products = Buffer<std::int64_t>(checked_product(d, d + 1, "a Gram matrix") / 2);
  gram.sums = Buffer<std::int64_t>(d);
  ThreadTeam team(thread_count(threads));
  detail::add_code_products(kernels, samples, draw, team, workers, gram);
  detail::find_moments(samples.levels, gram);
  if (!samples.outliers.empty()) {
    const detail::OutlierProducts products(kernels, samples, draw, team, workers);
    const auto n = static_cast<double>(samples.rows);
    for (Index j = 0; j <= d; ++j)
      for (Index k = 0; k <= j; ++k) gram.moments(k, j) += (products(j, k) + products(k, j)) / n;
  }
  gram.moments.triangularView<Eigen::StrictlyLower>() = gram.moments.transpose();
  return gram;
}

#endif

}  // namespace zipml::inline ZIPML_ABI
