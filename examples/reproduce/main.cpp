// The claims of ZipML (ICML 2017) about linear models, each put to the test: samples, model and gradient in
// few bits, apart and together, on generated sets and on those whose files are given. `reproduce --help`
// tells the rest.

#include <chrono>
#include <filesystem>

#include "../program.hpp"
#include "report.hpp"

namespace {

struct Arguments {
  std::string folder;              // --data
  std::vector<std::string> files;  // --set NAME=FILE
  std::vector<std::string> only;   // --only NAME,...
  std::string out = "reproduced";
  int seeds = 5;
  int epochs = 20;
  int threads = 0;
  bool quick = false;
  bool json = false;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The file of a set: named by --set, or found in the folder.
std::optional<std::string> file_of(const SetKind& kind, const Arguments& options) {
  for (const std::string& file : options.files)
    if (file.rfind(std::string(kind.name) + '=', 0) == 0)
      return file.substr(std::string(kind.name).size() + 1);
  return options.folder.empty() ? std::nullopt : find_file(kind, options.folder);
}

/// Everything that can be wrong with the options, before anything is run.
void check(const Arguments& options) {
  std::vector<std::string> names = generated_sets();
  names.push_back("two-class");
  names.push_back("images");
  for (const SetKind& kind : file_sets()) names.push_back(kind.name);
  const auto require_known = [&](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) != names.end()) return;
    std::string all;
    for (const std::string& known : names) all += (all.empty() ? "" : ", ") + known;
    throw zipml::Error("there is no such set", all, "'" + name + "'");
  };
  for (const std::string& name : options.only) require_known(name);
  for (const std::string& file : options.files) {
    const std::string name = file.substr(0, file.find('='));
    if (file.find('=') == std::string::npos || name.rfind("synthetic", 0) == 0 || name == "skewed" ||
        name == "images")
      throw zipml::Error("--set names a set and its file", "NAME=FILE, NAME one of those that have files",
                         "'" + file + "'");
    require_known(name);
  }
  if (!options.folder.empty() && !std::filesystem::is_directory(options.folder))
    throw zipml::Error(zipml::Place{options.folder}, "is no folder", "a folder of data files",
                       "something else");
}

void run(const Arguments& options) {
  check(options);
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  if (error) throw zipml::Error(zipml::Place{options.out}, "cannot create the folder: " + error.message());
  const auto start = Clock::now();
  Circumstances circumstances{.seeds = options.seeds, .epochs = options.epochs, .quick = options.quick};
  std::vector<Claim> claims;
  std::vector<Curve> curves;
  const auto wanted = [&](const std::string& name) {
    return options.only.empty() ||
           std::find(options.only.begin(), options.only.end(), name) != options.only.end();
  };
  const auto add = [&](Set set) {
    Study study(std::move(set), options.seeds, options.epochs, options.threads, !options.quick);
    circumstances.sets.push_back(study.name() + ": " + std::to_string(study.rows()) + " x " +
                                 std::to_string(study.cols()) + ", " + study.loss());
    const auto tell = [&](const std::string& what) {
      std::fprintf(stderr, "reproduce: %4.0f s  %s  %s\n", seconds_since(start), study.name().c_str(),
                   what.c_str());
    };
    for (Claim& claim : claims_on(study, tell)) claims.push_back(std::move(claim));
    tell("curves");
    for (Curve& curve : curves_of(study)) curves.push_back(std::move(curve));
  };
  const auto add_nonlinear = [&](const Set& set) {
    const auto study_of = [&](const char* loss) {
      Set copy = set;
      copy.loss = loss;
      copy.l2 = 1e-4f;
      return Study(std::move(copy), options.seeds, options.epochs, options.threads, !options.quick);
    };
    Study logistic = study_of("logistic"), hinge = study_of("hinge");
    circumstances.sets.push_back(set.name + ": " + std::to_string(logistic.rows()) + " x " +
                                 std::to_string(logistic.cols()) + ", logistic and hinge, l2 1e-4");
    const auto tell = [&](const std::string& what) {
      std::fprintf(stderr, "reproduce: %4.0f s  %s  %s\n", seconds_since(start), set.name.c_str(),
                   what.c_str());
    };
    for (Claim& claim : nonlinear_claims_on(logistic, hinge, tell)) claims.push_back(std::move(claim));
  };
  for (const std::string& name : generated_sets())
    if (wanted(name)) add(generate_set(name, options.quick));
  for (const SetKind& kind : file_sets()) {
    if (!wanted(kind.name)) continue;
    if (const auto file = file_of(kind, options)) {
      Set set = load_set(kind, *file);
      if (set.loss == "ls-svm") add_nonlinear(set);
      add(std::move(set));
    } else {
      circumstances.missing.push_back(kind.name);
    }
  }
  if (wanted("two-class")) add_nonlinear(generate_two_classes(options.quick));
  if (wanted("images")) {
    circumstances.sets.push_back("images: generated, 16 x 16 of ten classes, convolutional net");
    const auto tell = [&](const std::string& what) {
      std::fprintf(stderr, "reproduce: %4.0f s  images  %s\n", seconds_since(start), what.c_str());
    };
    for (Claim& claim : deep_claims(options.seeds, options.threads, options.quick, tell))
      claims.push_back(std::move(claim));
  }
  if (claims.empty())
    throw zipml::Error("none of the sets that are asked for has a file", "--data or --set", "neither");
  for (Claim& claim : claims_overall(claims)) claims.push_back(std::move(claim));
  // One claim after the other, its sets in their order.
  std::stable_sort(claims.begin(), claims.end(),
                   [](const Claim& a, const Claim& b) { return a.claim < b.claim; });
  circumstances.seconds = seconds_since(start);
  write_csv(claims, curves, options.out);
  if (options.json)
    print_json(claims, circumstances);
  else
    print_table(claims, circumstances);
  try {
    write_svg(curves, options.out);
  } catch (const zipml::Error& failure) {  // the numbers stand without it
    std::fprintf(stderr, "reproduce: no picture: %s\n", failure.what());
  }
  std::fprintf(stderr, "reproduce: claims.csv, curves.csv and curves.svg are in %s\n", options.out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Arguments options;
  CLI::App app{
      "Puts the claims of ZipML (ICML 2017) about linear models, and about a deep net, to the test.\n"
      "Generated sets always; cadata, cpusmall, cod-rna, mnist-4-vs-9, year and gisette where their files "
      "are."};
  app.set_version_flag("--version", std::string("reproduce (zipml ") + ZIPML_VERSION + ")");
  app.option_defaults()->always_capture_default();
  app.add_option("--data", options.folder,
                 "folder with files under their usual names: cadata, cpusmall, cod-rna (LIBSVM or CSV text), "
                 "train-images-idx3-ubyte with its labels, YearPredictionMSD, gisette_scale");
  app.add_option("--set", options.files, "NAME=FILE: the file of one set");
  app.add_option("--only", options.only, "names of the sets to try")->delimiter(',');
  app.add_option("--out", options.out, "folder for claims.csv, curves.csv and curves.svg");
  auto* seeds =
      app.add_option("--seeds", options.seeds, "that means are taken of")->check(CLI::Range(1, 1000));
  app.add_option("--epochs", options.epochs)->check(CLI::Range(1, 10'000));
  app.add_option("--threads", options.threads, "seeds that run at a time; 0: one for each processor")
      ->check(CLI::Range(0, 1024));
  app.add_flag("--quick", options.quick, "one seed (unless --seeds says), fewer rows");
  app.add_flag("--json", options.json, "one JSON object on standard output");
  return run_program("reproduce", app, argc, argv, [&] {
    if (options.quick && seeds->count() == 0) options.seeds = 1;
    run(options);
  });
}
