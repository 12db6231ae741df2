// Packing a float32 matrix of 40,000 x 250 values: every width, one or two draws, stochastic or nearest
// rounding, against memcpy of the same matrix in the same run (times_memcpy).
//
// Names: quantize/<bits>/<estimator>/<rounding>[/threads:2]   statistics, levels and all, no pilot
//        quantize/<bits>/<estimator>/<rounding>/pilot[:rows]  with a pilot: of as many rows as serve, of 512
//        pack/<bits>/<estimator>/<rounding>                   the levels given

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>

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

}  // namespace

int main(int argc, char** argv) {
  add<1>(), add<2>(), add<3>(), add<4>(), add<5>(), add<6>(), add<7>(), add<8>();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
