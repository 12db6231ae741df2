// Packing a float32 matrix of 40,000 x 250 values: every width, one or two draws, stochastic or nearest
// rounding, against memcpy of the same matrix in the same run (times_memcpy).
//
// Names: quantize/<bits>/<estimator>/<rounding>[/threads:2]   statistics, levels and all, no pilot
//        quantize/<bits>/<estimator>/<rounding>/pilot[:rows]  with a pilot: of as many rows as serve, of 512
//        pack/<bits>/<estimator>/<rounding>                   the levels given
//        part/<rows>x<columns>/<part>                         10^8 values at 4 bits with 0.3 % outliers, by part

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "synthetic_store.hpp"

namespace {

using namespace zipml;
using Clock = std::chrono::steady_clock;

const Dataset& samples() {
  static const Dataset data = [] {
    const DenseStore store = bench::dense(40'000, 250);
    return make_dataset(Eigen::Map<const RowMajorMatrix>(store.row(0), store.rows(), store.cols()),
                        Eigen::Map<const Eigen::VectorXf>(store.labels().data(), store.rows()));
  }();
  return data;
}

double seconds_of_memcpy(Buffer<float>& copy) {
  const auto start = Clock::now();
  std::memcpy(copy.data(), samples().values.data(), copy.bytes());
  benchmark::ClobberMemory();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// `pack()` returns a store; its time beside that of memcpy, both taking turns, the fastest of each counted.
template <class Pack>
void run(benchmark::State& state, const Pack& pack) {
  Buffer<float> copy(samples().values.size());
  double copying = INFINITY;
  double packing = INFINITY;
  double stored_bits = 0.0;
  double bytes = 0.0;
  for (auto _ : state) {
    copying = std::min(copying, seconds_of_memcpy(copy));
    const auto start = Clock::now();
    const auto store = pack();
    const double once = std::chrono::duration<double>(Clock::now() - start).count();
    state.SetIterationTime(once);
    packing = std::min(packing, once);
    stored_bits = store.stored_bits();
    bytes = static_cast<double>(store.store_bytes());
  }
  state.counters["values_per_ns"] = static_cast<double>(copy.size()) / packing * 1e-9;
  state.counters["packed_gb_per_s"] = bytes / packing * 1e-9;
  state.counters["stored_bits"] = stored_bits;
  state.counters["times_memcpy"] = packing / copying;
}

template <int Bits, class Estimator, class R>
void add_one(const std::string& name, Estimator estimator, R rounding) {
  const auto add = [](const std::string& title, auto f) {
    benchmark::RegisterBenchmark(title.c_str(), f)->UseManualTime()->Unit(benchmark::kMillisecond);
  };
  for (const int threads : {1, 2})
    add("quantize/" + name + (threads > 1 ? "/threads:2" : ""), [=](benchmark::State& s) {
      run(s, [=] {
        return quantize<Bits>(samples(), estimator, uniform_levels, rounding,
                              {.pilot = 0, .threads = threads});
      });
    });
  // What the sums over all rows cost, and what the fit to some of them adds.
  add("quantize/" + name + "/pilot", [=](benchmark::State& s) {
    run(s, [=] { return quantize<Bits>(samples(), estimator, uniform_levels, rounding); });
  });
  add("quantize/" + name + "/pilot:512", [=](benchmark::State& s) {
    run(s, [=] { return quantize<Bits>(samples(), estimator, uniform_levels, rounding, {.pilot = 512}); });
  });
  add("pack/" + name, [=](benchmark::State& s) {
    const auto packer = detail::make_packer<typename Estimator::Encoding, UniformLevelsPolicy, R>(
        samples().features(), uniform_levels, Bits, {.pilot = 0});
    run(s, [&] { return packer.pack(std::as_const(samples().labels).span()); });
  });
}

template <int Bits>
void add() {
  const std::string bits = std::to_string(Bits);
  add_one<Bits>(bits + "/naive/nearest", naive, nearest);
  add_one<Bits>(bits + "/naive/stochastic", naive, stochastic);
  add_one<Bits>(bits + "/double-sampling/stochastic", double_sampling, stochastic);
}

/// 10^8 values with long tails in some rows, by numbers that cost nothing to make.
Dataset many_values(Index rows, Index cols) {
  Dataset data;
  data.rows = rows;
  data.cols = cols;
  data.values = Buffer<float>::uninitialised(rows * cols);
  data.labels = Buffer<float>(rows);
  std::uint32_t state = 1;
  const auto uniform = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) / 16777216.0f - 0.5f;
  };
  for (Index i = 0; i < rows; ++i) {
    float label = uniform();
    for (Index j = 0; j < cols; ++j) {
      const float bell = uniform() + uniform();
      const float value = bell * (state >> 28 == 3 ? 4.0f : 1.0f);
      data.values[i * cols + j] = value;
      label += value * static_cast<float>(j * 7 % 5 - 2);
    }
    data.labels[i] = label;
  }
  return data;
}

/// What packing of one shape spends its time on. The matrix is made when the first of its parts runs.
void add_parts(Index rows, Index cols) {
  const auto data = std::make_shared<std::optional<Dataset>>();
  const QuantizeOptions without{.outliers = 0.003, .pilot = 0};
  const auto add = [=](const char* part, auto work) {
    const std::string name = "part/" + std::to_string(rows) + "x" + std::to_string(cols) + "/" + part;
    benchmark::RegisterBenchmark(
        name.c_str(),
        [=](benchmark::State& state) {
          if (!*data) *data = many_values(rows, cols);
          double fastest = INFINITY;
          for (auto _ : state) {
            const auto start = Clock::now();
            work(**data);
            benchmark::ClobberMemory();
            const double once = std::chrono::duration<double>(Clock::now() - start).count();
            state.SetIterationTime(once);
            fastest = std::min(fastest, once);
          }
          state.counters["ns_per_value"] = fastest * 1e9 / static_cast<double>(rows * cols);
        })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(5);
  };
  using Encoding = VarianceCorrected::Encoding;
  const auto touched = std::make_shared<Buffer<float>>();
  add("memcpy-touched", [=](const Dataset& set) {
    if (touched->empty()) *touched = Buffer<float>(set.values.size());
    std::memcpy(touched->data(), set.values.data(), set.values.bytes());
  });
  add("memcpy-fresh", [=](const Dataset& set) {
    *touched = {};
    auto copy = Buffer<float>::uninitialised(set.values.size());
    std::memcpy(copy.data(), set.values.data(), set.values.bytes());
    benchmark::DoNotOptimize(copy.data());
  });
  add("sample-statistics-clipping",
      [=](const Dataset& set) { detail::fit_columns(set.features(), without); });
  add("optimal-levels", [=](const Dataset& set) {
    const auto fit = detail::fit_columns(set.features(), without);
    benchmark::DoNotOptimize(optimal_levels.levels(fit.rows, fit.columns, 4));
  });
  add("pilot", [=](const Dataset& set) {
    const Standardization map = identity_standardization(cols);
    benchmark::DoNotOptimize(fit_pilot(set.features(), set.label_view().values, {}, RowPlacement(1, rows),
                                       map, PilotLoss(), pilot_rows(rows, cols, std::nullopt), 1,
                                       active_isa()));
  });
  add("whole-without-pilot", [=](const Dataset& set) {
    benchmark::DoNotOptimize(
        pack<Encoding>(set.features(), set.label_view(), uniform_levels, stochastic, 4, without));
  });
  add("whole", [=](const Dataset& set) {
    benchmark::DoNotOptimize(
        pack<Encoding>(set.features(), set.label_view(), uniform_levels, stochastic, 4, {.outliers = 0.003}));
  });
  add("whole-optimal-levels-without-pilot", [=](const Dataset& set) {
    benchmark::DoNotOptimize(
        pack<Encoding>(set.features(), set.label_view(), optimal_levels, stochastic, 4, without));
  });
  add("float32-store", [=](const Dataset& set) {
    benchmark::DoNotOptimize(DenseStore(set.features(), set.label_view(), true, 1));
  });
  add("read", [=](const Dataset& set) {
    float lanes[64] = {};
    for (Index k = 0; k + 64 <= set.values.size(); k += 64)
      for (int lane = 0; lane < 64; ++lane) lanes[lane] += set.values[k + lane];
    benchmark::DoNotOptimize(lanes);
  });
}

}  // namespace

int main(int argc, char** argv) {
  add<1>(), add<2>(), add<3>(), add<4>(), add<5>(), add<6>(), add<7>(), add<8>();
  add_parts(1'000'000, 100);
  add_parts(100'000, 1'000);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
