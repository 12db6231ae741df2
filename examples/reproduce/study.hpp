#pragma once
// Runs of one data set, as means over seeds, each beside the 32-bit run of the same seed.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "../train/experiment.hpp"
#include "sets.hpp"

/// What travels in how many bits. Default: everything in 32.
struct Setting {
  std::string estimator = "full";
  int bits = 32;  // of one draw of the samples
  std::string levels = "uniform";
  bool nearest = false;
  double outliers = 0.0;
  bool fresh = false;
  bool pilot = false;
  int model_bits = 32;
  int gradient_bits = 32;
  bool error_feedback = false;
  std::string channel_levels = "uniform";

  /// In words: "variance-corrected, 2 bits, 0.3 % outliers, fresh; model 2 bits".
  std::string text() const;
};

/// The mean over the seeds.
struct Measured {
  double gap =
      0.0;  // loss / loss of the 32-bit run with the same seed and as many epochs - 1; inf: one diverged
  int epochs = 0;  // of one seed, as what follows
  zipml::Traffic samples;
  zipml::Traffic model;
  zipml::Traffic gradient;
  bool indefinite = false;  // of one seed at least
  double refetched = 0.0;   // share of the rows in the last epoch
};

/// "The 32-bit result": at most this far from it.
inline constexpr double same_result = 0.01;
inline constexpr double same_result_tight = 0.001;

class Study {
 public:
  /// `thorough` asks for what holds at 0.1 % as well.
  Study(Set set, int seeds, int epochs, int threads, bool thorough);

  const std::string& name() const { return name_; }
  const std::string& loss() const { return loss_; }
  zipml::Index rows() const { return samples_.sets.train.rows; }
  bool thorough() const { return thorough_; }
  zipml::Index cols() const { return samples_.sets.train.cols; }

  /// Trains with every seed, or remembers having done so.
  const Measured& measure(const Setting& setting);
  /// Runs the first seed of each setting, several at a time.
  void begin(const std::vector<Setting>& settings);
  /// Whether the mean is at most `allowed`. One seed settles it where it alone lifts the mean above: others
  /// are not better than 32 bits by much.
  bool keeps(const Setting& setting, double allowed);
  /// Seconds of an epoch, the fastest of a few runs, nothing else running; batch 256 and one thread.
  double seconds_per_epoch(const Setting& setting) const;
  /// A run with the first seed, with the loss after each epoch and the exact optimum.
  Result curve(const Setting& setting);

 private:
  Options options_of(const Setting& setting, std::uint64_t seed) const;
  /// Loss over that of 32 bits, less 1.
  double gap_of(const Result& result, std::size_t seed) const;
  /// work(k) for k in [first, last), in threads.
  template <class Work>
  void in_parallel(std::size_t first, std::size_t last, const Work& work) const;

  std::string name_;
  std::string loss_;
  float l2_;
  Samples samples_;
  int epochs_;
  int threads_;
  bool thorough_;
  std::vector<double> full_losses_;  // of the 32-bit runs
  std::map<std::string, Measured> known_;
  std::optional<double> optimum_;        // of the loss, once a curve has asked for it
  std::map<std::string, Result> first_;  // runs of the first seed
};
