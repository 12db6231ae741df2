#include "claims.hpp"

#include <algorithm>
#include <cmath>

namespace {

constexpr double outliers = 0.003;
constexpr int most_bits = 8;

const char* const samples_claim = "(a) samples in 2 bits";
const char* const model_claim = "(b) model in 2 bits";
const char* const gradient_claim = "(c) gradient in 2 bits";
const char* const end_to_end_claim = "(d) all three, fewest bits";
const char* const samples_width_claim = "(e) samples, fewest bits";
const char* const bias_claim = "(f) naive is biased";
const char* const levels_claim = "(g) optimal levels save";
const char* const speed_claim = "(h) speed of an epoch";
const char* const logistic_claim = "(i) logistic, fewest bits";
const char* const refetch_claim = "(j) hinge, rows refetched";
const char* const nearest_claim = "(k) nearest rounding is as good";
const char* const bytes_claim = "(a, b, c) bytes moved at 2 bits";

/// Representations of `stored` bits a value, outliers apart: ours, frozen.
std::vector<Setting> frozen(int stored) {
  return {{.estimator = "variance-corrected", .bits = stored, .outliers = outliers},
          {.estimator = "variance-corrected", .bits = stored, .levels = "optimal", .outliers = outliers},
          {.estimator = "naive", .bits = stored, .levels = "lloyd-max", .nearest = true}};
}

/// The same with a pilot, which the paper has not.
std::vector<Setting> with_pilot(std::vector<Setting> menu) {
  for (Setting& setting : menu) setting.pilot = true;
  return menu;
}
std::vector<Setting> from_pilot(int stored) { return with_pilot(frozen(stored)); }

/// The same with fresh draws: ours and the paper's, which stores two bits beside the interval.
std::vector<Setting> fresh(int stored) {
  std::vector<Setting> menu{
      {.estimator = "variance-corrected", .bits = stored, .outliers = outliers, .fresh = true}};
  if (stored > 2) menu.push_back({.estimator = "double-sampling", .bits = stored - 2, .fresh = true});
  return menu;
}

/// All three channels in as many bits.
std::vector<Setting> end_to_end(int bits, bool error_feedback) {
  std::vector<Setting> menu = frozen(bits);
  for (Setting& setting : menu) {
    setting.model_bits = setting.gradient_bits = bits;
    setting.error_feedback = error_feedback;
  }
  return menu;
}

struct Fewest {
  int bits = 0;  // 0: none
  Setting setting{};
};

/// The fewest bits at which one of menu(bits) keeps the result.
template <class Menu>
Fewest fewest(Study& study, const Menu& menu, double allowed = same_result) {
  for (int bits = 1; bits <= most_bits; ++bits) {
    const std::vector<Setting> settings = menu(bits);
    study.begin(settings);
    for (const Setting& setting : settings)
      if (study.keeps(setting, allowed)) return {bits, setting};
  }
  return {};
}

class Claims {
 public:
  explicit Claims(Study& study) : study_(study) {}

  void gap(const char* claim, const Setting& setting, const char* paper) {
    const Measured& measured = study_.measure(setting);
    add({.claim = claim,
         .setting = setting.text() + (measured.indefinite ? " (indefinite)" : ""),
         .paper = paper,
         .measured = measured.gap,
         .holds = measured.gap <= same_result,
         .holds_tight = measured.gap <= same_result_tight});
  }

  /// The fewest bits, and those at 0.1 %; whether they are at most `paper_bits`.
  template <class Menu>
  void width(const char* name, const Menu& menu, int paper_bits, const char* paper) {
    const Fewest found = fewest(study_, menu);
    Claim claim{.claim = name,
                .setting = found.bits > 0 ? found.setting.text() : "none",
                .paper = paper,
                .measured = static_cast<double>(found.bits),
                .unit = Claim::Unit::bits,
                .holds = found.bits > 0 && found.bits <= paper_bits};
    if (study_.thorough()) {
      const int tight = fewest(study_, menu, same_result_tight).bits;
      claim.setting += "; at 0.1 %: " + (tight > 0 ? std::to_string(tight) + " bits" : "none");
      claim.holds_tight = tight > 0 && tight <= paper_bits;
    }
    add(std::move(claim));
  }

  void ratio(const char* claim, const std::string& setting, const char* paper, double measured, bool holds) {
    add({.claim = claim,
         .setting = setting,
         .paper = paper,
         .measured = measured,
         .unit = Claim::Unit::ratio,
         .holds = holds});
  }

  void add(Claim claim) {
    claim.set = study_.name();
    list.push_back(std::move(claim));
  }

  std::vector<Claim> list;

 private:
  Study& study_;
};

/// Float32 bytes over those that a channel moved: payload, and with scales.
void compare_bytes(Study& study, Claims& claims) {
  const double d = static_cast<double>(study.cols());
  const auto add = [&](const Setting& setting, const zipml::Traffic& moved, double vectors) {
    const double full = 4.0 * d * vectors;
    char text[160];
    std::snprintf(text, sizeof text, "%s; payload alone %.2fx", setting.text().c_str(),
                  full / moved.payload_bytes);
    const double all = full / moved.bytes();
    // Below 1,000 columns a scale of 32 bits weighs more.
    claims.ratio(bytes_claim, text, "16x", all,
                 full / moved.payload_bytes > 15.99 && (d < 1000.0 || all >= 15.0));
  };
  const double rows = static_cast<double>(study.rows());
  const double batches = std::ceil(rows / 64.0);
  const auto moved = [&](const Setting& setting, double vectors, zipml::Traffic Measured::*channel) {
    const Measured& measured = study.measure(setting);
    add(setting, measured.*channel, vectors * measured.epochs);
  };
  moved({.estimator = "naive", .bits = 2}, rows, &Measured::samples);
  moved({.model_bits = 2}, batches, &Measured::model);
  moved({.gradient_bits = 2}, batches, &Measured::gradient);
}

void compare_levels(Study& study, Claims& claims) {
  const auto save = [&](const char* name, auto setting_of) {
    const auto with = [&](const char* levels) {
      return fewest(study,
                    [&](int bits) {
                      std::vector<Setting> menu;
                      if (std::optional<Setting> setting = setting_of(bits, levels)) menu.push_back(*setting);
                      return menu;
                    })
          .bits;
    };
    const int uniform = with("uniform"), optimal = with("optimal");
    const double ratio = optimal > 0 && uniform > 0 ? static_cast<double>(uniform) / optimal : 0.0;
    claims.ratio(levels_claim,
                 std::string(name) + ", stored bits: uniform " +
                     (uniform > 0 ? std::to_string(uniform) : ">8") + ", optimal " +
                     (optimal > 0 ? std::to_string(optimal) : ">8"),
                 "up to 1.7x", ratio, ratio > 1.0);
  };
  save("double-sampling", [](int bits, const char* levels) -> std::optional<Setting> {
    if (bits < 3) return std::nullopt;
    return Setting{.estimator = "double-sampling", .bits = bits - 2, .levels = levels};
  });
  save("variance-corrected", [](int bits, const char* levels) -> std::optional<Setting> {
    return Setting{.estimator = "variance-corrected", .bits = bits, .levels = levels};
  });
}

}  // namespace

std::vector<Claim> claims_on(Study& study, const std::function<void(const std::string&)>& tell) {
  Claims claims(study);
  tell(samples_claim);
  const char* const same = "same as 32";
  for (const bool draws_anew : {false, true})
    claims.gap(samples_claim,
               {.estimator = "variance-corrected", .bits = 2, .outliers = outliers, .fresh = draws_anew},
               same);
  claims.gap(samples_claim,
             {.estimator = "variance-corrected", .bits = 2, .levels = "optimal", .outliers = outliers}, same);
  for (const int bits : {1, 2})
    claims.gap(bits == 2 ? samples_claim : "(a) samples in 1 bit",
               {.estimator = "variance-corrected", .bits = bits, .outliers = outliers, .pilot = true}, same);
  claims.gap("(a) samples in 3 bits", {.estimator = "variance-corrected", .bits = 3, .outliers = outliers},
             "");
  tell(model_claim);
  claims.gap(model_claim, {.model_bits = 2}, same);
  claims.gap(model_claim, {.model_bits = 2, .channel_levels = "optimal"}, same);
  claims.gap(model_claim, {.model_bits = 2, .error_feedback = true}, same);
  tell(gradient_claim);
  claims.gap(gradient_claim, {.gradient_bits = 2}, same);
  claims.gap(gradient_claim, {.gradient_bits = 2, .channel_levels = "optimal"}, same);
  claims.gap(gradient_claim, {.gradient_bits = 2, .error_feedback = true}, same);
  if (study.cols() >= 90) compare_bytes(study, claims);
  tell(samples_width_claim);
  claims.width(samples_width_claim, frozen, 6, "at most 6");
  claims.width(samples_width_claim, fresh, 6, "at most 6");
  claims.width(samples_width_claim, from_pilot, 6, "at most 6");
  tell(end_to_end_claim);
  const auto unbiased = [](int bits) { return end_to_end(bits, false); };
  const auto feedback = [](int bits) { return end_to_end(bits, true); };
  claims.width(end_to_end_claim, unbiased, 8, "at most 8");
  claims.width(end_to_end_claim, feedback, 8, "at most 8");
  claims.width(
      end_to_end_claim, [](int bits) { return with_pilot(end_to_end(bits, true)); }, 8, "at most 8");
  tell(bias_claim);
  const Setting naive{.estimator = "naive", .bits = 4, .fresh = true};
  const Setting two{.estimator = "double-sampling", .bits = 4, .fresh = true};
  const double unbiased_gap = study.measure(two).gap, naive_gap = study.measure(naive).gap;
  char text[120];
  std::snprintf(text, sizeof text, "%s; two of these draws: %.3g %%", naive.text().c_str(),
                100.0 * unbiased_gap);
  claims.add({.claim = bias_claim,
              .setting = text,
              .paper = "biased",
              .measured = naive_gap,
              .holds = naive_gap > 3.0 * std::max(0.0, unbiased_gap)});
  tell(levels_claim);
  compare_levels(study, claims);
  tell(speed_claim);
  // Levels that integer kernels read: one step for all of a column.
  const auto uniform = [](int bits) -> std::vector<Setting> {
    return {{.estimator = "variance-corrected", .bits = bits, .outliers = outliers},
            {.estimator = "naive", .bits = bits, .nearest = true}};
  };
  if (Fewest fast = fewest(study, uniform); fast.bits > 0) {
    fast.setting.model_bits = 8;
    const double times = study.seconds_per_epoch({}) / study.seconds_per_epoch(fast.setting);
    claims.ratio(speed_claim, fast.setting.text() + ", batch 256", "6.5x (FPGA)", times, times >= 6.5);
  }
  return std::move(claims.list);
}

std::vector<Claim> nonlinear_claims_on(Study& logistic, Study& hinge,
                                       const std::function<void(const std::string&)>& tell) {
  // Stored bits of all draws; a polynomial of degree p has p + 1 beside the interval.
  const auto polynomials = [](int stored) -> std::vector<Setting> {
    if (stored < 5) return {};
    return {{.estimator = "polynomial-3", .bits = stored - 4, .outliers = outliers}};
  };
  const auto nearest = [](int stored) -> std::vector<Setting> {
    return {{.estimator = "naive", .bits = stored, .nearest = true}};
  };
  const auto corrected = [](int stored) -> std::vector<Setting> {
    return {{.estimator = "variance-corrected", .bits = stored, .outliers = outliers}};
  };
  const auto lloyd_max = [](int stored) -> std::vector<Setting> {
    return {
        {.estimator = "naive", .bits = stored, .levels = "lloyd-max", .nearest = true, .outliers = outliers}};
  };
  const auto pilots = [&](int stored) { return with_pilot(lloyd_max(stored)); };
  Claims of_logistic(logistic), of_hinge(hinge);
  tell(logistic_claim);
  of_logistic.width(logistic_claim, polynomials, 8, "8 often enough");
  of_logistic.width(logistic_claim, nearest, 8, "as good");
  of_logistic.width(logistic_claim, corrected, 8, "");
  of_logistic.width(logistic_claim, lloyd_max, 8, "");
  of_logistic.width(logistic_claim, pilots, 8, "");
  tell(refetch_claim);
  for (const int bits : {2, 4, 6, 8}) {
    const Setting setting{.estimator = "refetch-l1", .bits = bits, .outliers = outliers};
    const Measured& measured = hinge.measure(setting);
    char text[120];
    std::snprintf(text, sizeof text, "%s; its loss %+.3g %%", setting.text().c_str(), 100.0 * measured.gap);
    of_hinge.add({.claim = refetch_claim,
                  .setting = text,
                  .paper = bits == 8 ? "few at 8 bits" : "",
                  .measured = measured.refetched,
                  .unit = Claim::Unit::share,
                  .holds = measured.gap <= same_result && (bits < 8 || measured.refetched < 0.1)});
  }
  tell(nearest_claim);
  for (const int stored : {5, 6, 8}) {
    const Setting plain = nearest(stored).front(), cubic = polynomials(stored).front();
    const double polynomial_gap = logistic.measure(cubic).gap, gap = logistic.measure(plain).gap;
    char text[160];
    char gap_text[32] = "diverged";
    if (std::isfinite(polynomial_gap))
      std::snprintf(gap_text, sizeof gap_text, "%+.3g %%", 100.0 * polynomial_gap);
    std::snprintf(text, sizeof text, "%s; %s: %s", plain.text().c_str(), cubic.text().c_str(), gap_text);
    of_logistic.add({.claim = nearest_claim,
                     .setting = text,
                     .paper = "yes, its negative result",
                     .measured = gap,
                     .holds = !(gap > polynomial_gap)});
  }
  for (Claim& claim : of_hinge.list) of_logistic.list.push_back(std::move(claim));
  return std::move(of_logistic.list);
}

std::vector<Claim> claims_overall(const std::vector<Claim>& claims) {
  std::vector<Claim> overall;
  for (const char* claim : {samples_claim, model_claim, gradient_claim}) {
    std::vector<std::string> all, held, tight;
    const auto note = [](std::vector<std::string>& sets, const std::string& set) {
      if (std::find(sets.begin(), sets.end(), set) == sets.end()) sets.push_back(set);
    };
    for (const Claim& c : claims) {
      if (c.claim != claim) continue;
      note(all, c.set);
      if (c.holds) note(held, c.set);
      if (c.holds_tight.value_or(false)) note(tight, c.set);
    }
    overall.push_back({.claim = claim,
                       .set = "all " + std::to_string(all.size()),
                       .setting = "sets that keep the result with one of the settings above",
                       .paper = "all",
                       .measured = static_cast<double>(held.size()),
                       .unit = Claim::Unit::sets,
                       .holds = held.size() == all.size(),
                       .holds_tight = tight.size() == all.size()});
  }
  double most = 0.0;
  for (const Claim& c : claims)
    if (c.claim == levels_claim) most = std::max(most, c.measured);
  overall.push_back({.claim = levels_claim,
                     .set = "all",
                     .setting = "the most of the rows above",
                     .paper = "1.7x",
                     .measured = most,
                     .unit = Claim::Unit::ratio,
                     .holds = most >= 1.7});
  return overall;
}

std::vector<Curve> curves_of(Study& study) {
  std::vector<Curve> curves;
  const auto add = [&](const std::string& name, const Setting& setting) {
    const Result result = study.curve(setting);
    Curve curve{study.name(), name, 0.0, result.losses, result.optimum_loss};
    curve.bytes_per_epoch =
        (result.samples_moved.bytes() + result.model_moved.bytes() + result.gradient_moved.bytes()) /
        result.epochs;
    curves.push_back(std::move(curve));
  };
  add("32 bits", {});
  add("naive, 4 bits, fresh", {.estimator = "naive", .bits = 4, .fresh = true});
  add("double sampling of 4 bits, fresh", {.estimator = "double-sampling", .bits = 4, .fresh = true});
  const Fewest best = fewest(study, [](int bits) { return end_to_end(bits, true); });
  if (best.bits > 0)
    add("all three in " + std::to_string(best.bits) + (best.bits == 1 ? " bit" : " bits") +
            ", error feedback",
        best.setting);
  return curves;
}
