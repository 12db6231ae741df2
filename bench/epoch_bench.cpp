// Epochs of SGD from memory: packed stores against the float32 store of the same instruction set, batch and
// d, in the same process, the two taking turns within each benchmark; and the Eigen loop that a user would
// write.
//
//     epoch_bench                                             all of it, about 15 minutes with 2 GB of
//     float32 epoch_bench --benchmark_filter='epoch/avx2/2/'          one width ZIPML_BENCH_MB=64 epoch_bench
//     a smaller problem
//
// Names: epoch/<isa>/<bits>/d:<d>/batch:<B>[/<what differs: int8, double-sampling>], 32 bits for float32.

#include <benchmark/benchmark.h>

#include <chrono>
#include <map>
#include <memory>

#include "eigen_baseline.hpp"
#include "synthetic_store.hpp"

namespace {

using zipml::Index;

/// The store of the last shape asked for: benchmarks run in the order of their shapes, and two would not fit
/// memory.
const zipml::DenseStore& dense_store(Index d) {
  static std::pair<Index, std::unique_ptr<zipml::DenseStore>> last;
  if (last.first != d || !last.second) {
    last.second.reset();
    last = {d, std::make_unique<zipml::DenseStore>(bench::dense(bench::float_bytes() / 4 / d, d))};
  }
  return *last.second;
}

template <class Encoding>
const zipml::PackedStore<Encoding, zipml::AffineDecoder>& packed_store(int bits, Index d) {
  using Store = zipml::PackedStore<Encoding, zipml::AffineDecoder>;
  static std::tuple<int, Index, std::unique_ptr<Store>> last;
  auto& [last_bits, last_d, store] = last;
  if (last_bits != bits || last_d != d || !store) {
    store.reset();
    store = std::make_unique<Store>(bench::packed<Encoding>(bench::float_bytes() / 4 / d, d, bits));
    last_bits = bits;
    last_d = d;
  }
  return *store;
}

/// Seconds of one epoch.
template <class Store, class Estimator>
double epoch(const zipml::KernelTable& kernels, const Store& store, Estimator estimator, Index batch,
             int model_bits) {
  const zipml::Sgd sgd{zipml::SquaredLoss{}, zipml::NoRegularizer{}, zipml::ConstantStep(1e-7f)};
  const zipml::FitOptions options{.epochs = 1, .batch = batch, .model_bits = model_bits};
  return sgd.fit_on(kernels, store, estimator, options).seconds_per_epoch;
}

template <class Store>
void report(benchmark::State& state, const Store& store, double seconds) {
  const double values = static_cast<double>(store.rows()) * static_cast<double>(store.cols());
  const double epochs = static_cast<double>(state.iterations());
  state.counters["values_per_ns"] = values * epochs / seconds * 1e-9;
  state.counters["packed_gb_per_s"] = static_cast<double>(store.store_bytes()) * epochs / seconds * 1e-9;
  state.counters["stored_bits"] = store.stored_bits();
}

void float_epoch(const zipml::KernelTable& kernels, benchmark::State& state, Index d, Index batch) {
  const auto& store = dense_store(d);
  double seconds = 0.0;
  for (auto _ : state) {
    const double once = epoch(kernels, store, zipml::full_precision, batch, 32);
    state.SetIterationTime(once);
    seconds += once;
  }
  report(state, store, seconds);
  state.counters["speedup_vs_float32"] = 1.0;
}

template <class Estimator>
void packed_epoch(const zipml::KernelTable& kernels, benchmark::State& state, Estimator estimator, int bits,
                  Index d, Index batch, int model_bits) {
  const auto& store = packed_store<typename Estimator::Encoding>(bits, d);
  const auto& baseline = dense_store(d);
  double seconds = 0.0;
  double float_seconds = 0.0;
  for (auto _ : state) {
    const double once = epoch(kernels, store, estimator, batch, model_bits);
    state.SetIterationTime(once);
    seconds += once;
    float_seconds += epoch(kernels, baseline, zipml::full_precision, batch, 32);
  }
  report(state, store, seconds);
  state.counters["speedup_vs_float32"] = float_seconds / seconds;
}

/// What an estimator or outliers cost beside naive at the same stored bits: time_vs_naive, both taking turns.
template <class Estimator>
void overhead_epoch(const zipml::KernelTable& kernels, benchmark::State& state, Estimator estimator, int bits,
                    Index d, Index batch, int model_bits, double outliers) {
  using Store = zipml::PackedStore<typename Estimator::Encoding, zipml::AffineDecoder>;
  const Index n = bench::float_bytes() / 4 / d;
  Store store = bench::packed<typename Estimator::Encoding>(n, d, bits);
  const auto plain = bench::packed<zipml::SeparateDraws<1>>(n, d, store.layout().stored_bits);
  if (outliers > 0.0) store.outliers = bench::random_outliers(n, d, outliers);
  double seconds = 0.0;
  double naive_seconds = 0.0;
  for (auto _ : state) {
    const double once = epoch(kernels, store, estimator, batch, model_bits);
    state.SetIterationTime(once);
    seconds += once;
    naive_seconds += epoch(kernels, plain, zipml::naive, batch, model_bits);
  }
  report(state, store, seconds);
  state.counters["time_vs_naive"] = seconds / naive_seconds;
}

void user_epoch(benchmark::State& state, Index d, Index batch) {
  const auto& store = dense_store(d);
  zipml::Buffer<float> x(d);
  double seconds = 0.0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    eigen_epoch(store.row(0), store.labels().data(), store.rows(), d, batch, 1e-7f, x.data());
    const double once = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(once);
    seconds += once;
  }
  report(state, store, seconds);
}

/// Reading the float32 store and nothing else: the memory bus of this moment.
void read_memory(benchmark::State& state, Index d) {
  const auto& store = dense_store(d);
  const auto* words = reinterpret_cast<const std::uint64_t*>(store.row(0));
  const Index count = store.rows() * d / 2;
  double seconds = 0.0;
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    std::uint64_t lanes[16] = {};
    for (Index k = 0; k + 16 <= count; k += 16)
      for (Index lane = 0; lane < 16; ++lane) lanes[lane] ^= words[k + lane];
    for (auto& lane : lanes) benchmark::DoNotOptimize(lane);
    const double once = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    state.SetIterationTime(once);
    seconds += once;
  }
  report(state, store, seconds);
}

template <class... Args>
void add(const std::string& name, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), args...)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->MinTime(0.5);
}

void add_all() {
  using zipml::Index;
  for (const Index d : {Index{128}, Index{1024}, Index{8192}}) {
    const std::string shape = "/d:" + std::to_string(d);
    add("read" + shape, [=](benchmark::State& s) { read_memory(s, d); });
    for (const Index batch : {Index{1}, Index{64}})
      add("epoch/eigen-native/32" + shape + "/batch:" + std::to_string(batch),
          [=](benchmark::State& s) { user_epoch(s, d, batch); });
    zipml::detail::for_each_kernels([&](auto policy) {
      if (!policy.available()) return;
      const zipml::KernelTable kernels(policy);
      const std::string isa = std::string("epoch/") + kernels.name;
      if (isa == "epoch/scalar" && d != 1024) return;
      for (const Index batch : {Index{64}, Index{256}}) {
        const std::string tail = shape + "/batch:" + std::to_string(batch);
        add(isa + "/32" + tail, [=](benchmark::State& s) { float_epoch(kernels, s, d, batch); });
        for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
          const std::string name = isa + "/" + std::to_string(bits) + tail;
          add(name, [=](benchmark::State& s) { packed_epoch(kernels, s, zipml::naive, bits, d, batch, 32); });
          add(name + "/int8",
              [=](benchmark::State& s) { packed_epoch(kernels, s, zipml::naive, bits, d, batch, 8); });
          if (d == 1024 && (bits == 2 || bits == 4)) {
            for (const int model_bits : {32, 8}) {
              const std::string base = name + (model_bits == 8 ? "/int8" : "");
              add(base + "/variance-corrected", [=](benchmark::State& s) {
                overhead_epoch(kernels, s, zipml::variance_corrected, bits, d, batch, model_bits, 0.0);
              });
              add(base + "/sum-code", [=](benchmark::State& s) {
                overhead_epoch(kernels, s, zipml::sum_code, bits, d, batch, model_bits, 0.0);
              });
              for (const double outliers : {0.001, 0.003}) {
                const std::string share = outliers == 0.001 ? "0.001" : "0.003";
                add(base + "/variance-corrected/outliers:" + share, [=](benchmark::State& s) {
                  overhead_epoch(kernels, s, zipml::variance_corrected, bits, d, batch, model_bits, outliers);
                });
              }
            }
          }
          if (batch == 64 && d == 1024)
            add(name + "/double-sampling", [=](benchmark::State& s) {
              packed_epoch(kernels, s, zipml::double_sampling, bits, d, batch, 32);
            });
        }
      }
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
