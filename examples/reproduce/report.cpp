#include "report.hpp"

#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <zipml/base/config.hpp>
#include <zipml/base/error.hpp>
#include <zipml/base/isa.hpp>

#include "../gnuplot.hpp"

namespace {

using Json = nlohmann::ordered_json;

std::string measured_text(const Claim& claim) {
  char text[64];
  switch (claim.unit) {
    case Claim::Unit::gap:
      if (!std::isfinite(claim.measured)) return "diverged";
      std::snprintf(text, sizeof text, "%+.3g %%", 100.0 * claim.measured);
      return text;
    case Claim::Unit::bits:
      return claim.measured > 0.0 ? std::to_string(static_cast<int>(claim.measured)) + " bits" : "> 8 bits";
    case Claim::Unit::share:
      std::snprintf(text, sizeof text, "%.3g %%", 100.0 * claim.measured);
      return text;
    case Claim::Unit::points:
      std::snprintf(text, sizeof text, "%+.2f points", 100.0 * claim.measured);
      return text;
    case Claim::Unit::sets:
      return std::to_string(static_cast<int>(claim.measured)) + " sets";
    default:
      std::snprintf(text, sizeof text, "%.2fx", claim.measured);
      return text;
  }
}

const char* unit_name(Claim::Unit unit) {
  const char* const names[] = {"gap", "bits", "ratio", "sets", "share", "points"};
  return names[static_cast<int>(unit)];
}

const char* verdict(const Claim& claim) {
  if (!claim.holds) return "no";
  return claim.holds_tight.value_or(false) ? "yes, at 0.1 % too" : "yes";
}

/// A field in quotes.
std::string quoted(const std::string& text) { return '"' + text + '"'; }

/// Of the loss after an epoch over the optimum; empty where that is not known.
std::string excess_text(const Curve& curve, std::size_t epoch) {
  char text[40] = "";
  if (curve.optimum) std::snprintf(text, sizeof text, "%.9g", curve.losses[epoch] / *curve.optimum - 1.0);
  return text;
}

std::ofstream open_file(const std::string& path) {
  std::ofstream file(path);
  if (!file) throw zipml::Error(zipml::Place{path}, "cannot write", "a writable file", "none");
  file.precision(9);
  return file;
}

void close_file(std::ofstream& file, const std::string& path) {
  file.close();
  if (!file) throw zipml::Error(zipml::Place{path}, "cannot write", "space", "none left");
}

}  // namespace

void print_table(const std::vector<Claim>& claims, const Circumstances& circumstances) {
  std::printf(
      "ZipML 2017, claims about linear models; zipml %s, %s kernels; %d epochs, batch 64, mean of %d "
      "seed%s%s\n",
      ZIPML_VERSION, zipml::name_of(zipml::active_isa()), circumstances.epochs, circumstances.seeds,
      circumstances.seeds == 1 ? "" : "s", circumstances.quick ? "; --quick: fewer rows, one seed" : "");
  for (const std::string& set : circumstances.sets) std::printf("  %s\n", set.c_str());
  if (!circumstances.missing.empty()) {
    std::printf("  not given:");
    for (const std::string& name : circumstances.missing) std::printf(" %s", name.c_str());
    std::printf("\n");
  }
  std::printf(
      "\nPercent: training loss over that of 32-bit SGD after as many epochs, less 1, on full-precision "
      "rows; at most\n"
      "1 %% counts as the same result. Bits: the fewest that keep it.\n");
  std::string claim;
  for (const Claim& c : claims) {
    if (c.claim != claim) {
      claim = c.claim;
      std::printf("\n%s; the paper: %s\n", claim.c_str(), c.paper.empty() ? "-" : c.paper.c_str());
    }
    std::printf("  %-14s  %12s  %-17s  %s\n", c.set.c_str(), measured_text(c).c_str(), verdict(c),
                c.setting.c_str());
  }
  std::printf("\n%.0f seconds\n", circumstances.seconds);
}

void print_json(const std::vector<Claim>& claims, const Circumstances& circumstances) {
  Json list = Json::array();
  for (const Claim& c : claims)
    list.push_back({{"claim", c.claim},
                    {"set", c.set},
                    {"setting", c.setting},
                    {"paper", c.paper},
                    {"measured", std::isfinite(c.measured) ? Json(c.measured) : Json(nullptr)},
                    {"unit", unit_name(c.unit)},
                    {"holds", c.holds},
                    {"holds_at_0.1_percent", c.holds_tight ? Json(*c.holds_tight) : Json(nullptr)}});
  const Json out{{"version", ZIPML_VERSION},
                 {"isa", zipml::name_of(zipml::active_isa())},
                 {"quick", circumstances.quick},
                 {"seeds", circumstances.seeds},
                 {"epochs", circumstances.epochs},
                 {"sets", circumstances.sets},
                 {"not_given", circumstances.missing},
                 {"seconds", circumstances.seconds},
                 {"claims", list}};
  std::printf("%s\n", out.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
}

void write_csv(const std::vector<Claim>& claims, const std::vector<Curve>& curves,
               const std::string& folder) {
  const std::string table = folder + "/claims.csv";
  std::ofstream file = open_file(table);
  file << "claim,set,setting,paper,measured,unit,holds,holds_at_0.1_percent\n";
  for (const Claim& c : claims)
    file << quoted(c.claim) << ',' << c.set << ',' << quoted(c.setting) << ',' << quoted(c.paper) << ','
         << c.measured << ',' << unit_name(c.unit) << ',' << c.holds << ','
         << (c.holds_tight ? std::to_string(static_cast<int>(*c.holds_tight)) : "") << '\n';
  close_file(file, table);
  const std::string lines = folder + "/curves.csv";
  file = open_file(lines);
  file << "set,run,epoch,bytes,loss,excess\n";
  for (const Curve& curve : curves)
    for (std::size_t epoch = 0; epoch < curve.losses.size(); ++epoch)
      file << curve.set << ',' << quoted(curve.run) << ',' << epoch + 1 << ','
           << curve.bytes_per_epoch * static_cast<double>(epoch + 1) << ',' << curve.losses[epoch] << ','
           << excess_text(curve, epoch) << '\n';
  close_file(file, lines);
}

void write_svg(const std::vector<Curve>& curves, const std::string& folder) {
  std::vector<std::string> sets;
  for (const Curve& curve : curves)
    if (sets.empty() || sets.back() != curve.set) sets.push_back(curve.set);
  Gnuplot picture(folder + "/curves.svg", 1300, 330 * static_cast<int>(sets.size()));
  std::FILE* plot = picture.stream();
  std::fprintf(plot,
               "set multiplot layout %d,2\nset grid\nset ylabel 'over the optimum, %%'\nset "
               "format y '%%g'\n"
               "set key noenhanced font ',9'\nset format x '%%g'\n",
               static_cast<int>(sets.size()));
  const char* const colours[] = {"#444444", "#e69f00", "#56b4e9", "#d55e00"};
  for (const std::string& set : sets)
    for (const bool bytes : {false, true}) {
      std::fprintf(plot, "set title %s noenhanced\nset xlabel '%s'\nset logscale y\n%s\nplot ",
                   Gnuplot::quoted(set).c_str(), bytes ? "bytes moved, samples + model + gradient" : "epochs",
                   bytes ? "set logscale x" : "unset logscale x");
      int k = 0;
      for (const Curve& curve : curves)
        if (curve.set == set) {
          std::fprintf(plot, "%s'-' using 1:2 with linespoints lw 2 ps 0.4 lc rgb '%s' title %s",
                       k > 0 ? ", " : "", colours[k], Gnuplot::quoted(curve.run).c_str());
          ++k;
        }
      std::fprintf(plot, "\n");
      for (const Curve& curve : curves) {
        if (curve.set != set) continue;
        for (std::size_t epoch = 0; epoch < curve.losses.size(); ++epoch)
          std::fprintf(plot, "%g %.9g\n",
                       static_cast<double>(epoch + 1) * (bytes ? curve.bytes_per_epoch : 1.0),
                       100.0 * (curve.losses[epoch] / curve.optimum.value_or(1.0) - 1.0));
        std::fprintf(plot, "e\n");
      }
    }
  std::fprintf(plot, "unset multiplot\n");
  picture.finish();
}
