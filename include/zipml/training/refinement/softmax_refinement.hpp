#pragma once
/// \file
/// Room training: refinement of all classes together, multinomial logistic regression: quasi-Newton steps around the packed second
/// derivatives of each class.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <zipml/analysis/full_pass.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/exponential.hpp>
#include <zipml/base/fingerprint.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/eigen.hpp>
#include <zipml/estimators/requirements.hpp>
#include <zipml/kernels/kernel_policy.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/softmax.hpp>
#include <zipml/training/observer.hpp>
#include <zipml/training/original_units.hpp>
#include <zipml/training/refinement/packed_inverse.hpp>
#include <zipml/training/refinement/quasi_newton_steps.hpp>
#include <zipml/training/refinement/refined.hpp>
#include <zipml/training/refinement/refinement_run.hpp>
#include <zipml/training/refinement/shared_readings.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// Rows in full precision with their classes, and a penalty of l2 alone. A point is d weights and an intercept of each class, one behind the
/// other, as ClassObjective has it.
struct SoftmaxProblem {
  const Objective<SquaredLoss>& rows;      ///< whose labels play no part
  std::span<const std::int32_t> class_of;  ///< of each row
  Index classes;
  double l2;

  Index width() const { return rows.cols() + 1; }
};

/// p(k) = e^(z_k - m) / sum_j e^(z_j - m), m the largest margin; returns log(sum_j e^(z_j)).
template <class Place>
double class_probabilities(const double* z, Index classes, const Place& p) {
  const double most = *std::max_element(z, z + classes);
  double sum = 0.0;
  for (Index k = 0; k < classes; ++k) sum += p(k) = exponential(z[k] - most);
  for (Index k = 0; k < classes; ++k) p(k) /= sum;
  return most + logarithm(sum);
}

/// One reading: the value at a point, and its gradient (Bishop 2006, equation 4.109).
double read_softmax(FullPass& pass, const SoftmaxProblem& problem, const Eigen::VectorXd& x,
                    Eigen::VectorXd& gradient);

/// w_i p_k (1 - p_k) of the packed rows at x, a list for each class: what the second derivatives of that class alone are
/// weighted with. Those of two classes, -p_j p_k, are left to the steps. O(n d k).
List<Buffer<float>> softmax_curvatures(const SampleView& samples, Index classes, const Eigen::VectorXd& x,
                                       Collective* workers);

/// A PackedInverse for each class, at a point of all of them, between projections onto what has a sum of zero over the classes: there
/// gradients lie, and the minimum with a penalty, since probabilities do not change when all classes move alike. The blocks
/// know nothing of that direction, in which the penalty alone has curvature.
template <BilinearEstimator Estimator>
class BlockInverse {
 public:
  BlockInverse(const KernelTable& kernels, const SampleView& samples, const SoftmaxProblem& problem,
               const Eigen::VectorXd& x, const RefineOptions& options, Refined& result)
      : width_(problem.width()) {
    const auto start = std::chrono::steady_clock::now();
    List<Buffer<float>> curvatures = softmax_curvatures(samples, problem.classes, x, options.reducer);
    result.seconds_packed += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    ++result.packed_passes;
    result.packed_bytes += static_cast<double>(samples.store_bytes);
    for (Buffer<float>& of_class : curvatures)
      blocks_.emplace_back(kernels, samples, std::move(of_class), problem.l2, options, result);
  }

  Eigen::VectorXd operator()(const Eigen::VectorXd& r) {
    const Eigen::VectorXd balanced = less_the_mean(r);
    Eigen::VectorXd solved(r.size());
    for (std::size_t k = 0; k < blocks_.size(); ++k) {
      const Index first = static_cast<Index>(k) * width_;
      solved.segment(first, width_) = blocks_[k](balanced.segment(first, width_));
    }
    return less_the_mean(solved);
  }

 private:
  /// v less its mean over the classes.
  Eigen::VectorXd less_the_mean(Eigen::VectorXd v) const {
    Eigen::Map<Eigen::MatrixXd> of(v.data(), width_, v.size() / width_);
    const Eigen::VectorXd mean = of.rowwise().mean();
    of.colwise() -= mean;
    return v;
  }

  Index width_;
  List<PackedInverse<Estimator>> blocks_;
};

/// What each class has of a refinement of all: its weights, and an equal share of bytes and seconds of readings.
List<Refined> refined_of_classes(const SoftmaxProblem& problem, const RefinedPoint& at, const Refined& whole,
                                 const std::string& representation);

/// Refines all classes together from no weights.
template <BilinearEstimator Estimator>
List<Refined> refine_softmax(const KernelTable& kernels, const SampleView& samples,
                             const SoftmaxProblem& problem, const RefineOptions& options,
                             std::span<const ObserverRef> observers) {
  check_refinement(options);
  if (options.reducer != nullptr) {
    Fingerprint problems;
    problems.add(std::string_view(Estimator::name)).add(problem.l2);
    for (const std::int32_t value : problem.class_of) problems.add(static_cast<std::uint64_t>(value));
    require_same_refinement(options, samples, problem.classes, problems);
  }
  FullPass pass(problem.rows.features(), problem.rows.weights(), problem.rows.standardization(),
                options.threads, active_isa(options.isa), options.reducer);
  RefinementClock clock;
  Refined whole;
  const Index width = problem.width(), size = width * problem.classes;
  const auto read = [&](const Eigen::VectorXd& x, Eigen::VectorXd& gradient) {
    const double before = clock.seconds();
    const double value = read_softmax(pass, problem, x, gradient);
    whole.seconds_full += clock.seconds() - before;
    whole.full_bytes += 4.0 * static_cast<double>(pass.rows()) * static_cast<double>(pass.cols());
    return value;
  };
  const auto watch = [&](const RefinedPoint& point, const Refined& so_far) {
    const double seconds = clock.seconds();
    bool stop = false;
    clock.pause([&] {
      for (Index k = 0; k < problem.classes; ++k) {
        const double* const of = point.x.data() + k * width;
        const EpochEvent event{so_far.full_passes, options.passes, {of, static_cast<std::size_t>(width - 1)},
                               of[width - 1],      seconds,        static_cast<int>(k)};
        for (const ObserverRef& observer : observers) stop = (observer(event) == Flow::stop) || stop;
      }
      if (options.reducer != nullptr) stop = options.reducer->any(stop);
    });
    return stop ? Flow::stop : Flow::go_on;
  };
  const auto invert = [&](const Eigen::VectorXd& x) {
    return BlockInverse<Estimator>(kernels, samples, problem, x, options, whole);
  };
  const Goal goal{options.tolerance, 1e-12 * std::log(static_cast<double>(problem.classes))};
  RefinedPoint at{Eigen::VectorXd::Zero(size), Eigen::VectorXd::Zero(size), 0.0};
  bool goes_on = true;
  if (options.passes > 0) {
    at.value = read(at.x, at.residual);
    at.residual = -at.residual;
    ++whole.full_passes;
    goes_on = watch(at, whole) != Flow::stop;
  }
  if (goes_on)
    quasi_newton_steps(at, options, goal, read, invert, watch, whole);
  else
    whole.status = FitStatus::stopped;
  advise(options, whole);
  whole.value = at.value;
  whole.seconds = clock.seconds();
  return refined_of_classes(problem, at, whole,
                            std::string(Estimator::name) + ":" + std::to_string(samples.bits));
}

#if ZIPML_DEFINES

ZIPML_FUNCTION double read_softmax(FullPass& pass, const SoftmaxProblem& problem, const Eigen::VectorXd& x,
                                   Eigen::VectorXd& gradient) {
  const Index width = problem.width(), classes = problem.classes;
  List<FullPass::Question> questions;
  for (Index k = 0; k < classes; ++k)
    questions.push_back(
        {{x.data() + k * width, static_cast<std::size_t>(width)}, gradient.data() + k * width});
  pass.answer_together(questions, [&](Index i, const double* z, FullPass::Slope* out) {
    const auto right = static_cast<Index>(problem.class_of[static_cast<std::size_t>(i)]);
    const double all = class_probabilities(z, classes, [out](Index k) -> double& { return out[k].first; });
    for (Index k = 0; k < classes; ++k) out[k].value = 0.0;
    out[0].value = all - z[right];
    out[right].first -= 1.0;
  });
  double value = 0.0;
  for (const FullPass::Question& question : questions) value += question.value;
  for (Index k = 0; k < classes; ++k) {
    const auto weights = x.segment(k * width, width - 1);
    value += 0.5 * problem.l2 * weights.squaredNorm();
    gradient.segment(k * width, width - 1) += problem.l2 * weights;
  }
  return value;
}

ZIPML_FUNCTION List<Buffer<float>> softmax_curvatures(const SampleView& samples, Index classes,
                                                      const Eigen::VectorXd& x, Collective* workers) {
  const Index d = samples.cols;
  const Eigen::Map<const Eigen::MatrixXd> models(x.data(), d + 1, classes);
  Buffer<float> row(d);
  Eigen::VectorXd values = Eigen::VectorXd::Ones(d + 1), z(classes), p(classes);
  List<Buffer<float>> curvatures;
  for (Index k = 0; k < classes; ++k) curvatures.emplace_back(samples.rows);
  SharedRows{{0, samples.rows}, workers}.for_pieces(4096, [&](Index, RowRange rows) {
    for (Index i = rows.first; i < rows.first + rows.count; ++i) {
      samples.decode_row(i, 0, row.data());
      for (Index j = 0; j < d; ++j) values(j) = static_cast<double>(row[j]);
      z.noalias() = models.transpose() * values;
      (void)class_probabilities(z.data(), classes, [&p](Index k) -> double& { return p(k); });
      const double weight = samples.weights != nullptr ? static_cast<double>(samples.weights[i]) : 1.0;
      for (Index k = 0; k < classes; ++k)
        curvatures[static_cast<std::size_t>(k)][i] = static_cast<float>(weight * p(k) * (1.0 - p(k)));
    }
  });
  if (workers != nullptr)
    for (Buffer<float>& of_class : curvatures) workers->sum(of_class.span());
  return curvatures;
}

ZIPML_FUNCTION List<Refined> refined_of_classes(const SoftmaxProblem& problem, const RefinedPoint& at,
                                                const Refined& whole, const std::string& representation) {
  const Index d = problem.rows.cols(), width = problem.width();
  const auto share = static_cast<double>(problem.classes);
  const float both[] = {-1.0f, 1.0f};
  const LabelStatistics statistics = label_statistics(LabelView(std::span(both)));
  List<Refined> classes;
  for (Index k = 0; k < problem.classes; ++k) {
    Refined one = whole;
    one.weights = Buffer<double>(d);
    std::copy_n(at.x.data() + k * width, d, one.weights.data());
    one.intercept = at.x(k * width + d);
    for (double* const of : {&one.full_bytes, &one.packed_bytes, &one.seconds_full, &one.seconds_packed})
      *of /= share;
    if (k > 0) one.packed_passes = 0;  // counted once
    one.model =
        in_original_units<SoftmaxLoss>(one.weights.span(), one.intercept, problem.rows.standardization(),
                                       statistics, SoftmaxLoss{}.label_map(statistics));
    one.model.rows = problem.rows.rows();
    one.model.representation = representation;
    classes.push_back(std::move(one));
  }
  return classes;
}

#endif

}  // namespace zipml::inline ZIPML_ABI::detail
