#pragma once
/// \file
/// Room training: what the training loop tells after each epoch, and what may be answered.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdio>
#include <limits>
#include <span>
#include <type_traits>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include <zipml/analysis/objective.hpp>
#include <zipml/base/buffer.hpp>

namespace zipml::inline ZIPML_ABI {

/// State at the end of an epoch. The time that observers take is in no figure of the library.
struct EpochEvent {
  int epoch;                        ///< from 1
  int epochs;                       ///< as asked for
  std::span<const double> weights;  ///< standardised, averaged over the tail when averaging is on
  double intercept;
  double seconds;  ///< of training, all epochs so far
  int model = 0;   ///< of several models that are trained together
};

/// An observer's answer; one that returns nothing goes on. Of several models it is the event's one that
/// stops.
enum class Flow { go_on, stop };

/// Anything callable with an EpochEvent that returns nothing or a Flow.
template <class O>
concept Observer = std::invocable<O&, const EpochEvent&> &&
    (std::is_void_v<std::invoke_result_t<O&, const EpochEvent&>> ||
     std::is_same_v<std::invoke_result_t<O&, const EpochEvent&>, Flow>);

namespace detail {

/// An observer without its type, so that the training loop is compiled once for all of them. Holds a pointer
/// to it.
class ObserverRef {
 public:
  template <Observer O>
  explicit ObserverRef(O& observer)
      : notify_([](const ObserverRef& self, const EpochEvent& event) {
          O& object = *self.pointer_to<O>();
          if constexpr (std::is_void_v<std::invoke_result_t<O&, const EpochEvent&>>) {
            object(event);
            return Flow::go_on;
          } else {
            return object(event);
          }
        }) {
    if constexpr (std::is_function_v<O>)
      function_ = reinterpret_cast<void (*)()>(&observer);
    else if constexpr (std::is_const_v<O>)
      constant_ = &observer;
    else
      object_ = &observer;
  }
  Flow operator()(const EpochEvent& event) const { return notify_(*this, event); }

 private:
  template <class O>
  O* pointer_to() const {
    if constexpr (std::is_function_v<O>)
      return reinterpret_cast<O*>(function_);
    else if constexpr (std::is_const_v<O>)
      return static_cast<O*>(constant_);
    else
      return static_cast<O*>(object_);
  }

  void* object_ = nullptr;
  const void* constant_ = nullptr;  // an observer that is const
  void (*function_)() = nullptr;    // one that is a function
  Flow (*notify_)(const ObserverRef&, const EpochEvent&);
};

}  // namespace detail

/// Records the objective after every epoch. Pass the object itself to fit; it must outlive the call.
///
///     zipml::History history(objective);
///     sgd.fit(store, {}, history);     // history.values[epoch - 1]
template <class F>
class History {
 public:
  explicit History(const F& objective) : objective_(&objective) {}
  void operator()(const EpochEvent& event) {
    values.push_back((*objective_)(event.weights, event.intercept));
    seconds.push_back(event.seconds);
  }

  List<double> values;
  List<double> seconds;  ///< of training until then

 private:
  const F* objective_;
};

/// Stops when `patience` epochs in a row have not lowered the objective (of a validation set, say) by the
/// relative amount `tolerance`, and keeps the weights of the best one.
///
///     const auto validation = objective.on(held_out);
///     zipml::EarlyStopping early(validation);
///     const auto fit = zipml::Sgd{}.fit(store, {.epochs = 200}, early);
template <class F>
class EarlyStopping {
 public:
  explicit EarlyStopping(const F& objective, int patience = 3, double tolerance = 1e-4)
      : objective_(&objective), patience_(patience), tolerance_(tolerance) {}

  Flow operator()(const EpochEvent& event) {
    const double value = (*objective_)(event.weights, event.intercept);
    last_ = value;
    if (value < lowest_) {
      best_epoch_ = event.epoch;
      best_weights_ = Buffer<double>(static_cast<Index>(event.weights.size()));
      std::copy(event.weights.begin(), event.weights.end(), best_weights_.begin());
      best_intercept_ = event.intercept;
      lowest_ = value;
    }
    if (value <
        best_ - tolerance_ * (best_ < (std::numeric_limits<double>::max)() ? std::fabs(best_) : 0.0)) {
      best_ = value;
      waited_ = 0;
      return Flow::go_on;
    }
    return ++waited_ >= patience_ ? Flow::stop : Flow::go_on;
  }
  /// The lowest value, its epoch (0: none), and the standardised weights there.
  double best() const { return lowest_; }
  int best_epoch() const { return best_epoch_; }
  double last() const { return last_; }  ///< value of the last epoch
  const Buffer<double>& best_weights() const { return best_weights_; }
  double best_intercept() const { return best_intercept_; }

 private:
  const F* objective_;
  int patience_;
  double tolerance_;
  int waited_ = 0;
  double best_ = (std::numeric_limits<double>::max)();  // that patience goes by
  double lowest_ = (std::numeric_limits<double>::max)();
  double last_ = 0.0;
  int best_epoch_ = 0;
  Buffer<double> best_weights_;
  double best_intercept_ = 0.0;
};

/// A line on standard error that grows with the epochs, where that is a terminal; else silent.
struct ProgressBar {
  void operator()(const EpochEvent& event) const {
#if defined(__unix__) || defined(__APPLE__)
    if (isatty(STDERR_FILENO) == 0) return;
    constexpr int width = 40;
    const int done = width * event.epoch / event.epochs;
    std::fprintf(stderr, "\r[%.*s%*s] epoch %d/%d, %.2f s%s", done,
                 "########################################", width - done, "", event.epoch, event.epochs,
                 event.seconds, event.epoch == event.epochs ? "\n" : "");
    std::fflush(stderr);
#else
    (void)event;
#endif
  }
};
inline ProgressBar progress_bar() { return {}; }

}  // namespace zipml::inline ZIPML_ABI
