// Reading text of 100,000 x 90 values (CSV), a third of them zero and left out (LIBSVM), from memory, so that
// no disk is measured: MB of text a second, by one thread and by two.
//
// Names: load/<format>/threads:<count>

#include <benchmark/benchmark.h>

#include <charconv>
#include <string>
#include <zipml/base/random.hpp>
#include <zipml/zipml.hpp>

namespace {

using namespace zipml;

std::string text_of(bool sparse) {
  const Random random(1);
  std::string text;
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    if (sparse) text += "1";
    for (std::uint32_t j = 0; j < 90; ++j) {
      const std::uint32_t word = random.words(Stream::generated, 0, i, j)[0];
      const bool zero = sparse && word % 3 == 0;
      char digits[32];
      const auto end =
          std::to_chars(digits, digits + sizeof digits, static_cast<float>(word) * 0x1p-31f - 1.0f);
      if (sparse && !zero) text += " " + std::to_string(j + 1) + ":" + std::string(digits, end.ptr);
      if (!sparse) text += std::string(digits, end.ptr) + ",";
    }
    text += sparse ? "\n" : "1\n";
  }
  return text;
}

void add(const char* format, bool sparse) {
  for (const int threads : {1, 2}) {
    const std::string name = std::string("load/") + format + "/threads:" + std::to_string(threads);
    benchmark::RegisterBenchmark(name.c_str(),
                                 [=](benchmark::State& state) {
                                   static const std::string texts[2] = {text_of(false), text_of(true)};
                                   const std::string& text = texts[sparse ? 1 : 0];
                                   const LoadOptions options{.threads = threads};
                                   for (auto _ : state) {
                                     LineReader reader = LineReader::from_memory(text);
                                     benchmark::DoNotOptimize(load(reader, options).values.data());
                                   }
                                   state.counters["mb_per_s"] =
                                       benchmark::Counter(static_cast<double>(text.size()) * 1e-6 *
                                                              static_cast<double>(state.iterations()),
                                                          benchmark::Counter::kIsRate);
                                 })
        ->UseRealTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace

int main(int argc, char** argv) {
  add("csv", false), add("libsvm", true);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
}
