// Sums of products of the columns of packed samples (analysis/code_gram.hpp), one thread, beside the same of float32 rows.
//
// Names: gram/<isa>/<bits>/d:<D>     codes of a store; multiplications of n d (d + 1) / 2 in GMAC/s
//        gram/eigen/32/d:<D>         Eigen's rank update, compiled with -march=native
//        gram/openblas/32/d:<D>      ssyrk, where libopenblas.so.0 is installed
//
// Data are out of cache: 64 million values. Ratios count where runs are interleaved
// (--benchmark_enable_random_interleaving --benchmark_repetitions=5).

#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <map>
#include <string>
#include <vector>
#include <zipml/analysis/code_gram.hpp>
#include <zipml/zipml.hpp>

#include "eigen_baseline.hpp"
#include "synthetic_store.hpp"

namespace {

using namespace zipml;

constexpr Index values = 64'000'000;

void count(benchmark::State& state, Index n, Index d) {
  const double products = static_cast<double>(n) * static_cast<double>(d) * static_cast<double>(d + 1) / 2.0;
  state.counters["GMAC/s"] = benchmark::Counter(1e-9 * products * static_cast<double>(state.iterations()),
                                                benchmark::Counter::kIsRate);
}

/// Kept until the next shape or width is asked for.
const SampleView& packed(Index d, int bits) {
  static std::map<std::pair<Index, int>, PackedStore<Naive::Encoding, AffineDecoder>> all;
  const auto key = std::pair(d, bits);
  if (!all.contains(key)) {
    all.clear();
    all.emplace(key, bench::packed<Naive::Encoding>(values / d, d, bits));
  }
  static SampleView view;
  return view = all.at(key).samples();
}

const float* dense(Index d) {
  static std::vector<float> rows;
  if (rows.empty()) {
    rows.resize(static_cast<std::size_t>(values));
    std::uint64_t word = 88172645463325252ull;
    for (float& v : rows) v = static_cast<float>(bench::next_word(word) & 15u);
  }
  (void)d;
  return rows.data();
}

void of_codes(benchmark::State& state, Isa isa, int bits, Index d) {
  const SampleView& samples = packed(d, bits);
  for (auto _ : state) benchmark::DoNotOptimize(code_gram(samples, 0, 1, isa).data());
  count(state, samples.rows, d);
}

void of_eigen(benchmark::State& state, Index d) {
  const float* const rows = dense(d);
  std::vector<float> gram(static_cast<std::size_t>(d * d));
  for (auto _ : state) {
    eigen_gram(rows, values / d, d, gram.data());
    benchmark::DoNotOptimize(gram.data());
  }
  count(state, values / d, d);
}

using Syrk = void (*)(const char*, const char*, const int*, const int*, const float*, const float*,
                      const int*, const float*, float*, const int*);

Syrk openblas() {
  void* const library = dlopen("libopenblas.so.0", RTLD_NOW);
  if (library == nullptr) return nullptr;
  using SetThreads = void (*)(int);
  if (const auto set = reinterpret_cast<SetThreads>(dlsym(library, "openblas_set_num_threads"))) set(1);
  return reinterpret_cast<Syrk>(dlsym(library, "ssyrk_"));
}

void of_openblas(benchmark::State& state, Syrk syrk, Index d) {
  const float* const rows = dense(d);
  std::vector<float> gram(static_cast<std::size_t>(d * d));
  const int n = static_cast<int>(values / d), size = static_cast<int>(d);
  const float one = 1.0f, zero = 0.0f;
  for (auto _ : state) {
    syrk("L", "N", &size, &n, &one, rows, &size, &zero, gram.data(), &size);
    benchmark::DoNotOptimize(gram.data());
  }
  count(state, n, d);
}

}  // namespace

int main(int argc, char** argv) {
  const Syrk syrk = openblas();
  for (const Index d : {100, 300, 1000}) {
    const std::string shape = "/d:" + std::to_string(d);
    const auto add = [&](const std::string& name, const auto& run) {
      benchmark::RegisterBenchmark(("gram/" + name + shape).c_str(), run)->Unit(benchmark::kMillisecond);
    };
    add("eigen/32", [d](benchmark::State& state) { of_eigen(state, d); });
    if (syrk != nullptr)
      add("openblas/32", [d, syrk](benchmark::State& state) { of_openblas(state, syrk, d); });
    for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512}) {
      if (isa > active_isa() || (isa == Isa::scalar && d > 100)) continue;
      for (const int bits : {1, 2, 3, 4, 6, 8})
        add(std::string(name_of(isa)) + "/" + std::to_string(bits),
            [=](benchmark::State& state) { of_codes(state, isa, bits, d); });
    }
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
