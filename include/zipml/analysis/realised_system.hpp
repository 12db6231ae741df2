#pragma once
/// \file
/// Room analysis: the problem that a packed store defines, solved exactly: where training on its draws would
/// end if it went on for ever. Needs more of Eigen than its Core, as exact_solver.hpp does; not part of
/// zipml.hpp.

#include <Eigen/Cholesky>
#include <Eigen/QR>
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include <zipml/analysis/clipped_inverse.hpp>
#include <zipml/analysis/code_gram.hpp>
#include <zipml/analysis/exact_solver.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/eigen.hpp>
#include <zipml/estimators/anchor.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/kernels/isa.hpp>
#include <zipml/kernels/row_decoder.hpp>

namespace zipml::inline ZIPML_ABI {

/// The stationary point of an estimator on a store.
struct RealisedSolution {
  Buffer<double> weights;  ///< standardised
  double intercept = 0.0;
  double value = 0.0;    ///< of the objective, on full-precision samples
  bool definite = true;  ///< whether the symmetric part of the matrix is positive definite
};

namespace detail {

/// Rows [first, first + count) of a draw, decoded, with a 1 behind each, times the roots of their weights.
void decode_block(const SampleView& samples, int draw, Index first, Index count, RowMajorMatrix& block);

/// Adds factor * sum_i y_i (q_i, 1) of a draw to `right`: sums of 256 rows in float32, and of these in double. O(n d).
void add_label_products(const KernelTable& kernels, const SampleView& samples, int draw, double factor,
                        const Buffer<float>& labels, Eigen::VectorXd& right);

/// M = sum_p w_p (1/n) sum_i q_s(p) q_m(p)' - diag(bias), with the intercept as column d, and the right-hand
/// side sum_p w_p (1/n) sum_i q_s(p) y_i, labels in store order, each row times its weight. A draw with itself by integers where the
/// store has them (code_gram.hpp); else products of 256 rows in float32, sums of them in double. Workers read a share of the rows
/// each. O(n d^2).
void realised_system(const SampleView& samples, std::span<const DrawPair> pairs, bool corrected,
                     const Buffer<float>& labels, Eigen::MatrixXd& matrix, Eigen::VectorXd& right,
                     int threads = 1, Isa isa = active_isa(), Collective* workers = nullptr);

template <BilinearEstimator Estimator>
void realised_system(const SampleView& samples, Estimator, const Buffer<float>& labels,
                     Eigen::MatrixXd& matrix, Eigen::VectorXd& right) {
  realised_system(samples, Estimator::pairs, Estimator::corrected, labels, matrix, right);
}

/// The solution of M x = right-hand side, of smallest norm where M is singular, without its value.
RealisedSolution solve_realised(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& right);

}  // namespace detail

/// Solves M x = right-hand side for the penalty of `objective` (none or l2; nullopt for others) and evaluates
/// the objective there. What naive solves is ridge regression with mean_i Var q_ij on column j; what an
/// unbiased estimator solves is the least-squares problem up to noise of size 1 / sqrt(n). O(n d^2 + d^3).
template <SampleStore Store, BilinearEstimator Estimator, AffineLoss L, Regularizer R>
std::optional<RealisedSolution> realised_solution(const Store& store, Estimator estimator,
                                                  const Objective<L, R>& objective) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  const auto penalty = strengths_of(objective.regularizer());
  if (!penalty || penalty->l1 > 0.0) return std::nullopt;
  const double lambda = penalty->l2 / static_cast<double>(L::slope);
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  const L& loss = objective.loss();
  const LabelMap map = loss.label_map(store.targets().statistics(0));
  Buffer<float> labels(samples.rows);  // in store order
  for (Index i = 0; i < samples.rows; ++i) {
    const auto label = static_cast<double>(store.targets().of(0)[static_cast<std::size_t>(i)]);
    labels[i] = static_cast<float>(target_of(loss, (label - map.offset) / map.scale));
  }
  Eigen::MatrixXd matrix;
  Eigen::VectorXd right;
  detail::realised_system(samples, estimator, labels, matrix, right);
  for (Index j = 0; j < samples.cols; ++j) matrix(j, j) += lambda;
  RealisedSolution solution = detail::solve_realised(matrix, right);
  solution.value = objective(solution.weights.span(), solution.intercept);
  return solution;
}

/// Where training with the pilot of a store ends (storage/pilot.hpp): solves P (x - w0) = -grad F(w0) with
/// the penalty of `objective`, no epochs, no step. Any positive definite P will do: it is the realised matrix
/// with its correction clipped relative to the variance (detail::ClippedInverse), so that it is never indefinite, as few bits
/// are otherwise. Of two draws P is the symmetric part of their
/// matrix, with as much of a ridge as makes it definite. O(n d^2 + d^3). nullopt where the store has no
/// pilot for these labels, or the penalty is not l2.
///
///     const auto solution = zipml::pilot_solution(store, zipml::variance_corrected, zipml::Objective(data));
template <SampleStore Store, BilinearEstimator Estimator, AffineLoss L, Regularizer R>
std::optional<RealisedSolution> pilot_solution(const Store& store, Estimator estimator,
                                               const Objective<L, R>& objective) {
  static_assert(StoreHasEnoughDraws<Estimator, Store> && StoreHasBias<Estimator, Store>,
                "zipml: this store was not quantized for this estimator");
  const auto penalty = strengths_of(objective.regularizer());
  if (!penalty || penalty->l1 > 0.0) return std::nullopt;
  const SampleView samples = store.samples();
  require_samples_for(estimator, samples);
  const Anchor anchor = anchor_for<Estimator>(samples.pilot, objective.loss(), store.targets());
  if (!anchor.used()) return std::nullopt;
  const Index d = samples.cols;
  const double lambda = penalty->l2 / anchor.slope;
  Eigen::MatrixXd matrix;
  Eigen::VectorXd right;
  detail::realised_system(samples, Estimator::pairs, false, Buffer<float>(samples.rows), matrix, right);
  Eigen::VectorXd variance = Eigen::VectorXd::Zero(d + 1);
  Eigen::VectorXd gradient(d + 1);
  RealisedSolution solution;
  solution.weights = Buffer<double>(d);
  for (Index j = 0; j <= d; ++j) gradient(j) = anchor.gradient(j) / anchor.slope;
  for (Index j = 0; j < d; ++j) {
    if (Estimator::corrected) variance(j) = static_cast<double>(samples.bias[j]);
    solution.weights[j] = anchor.weight(j);
    matrix(j, j) += lambda;
    gradient(j) += lambda * solution.weights[j];
  }
  const double clip = 2.0 * std::sqrt(static_cast<double>(d) / static_cast<double>(samples.rows));
  const Eigen::VectorXd delta = -detail::ClippedInverse(matrix, variance, clip)(gradient);
  for (Index j = 0; j < d; ++j) solution.weights[j] += delta(j);
  solution.intercept = anchor.intercept() + delta(d);
  solution.value = objective(solution.weights.span(), solution.intercept);
  return solution;
}

#if ZIPML_DEFINES

namespace detail {

ZIPML_FUNCTION void decode_block(const SampleView& samples, int draw, Index first, Index count,
                                 RowMajorMatrix& block) {
  for (Index i = 0; i < count; ++i) {
    samples.decode_row(first + i, draw, block.data() + i * block.cols());
    block(i, block.cols() - 1) = 1.0f;
    if (samples.weights != nullptr) block.row(i) *= std::sqrt(samples.weights[first + i]);
  }
}

ZIPML_FUNCTION void add_label_products(const KernelTable& kernels, const SampleView& samples, int draw,
                                       double factor, const Buffer<float>& labels, Eigen::VectorXd& right) {
  constexpr Index piece = 256;
  const Index d = samples.cols;
  const RowDecoder rows(samples);
  Buffer<float> row(padded(d));
  Buffer<float> products(padded(d));
  Buffer<double> sums(padded(d));
  double label_sum = 0.0;
  List<Outlier> outliers;
  for (Index first = 0; first < samples.rows; first += piece) {
    const Index count = (std::min)(piece, samples.rows - first);
    std::fill(products.begin(), products.end(), 0.0f);
    for (Index i = first; i < first + count; ++i) {
      kernels.descend_row(RowStep{rows.read(kernels, i, draw, row.data()), -labels[i]}, products.data(),
                          padded(d));
      label_sum += static_cast<double>(labels[i]);
    }
    kernels.add_to_doubles(products.data(), sums.data(), padded(d));
    samples.outliers.find(first, count, outliers);
    for (const Outlier& outlier : outliers)
      sums[outlier.column] +=
          static_cast<double>(outlier.correction) * static_cast<double>(labels[first + outlier.row]);
  }
  for (Index j = 0; j < d; ++j) right(j) += factor * sums[j];
  right(d) += factor * label_sum;
}

ZIPML_FUNCTION void realised_system(const SampleView& samples, std::span<const DrawPair> pairs,
                                    bool corrected, const Buffer<float>& labels, Eigen::MatrixXd& matrix,
                                    Eigen::VectorXd& right, int threads, Isa isa, Collective* workers) {
  const Index d = samples.cols;
  const Index n = samples.rows;
  constexpr Index piece = 256;
  matrix = Eigen::MatrixXd::Zero(d + 1, d + 1);
  right = Eigen::VectorXd::Zero(d + 1);
  const auto by_integers = [integers = has_code_gram(samples)](const DrawPair& pair) {
    return integers && pair.margin == pair.sample;
  };
  bool all_by_integers = true;
  for (const DrawPair& pair : pairs) all_by_integers = all_by_integers && by_integers(pair);
  RowMajorMatrix sample, margin;
  Eigen::MatrixXf product;
  if (!all_by_integers) {
    sample = margin = RowMajorMatrix::Zero(piece, d + 1);
    product = Eigen::MatrixXf(d + 1, d + 1);
  }
  const auto add_piece = [&](Index, RowRange rows_of_piece) {
    const Index first = rows_of_piece.first, count = rows_of_piece.count;
    Eigen::VectorXf y = Eigen::Map<const Eigen::VectorXf>(labels.data() + first, count);
    if (samples.weights != nullptr)
      y.array() *= Eigen::Map<const Eigen::ArrayXf>(samples.weights + first, count).sqrt();
    for (const DrawPair& pair : pairs) {
      if (by_integers(pair)) continue;
      decode_block(samples, pair.sample, first, count, sample);
      const auto rows = sample.topRows(count);
      if (pair.margin == pair.sample) {
        product.setZero();
        product.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
        product.triangularView<Eigen::StrictlyUpper>() = product.transpose();
      } else {
        decode_block(samples, pair.margin, first, count, margin);
        product.noalias() = rows.transpose() * margin.topRows(count);
      }
      const auto weight = static_cast<double>(pair.weight);
      matrix += weight * product.cast<double>();
      right += weight * (rows.transpose() * y).cast<double>();
    }
  };
  if (!all_by_integers) {
    SharedRows{{0, n}, workers}.for_pieces(piece, add_piece);
    if (workers != nullptr) {
      workers->sum(std::span<double>(matrix.data(), static_cast<std::size_t>(matrix.size())));
      workers->sum(std::span<double>(right.data(), static_cast<std::size_t>(right.size())));
    }
  }
  matrix /= static_cast<double>(n);
  const KernelTable kernels = kernels_for<AnyCode, kernel_families::gram>(isa);
  const bool has_labels = std::any_of(labels.begin(), labels.end(), [](float y) { return y != 0.0f; });
  for (const DrawPair& pair : pairs) {
    if (!by_integers(pair)) continue;
    const auto weight = static_cast<double>(pair.weight);
    matrix += weight * code_gram(kernels, samples, pair.sample, threads, workers).moments;
    if (has_labels) add_label_products(kernels, samples, pair.sample, weight, labels, right);
  }
  right /= static_cast<double>(n);
  if (corrected)
    for (Index j = 0; j < d; ++j) matrix(j, j) -= static_cast<double>(samples.bias[j]);
}

ZIPML_FUNCTION RealisedSolution solve_realised(const Eigen::MatrixXd& matrix, const Eigen::VectorXd& right) {
  const Eigen::VectorXd x = Eigen::CompleteOrthogonalDecomposition<Eigen::MatrixXd>(matrix).solve(right);
  const Index d = x.size() - 1;
  RealisedSolution solution;
  solution.definite =
      detail::has_solved(Eigen::LLT<Eigen::MatrixXd>(0.5 * (matrix + matrix.transpose())).info());
  solution.weights = Buffer<double>(d);
  for (Index j = 0; j < d; ++j) solution.weights[j] = x(j);
  solution.intercept = x(d);
  return solution;
}

}  // namespace detail

#endif

}  // namespace zipml::inline ZIPML_ABI
