// Epochs of SGD: packed stores against the float32 store of the same instruction set, the two taking turns in
// one process, the fastest turn of each counted; the Eigen loop that a user would write; reading memory.
//
//     epoch_bench                                             all of it, half an hour with 2 GB of float32
//     epoch_bench --benchmark_filter='epoch/avx2/2/'          one instruction set and width
//     ZIPML_BENCH_MB=64 epoch_bench                           a smaller problem
//
// Names, 32 bits for float32, int8 for integers in model and residuals, else a float32 model:
//     epoch/<isa>/<bits>/d:<d>/batch:<B>[/int8][/<estimator>]  from memory; speedup_vs_float32 is against the
//                                                             float32 store, batch float_batch
//     cached/...                                              from the second-level cache
//     short/...                                               rows of 8 to 128 columns, in cache
//     threads:2/...                                           two threads against one, from L3

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
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

/// Seconds of an epoch, the mean of so many of one fit.
template <class Store, class Estimator>
double epoch(const zipml::KernelTable& kernels, const Store& store, Estimator estimator, Index batch,
             int model_bits, int epochs = 1, int threads = 1) {
  const zipml::Sgd sgd{zipml::SquaredLoss{}, zipml::NoRegularizer{}, zipml::ConstantStep(1e-7f)};
  const zipml::FitOptions options{
      .epochs = epochs, .batch = batch, .model = {model_bits}, .threads = threads};
  return sgd.fit_on(kernels, store, estimator, options).seconds_per_epoch;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What a benchmark compares by taking turns: the fastest turn of each side counts, as other tenants of a
/// machine only ever slow one down.
struct Turns {
  double seconds = INFINITY;  ///< of an epoch
  double other = INFINITY;    ///< of what it is compared with

  template <class Mine, class Other>
  void take(benchmark::State& state, const Mine& mine, const Other& compared) {
    for (auto _ : state) {
      other = std::min(other, compared());
      const double start = now();
      do seconds = std::min(seconds, mine());
      while (now() - start < 0.15);
      state.SetIterationTime(seconds);
    }
  }
};

template <class Store>
void report(benchmark::State& state, const Store& store, double seconds) {
  const double values = static_cast<double>(store.rows()) * static_cast<double>(store.cols());
  state.counters["values_per_ns"] = values / seconds * 1e-9;
  state.counters["packed_gb_per_s"] = static_cast<double>(store.store_bytes()) / seconds * 1e-9;
  state.counters["stored_bits"] = store.stored_bits();
}

void float_epoch(const zipml::KernelTable& kernels, benchmark::State& state, const zipml::DenseStore& store,
                 Index batch, int epochs = 1) {
  Turns turns;
  turns.take(
      state, [&] { return epoch(kernels, store, zipml::full_precision, batch, 32, epochs); },
      [] { return 0.0; });
  report(state, store, turns.seconds);
}

/// The batch that float32 is fastest with, for batches that are compared with the best of it: its passes are
/// short whatever the batch is, and the fixed work of a large one is paid least often. Smaller batches are
/// compared with their like.
Index float_batch(Index batch) { return batch < 64 ? batch : std::max<Index>(batch, 256); }

template <class Estimator>
void packed_epoch(const zipml::KernelTable& kernels, benchmark::State& state, Estimator estimator, int bits,
                  Index d, Index batch, int model_bits) {
  const auto& store = packed_store<typename Estimator::Encoding>(bits, d);
  const auto& baseline = dense_store(d);
  Turns turns;
  turns.take(
      state, [&] { return epoch(kernels, store, estimator, batch, model_bits); },
      [&] { return epoch(kernels, baseline, zipml::full_precision, float_batch(batch), 32); });
  report(state, store, turns.seconds);
  state.counters["speedup_vs_float32"] = turns.other / turns.seconds;
}

/// The same from the second-level cache: 128 rows of 1,024 columns, 512 KB of float32.
constexpr Index cached_rows = 128;
constexpr int cached_epochs = 500;

void cached_epoch(const zipml::KernelTable& kernels, benchmark::State& state, int bits, Index d,
                  Index batch) {
  const auto baseline = bench::dense(cached_rows, d);
  const auto store = bench::packed<zipml::SeparateDraws<1>>(cached_rows, d, bits);
  Turns turns;
  turns.take(
      state, [&] { return epoch(kernels, store, zipml::naive, batch, 8, cached_epochs); },
      [&] { return epoch(kernels, baseline, zipml::full_precision, batch, 32, cached_epochs); });
  report(state, store, turns.seconds);
  state.counters["speedup_vs_float32"] = turns.other / turns.seconds;
}

/// Two threads against one, on 16 MB of float32, so that packed data stay in the third-level cache and the
/// memory bus does not decide.
void threaded_epoch(const zipml::KernelTable& kernels, benchmark::State& state, int bits, Index d,
                    Index batch) {
  const auto store = bench::packed<zipml::SeparateDraws<1>>((Index{32} << 20) / d, d, bits);
  Turns turns;
  turns.take(
      state, [&] { return epoch(kernels, store, zipml::naive, batch, 8, 10, 2); },
      [&] { return epoch(kernels, store, zipml::naive, batch, 8, 10, 1); });
  report(state, store, turns.seconds);
  state.counters["speedup_vs_one_thread"] = turns.other / turns.seconds;
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
  Turns turns;
  turns.take(
      state, [&] { return epoch(kernels, store, estimator, batch, model_bits); },
      [&] { return epoch(kernels, plain, zipml::naive, batch, model_bits); });
  report(state, store, turns.seconds);
  state.counters["time_vs_naive"] = turns.seconds / turns.other;
}

/// Seconds that f() takes.
template <class F>
double timed(const F& f) {
  const double start = now();
  f();
  return now() - start;
}

void user_epoch(benchmark::State& state, Index d, Index batch) {
  const auto& store = dense_store(d);
  zipml::Buffer<float> x(d);
  Turns turns;
  turns.take(
      state,
      [&] {
        return timed([&] {
          eigen_epoch(store.row(0), store.labels().data(), store.rows(), d, batch, 1e-7f, x.data());
        });
      },
      [] { return 0.0; });
  report(state, store, turns.seconds);
}

/// Reading the float32 store and nothing else: the memory bus of this moment.
void read_memory(benchmark::State& state, Index d) {
  const auto& store = dense_store(d);
  const auto* words = reinterpret_cast<const std::uint64_t*>(store.row(0));
  const Index count = store.rows() * d / 2;
  Turns turns;
  turns.take(
      state,
      [&] {
        return timed([&] {
          std::uint64_t lanes[16] = {};
          for (Index k = 0; k + 16 <= count; k += 16)
            for (Index lane = 0; lane < 16; ++lane) lanes[lane] ^= words[k + lane];
          for (auto& lane : lanes) benchmark::DoNotOptimize(lane);
        });
      },
      [] { return 0.0; });
  report(state, store, turns.seconds);
}

constexpr int turns_of_each = 3;

template <class... Args>
void add(const std::string& name, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), args...)
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond)
      ->Iterations(turns_of_each);
}

void add_estimators(const zipml::KernelTable& kernels, const std::string& base, int bits, Index d,
                    Index batch, int model_bits) {
  add(base + "/variance-corrected", [=](benchmark::State& s) {
    overhead_epoch(kernels, s, zipml::variance_corrected, bits, d, batch, model_bits, 0.0);
  });
  add(base + "/sum-code", [=](benchmark::State& s) {
    overhead_epoch(kernels, s, zipml::sum_code, bits, d, batch, model_bits, 0.0);
  });
  for (const char* share : {"0.001", "0.003"})
    add(base + "/variance-corrected/outliers:" + share, [=](benchmark::State& s) {
      overhead_epoch(kernels, s, zipml::variance_corrected, bits, d, batch, model_bits, std::atof(share));
    });
}

void add_from_memory(const zipml::KernelTable& kernels, Index d) {
  const std::string isa = std::string("epoch/") + kernels.name;
  const std::string shape = "/d:" + std::to_string(d);
  const auto name = [&](int bits, Index batch) {
    return isa + "/" + std::to_string(bits) + shape + "/batch:" + std::to_string(batch);
  };
  for (const Index batch : {Index{1}, Index{16}, Index{64}, Index{256}})
    add(name(32, batch), [=](benchmark::State& s) { float_epoch(kernels, s, dense_store(d), batch); });
  for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8}) {
    for (const Index batch : {Index{64}, Index{256}})
      add(name(bits, batch) + "/int8",
          [=](benchmark::State& s) { packed_epoch(kernels, s, zipml::naive, bits, d, batch, 8); });
    // The float model: any batch, any levels.
    for (const Index batch : {Index{1}, Index{64}})
      if (d >= 1024)
        add(name(bits, batch),
            [=](benchmark::State& s) { packed_epoch(kernels, s, zipml::naive, bits, d, batch, 32); });
    if (d != 1024 || (bits != 2 && bits != 4)) continue;
    for (const Index batch : {Index{1}, Index{64}})
      add(name(bits, batch) + "/double-sampling",
          [=](benchmark::State& s) { packed_epoch(kernels, s, zipml::double_sampling, bits, d, batch, 32); });
    add_estimators(kernels, name(bits, 64), bits, d, 64, 32);
    add_estimators(kernels, name(bits, 256) + "/int8", bits, d, 256, 8);
  }
}

void add_cached(const zipml::KernelTable& kernels, Index d) {
  const std::string isa = std::string("cached/") + kernels.name + "/";
  const std::string shape = "/d:" + std::to_string(d) + "/batch:64";
  add(isa + "32" + shape, [=](benchmark::State& s) {
    const auto store = bench::dense(cached_rows, d);
    float_epoch(kernels, s, store, 64, cached_epochs);
  });
  for (const int bits : {1, 2, 3, 4, 5, 6, 7, 8})
    add(isa + std::to_string(bits) + shape + "/int8",
        [=](benchmark::State& s) { cached_epoch(kernels, s, bits, d, 64); });
}

/// Short rows: most real data. All of it from the second- or third-level cache, where float32 is at its best.
void short_epoch(const zipml::KernelTable& kernels, benchmark::State& state, int bits, Index d, Index batch,
                 int model_bits) {
  const Index n = (Index{1} << 18) / d;
  const auto store = bench::packed<zipml::SeparateDraws<1>>(n, d, bits);
  const auto baseline = bench::dense(n, d);
  Turns turns;
  turns.take(
      state, [&] { return epoch(kernels, store, zipml::naive, batch, model_bits, 50); },
      [&] { return epoch(kernels, baseline, zipml::full_precision, batch, 32, 50); });
  report(state, store, turns.seconds);
  state.counters["speedup_vs_float32"] = turns.other / turns.seconds;
}

void add_all() {
  for (const Index d : {Index{128}, Index{1024}, Index{8192}}) {
    const std::string shape = "/d:" + std::to_string(d);
    add("read" + shape, [=](benchmark::State& s) { read_memory(s, d); });
    for (const Index batch : {Index{1}, Index{64}})
      add("epoch/eigen-native/32" + shape + "/batch:" + std::to_string(batch),
          [=](benchmark::State& s) { user_epoch(s, d, batch); });
    for (const zipml::Isa isa : zipml::all_isas)
      if (available(isa) && (isa != zipml::Isa::scalar || d == 1024))
        add_from_memory(zipml::kernels_of(isa), d);
  }
  for (const zipml::Isa isa : zipml::all_isas) {
    if (!available(isa)) continue;
    const zipml::KernelTable kernels = zipml::kernels_of(isa);
    add_cached(kernels, 1024);
    if (isa == zipml::Isa::scalar) continue;
    for (const Index batch : {Index{64}, Index{512}, Index{4096}})
      for (const int bits : {2, 8})
        add(std::string("threads:2/") + kernels.name + "/" + std::to_string(bits) +
                "/d:1024/batch:" + std::to_string(batch) + "/int8",
            [=](benchmark::State& s) { threaded_epoch(kernels, s, bits, 1024, batch); });
    for (const Index d : {8, 16, 28, 54, 90, 128})
      for (const int bits : {2, 4, 8})
        for (const Index batch : {Index{1}, Index{16}, Index{64}})
          for (const int model_bits : {8, 32})
            if (model_bits == 32 || batch > 1)
              add(std::string("short/") + kernels.name + "/" + std::to_string(bits) +
                      "/d:" + std::to_string(d) + "/batch:" + std::to_string(batch) +
                      (model_bits == 8 ? "/int8" : ""),
                  [=](benchmark::State& s) { short_epoch(kernels, s, bits, d, batch, model_bits); });
  }
}

}  // namespace

int main(int argc, char** argv) {
  add_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
