// Searches for levels on sorted N(0, 1) values, sorting not counted.
//
// Names: levels/exact/n:<N>/k:<L>       sums and search, from sorted doubles
//        levels/histogram/n:<N>/k:<L>   candidates and search, after the data pass; over_exact: its cost over
//        the
//                                       exact optimum, less 1; bins: edges that levels may lie on
//        levels/data-pass/n:<N>         the histogram of N float32 values; times_memcpy of the same bytes
//        levels/lloyd-max/n:<N>/k:<L>   levels/adaquant/n:<N>/k:<L>   levels/vector/n:<N>/k:<L>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>
#include <zipml/packing/fitted_levels.hpp>
#include <zipml/quantization/adaquant.hpp>
#include <zipml/quantization/lloyd_max.hpp>

namespace {

using namespace zipml;

const std::vector<double>& sorted(Index n) {
  static std::map<Index, std::vector<double>> all;
  std::vector<double>& values = all[n];
  if (values.empty()) {
    std::mt19937_64 generator(1);
    std::normal_distribution<double> normal;
    for (Index i = 0; i < n; ++i) values.push_back(normal(generator));
    std::sort(values.begin(), values.end());
  }
  return values;
}

std::vector<float> shuffled(Index n) {
  std::vector<float> values(sorted(n).begin(), sorted(n).end());
  std::shuffle(values.begin(), values.end(), std::mt19937_64(2));
  return values;
}

void exact(benchmark::State& state, Index n, Index k) {
  const auto& values = sorted(n);
  double cost = 0.0;
  for (auto _ : state) cost = find_optimal_levels(LevelCandidates::of_sorted(values), k).cost;
  state.counters["cost"] = cost;
}

void histogram(benchmark::State& state, Index n, Index k) {
  const auto values = shuffled(n);
  ValueHistogram counted;
  counted.add(values.data(), n);
  double cost = 0.0;
  Index bins = 0;
  for (auto _ : state) {
    const LevelCandidates candidates = counted.candidates();
    bins = candidates.size();
    cost = find_optimal_levels(candidates, k).cost;
  }
  state.counters["over_exact"] = cost / find_optimal_levels(LevelCandidates::of_values(values), k).cost - 1.0;
  state.counters["bins"] = static_cast<double>(bins);
}

void data_pass(benchmark::State& state, Index n) {
  using Clock = std::chrono::steady_clock;
  const auto values = shuffled(n);
  std::vector<float> copy(values.size());
  double counting = 0.0;
  double copying = 0.0;
  for (auto _ : state) {
    const auto start = Clock::now();
    std::memcpy(copy.data(), values.data(), values.size() * sizeof(float));
    benchmark::DoNotOptimize(copy.data());
    benchmark::ClobberMemory();
    const auto between = Clock::now();
    ValueHistogram counted;
    counted.add(values.data(), n);
    benchmark::DoNotOptimize(counted);
    const double seconds = std::chrono::duration<double>(Clock::now() - between).count();
    copying += std::chrono::duration<double>(between - start).count();
    counting += seconds;
    state.SetIterationTime(seconds);
  }
  state.counters["times_memcpy"] = counting / copying;
  state.counters["values_per_ns"] =
      static_cast<double>(n) * static_cast<double>(state.iterations()) / counting * 1e-9;
}

void lloyd_max(benchmark::State& state, Index n, Index k) {
  const auto& values = sorted(n);
  for (auto _ : state) benchmark::DoNotOptimize(find_lloyd_max_levels(LevelCandidates::of_sorted(values), k));
}

void adaquant(benchmark::State& state, Index n, Index k) {
  const auto& values = sorted(n);
  for (auto _ : state)
    benchmark::DoNotOptimize(find_adaquant_levels(LevelCandidates::of_sorted(values), k - 1));
}

void vector(benchmark::State& state, Index n, Index k) {
  const auto values = shuffled(n);
  for (auto _ : state) benchmark::DoNotOptimize(find_levels_of(values, k));
}

void add(const std::string& name, void (*run)(benchmark::State&, Index, Index), Index n, Index k) {
  benchmark::RegisterBenchmark(
      ("levels/" + name + "/n:" + std::to_string(n) + "/k:" + std::to_string(k)).c_str(),
      [=](benchmark::State& state) { run(state, n, k); })
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

int main(int argc, char** argv) {
  for (const Index n : {131'072, 1'048'576}) {
    for (const Index k : {4, 16, 64, 256}) {
      add("exact", exact, n, k);
      add("histogram", histogram, n, k);
    }
    benchmark::RegisterBenchmark(("levels/data-pass/n:" + std::to_string(n)).c_str(),
                                 [=](benchmark::State& state) { data_pass(state, n); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
    add("lloyd-max", lloyd_max, n, 16);
    add("adaquant", adaquant, n, 16);
  }
  for (const Index n : {1'024, 65'536}) add("vector", vector, n, 16);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
