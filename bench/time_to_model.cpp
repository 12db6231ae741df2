// What a user waits for: from a float32 matrix in memory, or a packed file, to a model whose loss is 0.1 % above the exact
// optimum, on one core: packing, set-up and epochs of zipml, and refinement, which ends when it has told that it is there,
// beside float32 SGD, conjugate gradients, the normal equations in Eigen and, where python3 has them, scikit-learn's Ridge
// and SGDRegressor.
//
//     time_to_model [SHAPE ...] [--turns N] [--excess E]   SHAPE: 1000000x100, 100000x1000 (synthetic), skewed; 3 turns
//
// Ways take turns, the fastest of each counts. Losses are evaluated outside of the times.

#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>
#include <zipml/estimators/any_store.hpp>
#include <zipml/storage/in_place.hpp>
#include <zipml/training/refinement.hpp>
#include <zipml/zipml.hpp>

#include "eigen_baseline.hpp"

namespace {

using namespace zipml;
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double wanted = 0.001;  // excess

/// One way to a model, as one turn has taken it.
struct Turn {
  double pack = 0.0;    // packing, or opening the file
  double set_up = 0.0;  // until the first epoch, or reading in full precision
  double epochs = 0.0;  // until the excess is reached
  int count = 0;        // of epochs, or readings
  double excess = 0.0;
  double total() const { return pack + set_up + epochs; }
};

class Race {
 public:
  explicit Race(Dataset data) : data_(std::move(data)), objective_(data_) {
    // The optimum by the normal equations, in the objective's units; d is small.
    Buffer<double> x(data_.cols + 1);
    eigen_normal_equations(data_.values.data(), data_.labels.data(), data_.rows, data_.cols, x.data());
    optimum_ = loss_of(x.data());
  }

  const Dataset& data() const { return data_; }

  /// Excess of weights for columns and labels as they are in the matrix, the intercept last.
  double excess_of(const double* x) const { return excess(loss_of(x), optimum_); }

  /// `loss(weights, intercept)` of what the samples are in.
  template <class Store, class Estimator, class LossOf>
  Turn fit(const Store& store, Estimator estimator, double pack, const LossOf& loss) const {
    Turn turn;
    turn.pack = pack;
    turn.excess = INFINITY;
    const auto watch = [&](const EpochEvent& event) {
      turn.count = event.epoch;
      turn.excess = excess(loss(event.weights, event.intercept), optimum_);
      turn.epochs = event.seconds;
      return turn.excess <= wanted ? Flow::stop : Flow::go_on;
    };
    const FitOptions how{.epochs = 60, .batch = 256, .model = {store.samples().has_integer_path() ? 8 : 32}};
    const Fit fit = Sgd{}.fit(store, estimator, how, watch);
    // The first epoch's time has the set-up in it; later ones are epochs alone.
    turn.set_up = fit.seconds - fit.seconds_per_epoch * fit.epochs;
    turn.epochs -= turn.set_up;
    return turn;
  }
  Turn fit(const AnyStore& store, double pack) const {
    return visit_estimator(store.representation().estimator,
                           [&](auto estimator) { return fit(store, estimator, pack, objective_); });
  }

  /// The matrix itself: nothing is copied, columns are as they are.
  Turn in_place() const {
    const auto start = Clock::now();
    const SampleSet set = ::zipml::in_place(data_.features(), data_.label_view());
    const double pack = seconds_since(start);
    const LabelMap labels = SquaredLoss{}.label_map(set.targets().statistics(0));
    Buffer<double> x(data_.cols + 1);
    return fit(set, full_precision, pack, [&](std::span<const double> weights, double intercept) {
      for (Index j = 0; j < data_.cols; ++j) x[j] = weights[static_cast<std::size_t>(j)] * labels.scale;
      x[data_.cols] = intercept * labels.scale + labels.offset;
      return loss_of(x.data());
    });
  }

  Turn zipml(const char* representation) const {
    const auto start = Clock::now();
    const AnyStore store = quantize(data_, parse_representation(representation));
    return fit(store, seconds_since(start));
  }
  Turn opened(const std::string& path) const {
    const auto start = Clock::now();
    const AnyStore store = open_store(path);
    return fit(store, seconds_since(start));
  }
  Turn refined(const AnyStore& store, double pack) const {
    const auto start = Clock::now();
    const auto objective = objective_on(store, data_);
    pack += seconds_since(start);
    return visit_estimator(store.representation().estimator, [&](auto estimator) -> Turn {
      if constexpr (BilinearEstimator<decltype(estimator)>)
        return turn_of(refine(store, estimator, objective, {.tolerance = wanted}), pack);
      else
        return Turn{};
    });
  }
  Turn refined(const char* representation) const {
    const auto start = Clock::now();
    const AnyStore store = quantize(data_, parse_representation(representation));
    return refined(store, seconds_since(start));
  }
  Turn refined_from(const std::string& path) const {
    const auto start = Clock::now();
    const AnyStore store = open_store(path);
    return refined(store, seconds_since(start));
  }
  Turn plain() const { return turn_of(conjugate_gradients(objective_, {.tolerance = wanted}), 0.0); }
  Turn eigen_sgd() const {
    Turn turn;
    double norm = 0.0;
    for (Index i = 0; i < data_.rows; i += 101)
      for (Index j = 0; j < data_.cols; ++j)
        norm += std::pow(static_cast<double>(data_.values[i * data_.cols + j]), 2);
    const auto mean = static_cast<float>(norm / static_cast<double>((data_.rows + 100) / 101));
    Buffer<float> x(data_.cols);
    Buffer<double> model(data_.cols + 1);
    turn.excess = INFINITY;
    while (turn.count < 60 && turn.excess > wanted) {
      // The step falls with the epochs, or it would stay where the noise of its rows holds it.
      const float step = 1.0f / (2.0f * mean * static_cast<float>(1 + turn.count));
      const auto start = Clock::now();
      eigen_epoch(data_.values.data(), data_.labels.data(), data_.rows, data_.cols, 1, step, x.data());
      turn.epochs += seconds_since(start);
      ++turn.count;
      for (Index j = 0; j < data_.cols; ++j) model[j] = static_cast<double>(x[j]);
      turn.excess = excess_of(model.data());
      if (!std::isfinite(turn.excess)) break;
    }
    return turn;
  }
  Turn normal_equations() const {
    Turn turn;
    Buffer<double> x(data_.cols + 1);
    const auto start = Clock::now();
    eigen_normal_equations(data_.values.data(), data_.labels.data(), data_.rows, data_.cols, x.data());
    turn.epochs = seconds_since(start);
    turn.excess = excess_of(x.data());
    return turn;
  }

 private:
  Turn turn_of(const Refined& refined, double pack) const {
    Turn turn;
    turn.pack = pack;
    turn.set_up = refined.seconds - refined.seconds_full;
    turn.epochs = refined.seconds_full;
    turn.count = refined.full_passes;
    turn.excess = excess(objective_(refined.weights.span(), refined.intercept), optimum_);
    return turn;
  }
  double loss_of(const double* x) const {
    const Standardization& map = objective_.standardization();
    const LabelMap& labels = objective_.label_map();
    Buffer<double> weights(data_.cols);
    double intercept = x[data_.cols] - labels.offset;
    for (Index j = 0; j < data_.cols; ++j) {
      weights[j] = x[j] * map.scale[j] / labels.scale;
      intercept += x[j] * map.mean[j];
    }
    return objective_(weights.span(), intercept / labels.scale);
  }

  Dataset data_;
  Objective<> objective_;
  double optimum_ = 0.0;
};

/// As numpy.save writes them.
void write_npy(const std::string& path, const Buffer<float>& values, Index rows, Index cols) {
  char header_text[128];
  std::snprintf(header_text, sizeof header_text,
                "{'descr': '<f4', 'fortran_order': False, 'shape': (%td, %td), }", rows, cols);
  std::string header = header_text;
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  std::string head("\x93NUMPY\x01\x00", 8);
  head += static_cast<char>(header.size() & 255u);
  head += static_cast<char>(header.size() >> 8);
  write_file_in_pieces(path, [&](const auto& put) {
    put(head + header);
    put(std::string_view(reinterpret_cast<const char*>(values.data()), values.bytes()));
  });
}

/// Lines "name seconds weights-file" of scikit-learn, where it is there.
std::map<std::string, Turn> peers(const Race& race, const std::string& folder, int turns) {
  std::map<std::string, Turn> result;
  const Dataset& data = race.data();
  write_npy(folder + "/x.npy", data.values, data.rows, data.cols);
  write_npy(folder + "/y.npy", data.labels, data.rows, 1);
  std::string command = "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 /usr/bin/python3 '" ZIPML_PEERS "' '";
  command += folder;
  command += "' ";
  command += std::to_string(turns);
  command += " 2>/dev/null";
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  char name[64], weights[256];
  double seconds = 0.0;
  while (std::fscanf(pipe, "%63s %lf %255s", name, &seconds, weights) == 3) {
    const NpyFile x(weights);
    Buffer<double> model(data.cols + 1);
    for (Index j = 0; j <= data.cols; ++j) model[j] = x.matrix().doubles[j];
    Turn turn;
    turn.epochs = seconds;
    turn.excess = race.excess_of(model.data());
    result[name] = turn;
  }
  pclose(pipe);
  return result;
}

void run(const std::string& shape, int turns) {
  long n = 0, d = 0;
  Dataset data;
  if (shape == "skewed")
    data = skewed({.rows = 463'715, .test_rows = 0}).train;
  else if (std::sscanf(shape.c_str(), "%ldx%ld", &n, &d) == 2 && n > 1 && d > 0)
    data = synthetic(d, {.rows = n, .test_rows = 0}).train;
  else
    throw Error("no such shape", "ROWSxCOLUMNS or skewed", shape);
  const Race race(std::move(data));
  const Dataset& set = race.data();
  std::printf("\n%s: %td x %td, seconds on one core to %.2g %% above the exact optimum, fastest of %d\n\n",
              shape.c_str(), set.rows, set.cols, 100.0 * wanted, turns);
  char pattern[] = "/tmp/zipml_time_to_model.XXXXXX";
  const std::string folder = mkdtemp(pattern);
  const std::string packed = folder + "/packed.zipml";
  save_store(packed, quantize(set, parse_representation("variance-corrected:4,outliers=0.003")));

  const std::vector<std::pair<std::string, std::function<Turn()>>> ways = {
      {"zipml, 4 bits, from float32", [&] { return race.zipml("variance-corrected:4,outliers=0.003"); }},
      {"zipml, 4 bits, packed file", [&] { return race.opened(packed); }},
      {"zipml, 2 bits, from float32", [&] { return race.zipml("variance-corrected:2,outliers=0.003"); }},
      {"refined, 4 bits, from float32", [&] { return race.refined("variance-corrected:4,outliers=0.003"); }},
      {"refined, 4 bits, packed file", [&] { return race.refined_from(packed); }},
      {"refined, 2 bits, from float32", [&] { return race.refined("variance-corrected:2,outliers=0.003"); }},
      {"conjugate gradients, float32", [&] { return race.plain(); }},
      {"zipml, float32", [&] { return race.zipml("full"); }},
      {"zipml, float32 in place", [&] { return race.in_place(); }},
      {"Eigen SGD, -march=native", [&] { return race.eigen_sgd(); }},
      {"Eigen normal equations, native", [&] { return race.normal_equations(); }}};
  std::vector<Turn> best(ways.size());
  for (int turn = 0; turn < turns; ++turn)
    for (std::size_t k = 0; k < ways.size(); ++k) {
      const Turn now = ways[k].second();
      if (turn == 0 || now.total() < best[k].total()) best[k] = now;
    }
  std::printf("%-32s %8s %8s %8s %7s %8s %10s\n", "", "pack", "set-up", "epochs", "number", "total",
              "excess");
  const auto print = [](const std::string& name, const Turn& turn) {
    std::printf("%-32s %8.3f %8.3f %8.3f %7d %8.3f %8.2g %%%s\n", name.c_str(), turn.pack, turn.set_up,
                turn.epochs, turn.count, turn.total(), 100.0 * turn.excess,
                turn.excess <= wanted ? "" : "  not reached");
  };
  for (std::size_t k = 0; k < ways.size(); ++k) print(ways[k].first, best[k]);
  const auto others = peers(race, folder, turns);
  for (const auto& [name, turn] : others) print("scikit-learn " + name, turn);
  if (others.empty()) std::printf("scikit-learn was not found\n");
  std::error_code left;
  std::filesystem::remove_all(folder, left);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> shapes;
  int turns = 3;
  for (int k = 1; k < argc; ++k) {
    if (std::strcmp(argv[k], "--turns") == 0 && k + 1 < argc)
      turns = std::max(1, std::atoi(argv[++k]));
    else if (std::strcmp(argv[k], "--excess") == 0 && k + 1 < argc)
      wanted = std::max(1e-12, std::atof(argv[++k]));
    else
      shapes.emplace_back(argv[k]);
  }
  if (shapes.empty()) shapes = {"1000000x100", "100000x1000", "skewed"};
  try {
    for (const std::string& shape : shapes) run(shape, turns);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "time_to_model: %s\n", error.what());
    return 1;
  }
}
