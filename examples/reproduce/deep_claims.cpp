// The paper's claim about a deep net: levels where the variance is least against evenly spaced ones, as many.

#include <cmath>
#include <cstdio>

#include "../deep_learning/study.hpp"
#include "claims.hpp"

std::vector<Claim> deep_claims(int seeds, int threads, bool quick,
                               const std::function<void(const std::string&)>& tell) {
  const deep::ImageSet set = deep::generated_images(quick ? 2'000 : 8'000, quick ? 1'000 : 4'000, 1);
  std::vector<deep::Quantizer> quantizers;
  for (const int levels : {3, 5})
    for (const deep::Spacing spacing : {deep::Spacing::even_largest, deep::Spacing::even_best,
                                        deep::Spacing::optimal_nearest, deep::Spacing::lloyd_max})
      quantizers.push_back({spacing, levels});
  const std::vector<deep::Run> runs = deep::run_all(
      set, quantizers, seeds, threads, {.epochs = quick ? 5 : 10},
      [&](const deep::Run& run) { tell(run.quantizer.name() + " " + std::to_string(run.quantizer.levels)); });
  const std::vector<deep::Row> rows = deep::rows_of(runs, set.classes);
  std::vector<Claim> claims;
  for (const deep::Contest& contest : deep::contests_of(rows)) {
    const auto add = [&](const char* claim, const deep::Row& even, double wanted, const char* paper) {
      const deep::Row& optimal = *contest.optimal;
      // Two standard errors of the difference of two means.
      const double error =
          2.0 * std::sqrt((even.deviation * even.deviation + optimal.deviation * optimal.deviation) / seeds);
      char setting[160];
      std::snprintf(setting, sizeof setting, "%d levels: %s %.2f %%, %s %.2f %% (+- %.2f)", contest.levels,
                    optimal.quantizer.name().c_str(), 100.0 * optimal.test_accuracy,
                    even.quantizer.name().c_str(), 100.0 * even.test_accuracy, 100.0 * error);
      const double gain = optimal.test_accuracy - even.test_accuracy;
      claims.push_back({.claim = claim,
                        .set = "images",
                        .setting = setting,
                        .paper = paper,
                        .measured = gain,
                        .unit = Claim::Unit::points,
                        .holds = gain >= (wanted > 0.0 ? wanted : -error)});
    };
    add("(l) net, optimal levels against XNOR's", *contest.even_largest, 0.05,
        contest.levels == 5 ? "over 5 points" : "");
    add("(l) ... against the best evenly spaced", *contest.even, 0.0, "");
  }
  return claims;
}
