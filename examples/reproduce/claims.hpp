#pragma once
// The claims of ZipML 2017, each a row: what the paper says, what is measured here,
// whether it holds.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "study.hpp"

struct Claim {
  std::string claim = {};  // "(a) samples in 2 bits"
  std::string set = {};
  std::string setting = {};  // what was run
  std::string paper = {};    // its figure
  double measured = 0.0;
  enum class Unit {
    gap,     // loss over that of 32 bits, less 1
    bits,    // stored bits per value; 0: none up to 8 does
    ratio,   // times
    sets,    // that keep the result
    share,   // of the rows
    points,  // of accuracy
  } unit = Unit::gap;
  bool holds = false;
  std::optional<bool> holds_tight = {};  // at 0.1 % instead of 1 %
};

/// A run whose losses are drawn, epoch by epoch.
struct Curve {
  std::string set;
  std::string run;
  double bytes_per_epoch = 0.0;   // through all three channels
  std::vector<double> losses;     // after each epoch
  std::optional<double> optimum;  // the least loss there is
};

/// All claims on one set; `tell` hears what is being done.
std::vector<Claim> claims_on(Study& study, const std::function<void(const std::string&)>& tell);

/// Claims on a set of two classes for losses whose derivative is not affine; `logistic` and `hinge` are studies of one set.
std::vector<Claim> nonlinear_claims_on(Study& logistic, Study& hinge,
                                       const std::function<void(const std::string&)>& tell);

/// The claim about a deep net, on generated images: means over the seeds.
std::vector<Claim> deep_claims(int seeds, int threads, bool quick,
                               const std::function<void(const std::string&)>& tell);

/// What several sets say together: how many hold the claims on single channels, the most that levels save.
std::vector<Claim> claims_overall(const std::vector<Claim>& claims);

/// float32, naive, double sampling, and everything in few bits by the best of ours.
std::vector<Curve> curves_of(Study& study);
