#pragma once
/// \file
/// Room training: readings in full precision that serve every model which is refined on the same rows, and what they took.

#include <chrono>
#include <span>

#include <zipml/analysis/full_pass.hpp>
#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>
#include <zipml/base/isa.hpp>
#include <zipml/eigen.hpp>
#include <zipml/model/losses.hpp>
#include <zipml/model/regularizers.hpp>
#include <zipml/training/refinement/lock_step.hpp>
#include <zipml/training/refinement/refined.hpp>

namespace zipml::inline ZIPML_ABI::detail {

/// The seconds of a refinement, without those that observers take.
class RefinementClock {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_ - watching_).count(); }
  /// Calls a function whose time is not counted.
  template <class F>
  void pause(const F& f) {
    const auto start = Clock::now();
    f();
    watching_ += Clock::now() - start;
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin_ = Clock::now();
  Clock::duration watching_{};
};

/// What a model wants of a reading: value and gradient of its mean loss at a point of d + 1 entries, or, of an affine loss, the
/// product of its second derivatives and a vector.
template <Loss L, Regularizer R>
struct ReadingRequest {
  const Objective<L, R>* objective;
  const Eigen::VectorXd* at;
  bool is_product;
  Eigen::VectorXd* out;
  double value = 0.0;  ///< is written, as are its shares of the reading:
  double seconds = 0.0;
  double bytes = 0.0;
};

/// Readings of the rows of an objective. Models that run() has started wait for each other, so that a reading answers all of
/// them that still go on; what it takes is shared among them alike.
template <Loss L, Regularizer R>
class SharedReadings {
 public:
  using Request = ReadingRequest<L, R>;

  SharedReadings(const Objective<L, R>& rows, const RefineOptions& options)
      : pass_(rows.features(), rows.weights(), rows.standardization(), options.threads,
              active_isa(options.isa), options.reducer) {}

  RefinementClock& clock() { return clock_; }

  /// Calls body(model) for each model, one at a time (LockStep): one alone in this thread.
  template <class Body>
  void run(Index models, const Body& body) {
    if (models == 1) return body(Index{0});
    requests_.assign(static_cast<std::size_t>(models), nullptr);
    steps_.run(models, body, [this](std::span<const Index> waiting) {
      List<Request*> asked;
      for (const Index model : waiting) asked.push_back(requests_[static_cast<std::size_t>(model)]);
      answer(asked);
    });
    requests_.clear();
  }

  /// Answers the request of a model, from its body or without any.
  void read(Index model, Request& request) {
    if (requests_.empty()) {
      Request* const alone = &request;
      return answer({&alone, 1});
    }
    requests_[static_cast<std::size_t>(model)] = &request;
    steps_.wait(model);
  }

 private:
  void answer(std::span<Request* const> asked) {
    const auto start = std::chrono::steady_clock::now();
    List<FullPass::Question> questions;
    for (Request* const request : asked)
      questions.push_back(
          {{request->at->data(), static_cast<std::size_t>(request->at->size())}, request->out->data()});
    pass_.answer(questions, [asked](std::size_t q, Index i, double z) { return slope_of(*asked[q], i, z); });
    const auto models = static_cast<double>(asked.size());
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    for (std::size_t q = 0; q < asked.size(); ++q) {
      asked[q]->value = questions[q].value;
      asked[q]->seconds = seconds / models;
      asked[q]->bytes = 4.0 * static_cast<double>(pass_.rows()) * static_cast<double>(pass_.cols()) / models;
    }
  }

  static FullPass::Slope slope_of(const Request& request, Index i, double z) {
    const Objective<L, R>& objective = *request.objective;
    if constexpr (AffineLoss<L>) {
      constexpr auto slope = static_cast<double>(L::slope);
      if (request.is_product) return {0.0, slope * z};
      const double label = objective.label(i);
      return {objective.loss().value(z, label), slope * (z - target_of(objective.loss(), label))};
    } else {
      const double label = objective.label(i);
      return {objective.loss().value(z, label), objective.loss().derivatives(z, label).first};
    }
  }

  FullPass pass_;
  RefinementClock clock_;
  List<Request*> requests_;  // of each model, while they run together
  LockStep steps_;
};

}  // namespace zipml::inline ZIPML_ABI::detail
