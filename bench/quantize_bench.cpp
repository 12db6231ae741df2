// Packing a float32 matrix of 40,000 x 250 values: every width, one or two draws, stochastic or nearest
// rounding, against memcpy of the same matrix in the same run (times_memcpy).
//
// Names: quantize/<bits>/<estimator>/<rounding>

#include <benchmark/benchmark.h>

#include <chrono>

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

template <int Bits, class Estimator, class R>
void run(benchmark::State& state, Estimator estimator, R rounding) {
  Buffer<float> copy(samples().values.size());
  double copying = 0.0;
  double packing = 0.0;
  double stored_bits = 0.0;
  double bytes = 0.0;
  for (auto _ : state) {
    copying += seconds_of_memcpy(copy);
    const auto start = Clock::now();
    const auto store = quantize<Bits>(samples(), estimator, uniform_levels, rounding);
    const double once = std::chrono::duration<double>(Clock::now() - start).count();
    state.SetIterationTime(once);
    packing += once;
    stored_bits = store.stored_bits();
    bytes = static_cast<double>(store.store_bytes());
  }
  const double epochs = static_cast<double>(state.iterations());
  state.counters["values_per_ns"] = static_cast<double>(copy.size()) * epochs / packing * 1e-9;
  state.counters["packed_gb_per_s"] = bytes * epochs / packing * 1e-9;
  state.counters["stored_bits"] = stored_bits;
  state.counters["times_memcpy"] = packing / copying;
}

template <int Bits>
void add() {
  const auto name = [](const char* rest) { return "quantize/" + std::to_string(Bits) + "/" + rest; };
  const auto add_one = [](const std::string& title, auto f) {
    benchmark::RegisterBenchmark(title.c_str(), f)->UseManualTime()->Unit(benchmark::kMillisecond);
  };
  add_one(name("naive/nearest"), [](benchmark::State& s) { run<Bits>(s, naive, nearest); });
  add_one(name("naive/stochastic"), [](benchmark::State& s) { run<Bits>(s, naive, stochastic); });
  add_one(name("double-sampling/stochastic"),
          [](benchmark::State& s) { run<Bits>(s, double_sampling, stochastic); });
}

}  // namespace

int main(int argc, char** argv) {
  add<1>(), add<2>(), add<3>(), add<4>(), add<5>(), add<6>(), add<7>(), add<8>();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
