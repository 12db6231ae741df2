// Kernels in cache: margins and accumulation of 64 rows x 4,096 columns, every instruction set, width and
// arithmetic.
//
// Names: margins/<isa>/<bits>/<int8|float>, accumulate/<isa>/<bits>/<int8|float>; 32 bits for float32 rows.

#include <benchmark/benchmark.h>

#include "synthetic_store.hpp"

namespace {

using namespace zipml;

constexpr Index rows = 64;
constexpr Index columns = 4096;

void report(benchmark::State& state, double stored_bits) {
  const auto values = static_cast<double>(rows * columns);
  state.counters["values_per_ns"] =
      benchmark::Counter(values * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["packed_gb_per_s"] =
      benchmark::Counter(values * stored_bits / 8.0 * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["stored_bits"] = stored_bits;
}

template <class Kernels, class T, class Sum>
void packed(benchmark::State& state, int bits, bool accumulate) {
  const auto store = bench::packed<SeparateDraws<1>>(rows, columns, bits);
  const PackedView view{store.codes().data(), store.codes().end(), store.layout()};
  const PlaneList planes = store.planes(0);
  const GroupRange groups{0, rows / group_rows};
  Buffer<T> model(columns);
  Buffer<T> residuals(rows);
  Buffer<Sum> margins(rows);
  Buffer<Sum> gradient(columns);
  const int reach = residual_levels(planes);
  for (Index j = 0; j < columns; ++j) model[j] = static_cast<T>(j * 37 % 255 - 127);
  for (Index i = 0; i < rows; ++i) residuals[i] = static_cast<T>(i * 29 % (2 * reach + 1) - reach);
  for (auto _ : state) {
    if (accumulate)
      Kernels::accumulate(view, planes, groups, residuals.data(), ModelBlock<Sum>{gradient.data(), columns});
    else
      Kernels::margins(view, planes, groups, ModelBlock<const T>{model.data(), columns}, margins.data());
    benchmark::ClobberMemory();
  }
  report(state, bits);
}

template <class Kernels>
void dense(benchmark::State& state, bool accumulate) {
  const DenseStore store = bench::dense(rows, columns);
  const DenseRows view{store.row(0), columns, columns, rows};
  Buffer<float> model(columns);
  Buffer<float> residuals(rows);
  Buffer<float> margins(rows);
  Buffer<float> gradient(columns);
  for (auto _ : state) {
    if (accumulate)
      Kernels::accumulate(view, residuals.data(), ModelBlock<float>{gradient.data(), columns});
    else
      Kernels::margins(view, ModelBlock<const float>{model.data(), columns}, margins.data());
    benchmark::ClobberMemory();
  }
  report(state, 32.0);
}

}  // namespace

int main(int argc, char** argv) {
  detail::for_each_kernels([](auto kernels) {
    using Kernels = decltype(kernels);
    if (!Kernels::available()) return;
    for (const bool accumulate : {false, true}) {
      const std::string name = std::string(accumulate ? "accumulate/" : "margins/") + Kernels::name + "/";
      benchmark::RegisterBenchmark((name + "32/float").c_str(),
                                   [=](benchmark::State& s) { dense<Kernels>(s, accumulate); });
      for (int bits = 1; bits <= 8; ++bits) {
        benchmark::RegisterBenchmark(
            (name + std::to_string(bits) + "/int8").c_str(),
            [=](benchmark::State& s) { packed<Kernels, std::int8_t, std::int32_t>(s, bits, accumulate); });
        benchmark::RegisterBenchmark(
            (name + std::to_string(bits) + "/float").c_str(),
            [=](benchmark::State& s) { packed<Kernels, float, float>(s, bits, accumulate); });
      }
    }
  });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
