// Kernels in cache: margins and accumulation of 64 rows x 4,096 columns
// (ZIPML_BENCH_ROWS, ZIPML_BENCH_COLUMNS), every instruction set, width and
// arithmetic.
//
// Names: margins/<isa>/<bits>/<kind>, accumulate/<isa>/<bits>/<kind>; 32 bits for float32 rows. Kinds:
//   int8, float   of the codes
//   int8-table    codes stand for the entries of a table of bytes that all columns share; time_vs_uniform is
//   against
//                 int8 of the same width, both taking turns
//   float-table   codes stand for the levels of a table of floats for each column
//
// vector/<isa>/<work>: what a batch, or a row of classic SGD, does on vectors of so many columns whatever its
// rows are:
//   round, round-nearest      the model to 8 bits
//   fold, dot                 steps into the model; offsets times the model
//   unfold                    offsets times the rounded model
//   descend-int, -float       the step along a gradient of codes, in integer or float sums
//   descend-row, -to-row      the step along a row; with the next margin in the same reading

#include <benchmark/benchmark.h>

#include <chrono>

#include "synthetic_store.hpp"

namespace {

using namespace zipml;

/// Rows and columns: ZIPML_BENCH_ROWS, ZIPML_BENCH_COLUMNS, else 64 x 4,096.
Index size_from(const char* variable, Index otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr && std::atol(text) > 0 ? std::atol(text) : otherwise;
}
const Index rows = round_up(size_from("ZIPML_BENCH_ROWS", 64), group_rows);
const Index columns = round_up(size_from("ZIPML_BENCH_COLUMNS", 4096), model_padding);

void report(benchmark::State& state, double stored_bits) {
  const auto values = static_cast<double>(rows * columns);
  state.counters["values_per_ns"] =
      benchmark::Counter(values * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["packed_gb_per_s"] =
      benchmark::Counter(values * stored_bits / 8.0 * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["stored_bits"] = stored_bits;
}

template <class T, class Sum>
void packed(const KernelTable& kernels, benchmark::State& state, int bits, bool accumulate) {
  const auto store = bench::packed<SeparateDraws<1>>(rows, columns, bits);
  const PackedView view{store.codes().data(), store.layout()};
  const PlaneList planes = store.samples().planes(0);
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
      kernels.accumulate(view, planes, groups, {residuals.data()}, {gradient.data()});
    else
      kernels.margins(view, planes, groups, {model.data()}, {margins.data()});
    benchmark::ClobberMemory();
  }
  report(state, bits);
}

void shared_table(const KernelTable& kernels, benchmark::State& state, int bits, bool accumulate) {
  using Clock = std::chrono::steady_clock;
  const auto store = bench::packed<SeparateDraws<1>>(rows, columns, bits);
  const PackedView view{store.codes().data(), store.layout()};
  const PlaneList planes = store.samples().planes(0);
  const GroupRange groups{0, rows / group_rows};
  Buffer<std::uint8_t> entries(1 << bits);
  for (Index k = 0; k < entries.size(); ++k)
    entries[k] = static_cast<std::uint8_t>(255 * k * k / (entries.size() - 1) / (entries.size() - 1));
  const CodeTable table{entries.data(), static_cast<int>(entries.size())};
  Buffer<std::int8_t> model(columns);
  Buffer<std::int8_t> residuals(rows);
  Buffer<std::int32_t> margins(rows);
  Buffer<std::int32_t> gradient(columns);
  for (Index j = 0; j < columns; ++j) model[j] = static_cast<std::int8_t>(j * 37 % 127 - 63);
  for (Index i = 0; i < rows; ++i) residuals[i] = static_cast<std::int8_t>(i * 29 % 15 - 7);
  double table_seconds = 0.0;
  double uniform_seconds = 0.0;
  for (auto _ : state) {
    const auto start = Clock::now();
    if (accumulate)
      kernels.accumulate(view, planes, table, groups, {residuals.data()}, {gradient.data()});
    else
      kernels.margins(view, planes, table, groups, {model.data()}, {margins.data()});
    benchmark::ClobberMemory();
    const auto between = Clock::now();
    if (accumulate)
      kernels.accumulate(view, planes, groups, {residuals.data()}, {gradient.data()});
    else
      kernels.margins(view, planes, groups, {model.data()}, {margins.data()});
    benchmark::ClobberMemory();
    const double seconds = std::chrono::duration<double>(between - start).count();
    table_seconds += seconds;
    uniform_seconds += std::chrono::duration<double>(Clock::now() - between).count();
    state.SetIterationTime(seconds);
  }
  report(state, bits);
  state.counters["time_vs_uniform"] = table_seconds / uniform_seconds;
}

/// Levels by a table of floats for each column.
void column_tables(const KernelTable& kernels, benchmark::State& state, int bits, bool accumulate) {
  const auto store = bench::packed<SeparateDraws<1>>(rows, columns, bits);
  const PackedView view{store.codes().data(), store.layout()};
  const PlaneList planes = store.samples().planes(0);
  const GroupRange groups{0, rows / group_rows};
  Buffer<float> tables(columns << bits);
  for (Index k = 0; k < tables.size(); ++k) tables[k] = static_cast<float>(k % 7);
  const TableView table{tables.data(), Index{1} << bits};
  Buffer<float> model(columns);
  Buffer<float> residuals(rows);
  Buffer<float> margins(rows);
  Buffer<float> gradient(columns);
  for (auto _ : state) {
    if (accumulate)
      kernels.accumulate(view, planes, table, groups, {residuals.data()}, {gradient.data()});
    else
      kernels.margins(view, planes, table, groups, {model.data()}, {margins.data()});
    benchmark::ClobberMemory();
  }
  report(state, bits);
}

void dense(const KernelTable& kernels, benchmark::State& state, bool accumulate) {
  const DenseStore store = bench::dense(rows, columns);
  const DenseRows view{store.row(0), columns, columns, rows};
  Buffer<float> model(columns);
  Buffer<float> residuals(rows);
  Buffer<float> margins(rows);
  Buffer<float> gradient(columns);
  for (auto _ : state) {
    if (accumulate)
      kernels.accumulate(view, {residuals.data()}, {gradient.data()});
    else
      kernels.margins(view, {model.data()}, {margins.data()});
    benchmark::ClobberMemory();
  }
  report(state, 32.0);
}

/// Registers the work of a policy on vectors.
template <class Kernels>
void register_vector_work() {
  struct Vectors {
    Buffer<float> model{columns}, step{columns}, offset{columns}, row{columns}, sums{columns}, out{columns};
    Buffer<std::int8_t> codes{columns};
    Buffer<std::int32_t> integers{columns};
    Vectors() {
      for (Index j = 0; j < columns; ++j) {
        const auto v = static_cast<float>(j * 37 % 255 - 127);
        model[j] = v / 256.0f;
        step[j] = 0.5f + static_cast<float>(j % 3);
        offset[j] = row[j] = -v / 128.0f;
        codes[j] = static_cast<std::int8_t>(v);
      }
    }
    GradientFrame frame(bool in_integers) {
      GradientFrame frame{};
      (in_integers ? void(frame.codes = integers.data()) : void(frame.sums = sums.data()));
      frame.code_scale = frame.share = 0.01f;
      frame.step = step.data();
      frame.offset = offset.data();
      frame.inner = frame.outer = 0.1f;
      return frame;
    }
    VectorRounding rounding(bool nearest) const {
      return {Random(1), {}, 0.5f / 127.0f, 127, false, nearest};
    }
  };
  const auto add = [](const char* work, auto run) {
    benchmark::RegisterBenchmark((std::string("vector/") + Kernels::name + "/" + work).c_str(),
                                 [run](benchmark::State& state) {
                                   Vectors v;
                                   for (auto _ : state) {
                                     run(v);
                                     benchmark::ClobberMemory();
                                   }
                                   state.counters["columns"] = static_cast<double>(columns);
                                 });
  };
  // A step of 0 keeps what descends from running away while it is timed.
  for (const bool nearest : {false, true})
    add(nearest ? "round-nearest" : "round", [nearest](Vectors& v) {
      Kernels::round_symmetric(v.model.data(), columns, v.rounding(nearest), v.codes.data());
    });
  add("fold", [](Vectors& v) {
    benchmark::DoNotOptimize(Kernels::fold(v.step.data(), v.model.data(), v.out.data(), columns));
  });
  add("dot",
      [](Vectors& v) { benchmark::DoNotOptimize(Kernels::dot(v.offset.data(), v.model.data(), columns)); });
  add("unfold", [](Vectors& v) {
    benchmark::DoNotOptimize(
        Kernels::unfold(v.codes.data(), 0.01f, v.offset.data(), v.step.data(), v.out.data(), columns));
  });
  for (const bool in_integers : {true, false})
    add(in_integers ? "descend-int" : "descend-float", [in_integers](Vectors& v) {
      benchmark::DoNotOptimize(Kernels::descend(v.frame(in_integers), 0.0f, v.model.data(), columns));
    });
  add("descend-row", [](Vectors& v) { Kernels::descend_row({v.row.data(), 0.0f}, v.model.data(), columns); });
  add("descend-to-row", [](Vectors& v) {
    benchmark::DoNotOptimize(
        Kernels::descend_to_row({v.row.data(), 0.0f}, v.model.data(), v.offset.data(), columns));
  });
}

}  // namespace

int main(int argc, char** argv) {
  detail::for_each_kernels([](auto kernels) {
    using Kernels = decltype(kernels);
    if (!available(Kernels::isa)) return;
    register_vector_work<Kernels>();
    const KernelTable table{Kernels{}};
    for (const bool accumulate : {false, true}) {
      const std::string name = std::string(accumulate ? "accumulate/" : "margins/") + Kernels::name + "/";
      benchmark::RegisterBenchmark((name + "32/float").c_str(),
                                   [=](benchmark::State& s) { dense(table, s, accumulate); });
      for (int bits = 1; bits <= 8; ++bits) {
        benchmark::RegisterBenchmark(
            (name + std::to_string(bits) + "/int8").c_str(),
            [=](benchmark::State& s) { packed<std::int8_t, std::int32_t>(table, s, bits, accumulate); });
        benchmark::RegisterBenchmark((name + std::to_string(bits) + "/int8-table").c_str(),
                                     [=](benchmark::State& s) { shared_table(table, s, bits, accumulate); })
            ->UseManualTime();
        benchmark::RegisterBenchmark((name + std::to_string(bits) + "/float-table").c_str(),
                                     [=](benchmark::State& s) { column_tables(table, s, bits, accumulate); });
        benchmark::RegisterBenchmark(
            (name + std::to_string(bits) + "/float").c_str(),
            [=](benchmark::State& s) { packed<float, float>(table, s, bits, accumulate); });
      }
    }
  });
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
