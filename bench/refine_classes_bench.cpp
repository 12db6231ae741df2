// Ten classes to their exact optima: refine_classes(), whose readings in full precision serve all of them, beside a refinement
// of each class alone, from the same packed samples.
//
//     refine_classes_bench [ROWSxCOLUMNS] [--turns N]   60000x784, 3 turns
//
// Ways take turns, the fastest of each counts. Columns are correlated as 0.8^|j - k|, a class is the largest of ten noisy columns.
// Packing is in neither: separate refinements would pack once more for each class.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <zipml/estimators/any_store.hpp>
#include <zipml/training/refine_models.hpp>
#include <zipml/zipml.hpp>

namespace {

using namespace zipml;
constexpr Index classes = 10;

Dataset ten_classes(Index rows, Index cols) {
  Dataset data = synthetic(cols, {.rows = rows, .test_rows = 0}).train;
  const Random random(1);
  for (Index i = 0; i < rows; ++i) {
    float* const row = data.values.data() + i * cols;
    for (Index j = 1; j < cols; ++j) row[j] = 0.8f * row[j - 1] + 0.6f * row[j];
    float largest = -INFINITY;
    for (Index k = 0; k < classes; ++k) {
      const std::uint32_t word =
          random.word(Stream::generated, static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(i), 0);
      const float value = row[k * cols / classes] + 2.0f * static_cast<float>(word) / 4294967296.0f;
      if (value > largest) {
        largest = value;
        data.labels[i] = static_cast<float>(k);
      }
    }
  }
  data.label_offset = 0.0;
  return data;
}

struct Taken {
  double seconds = INFINITY;
  double seconds_full = 0.0;
  double megabytes = 0.0;  // of float32 rows
  int most_readings = 0;
  double worst_gap = 0.0;

  void add(const Refined& one) {
    seconds_full += one.seconds_full;
    megabytes += 1e-6 * one.full_bytes;
    most_readings = std::max(most_readings, one.full_passes);
    worst_gap = std::max(worst_gap, one.gap / one.value);
  }
};

template <class F>
void take_turn(Taken& best, const F& way) {
  Taken now;
  const auto start = std::chrono::steady_clock::now();
  way(now);
  now.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (now.seconds < best.seconds) best = now;
}

template <class L>
void compare(const Dataset& data, const AnyStore& store, const L& loss, int turns) {
  const L2 penalty{1e-4f};
  const auto rows = objective_on(store, data);
  Taken together, apart;
  for (int turn = 0; turn < turns; ++turn) {
    take_turn(together, [&](Taken& taken) {
      const auto found = refine_classes(store, variance_corrected, data, loss, penalty);
      for (const Refined& one : found.refined) taken.add(one);
    });
    take_turn(apart, [&](Taken& taken) {
      for (Index k = 0; k < classes; ++k) {
        Buffer<float> labels(data.rows);
        for (Index i = 0; i < data.rows; ++i)
          labels[i] = data.labels[i] == static_cast<float>(k) ? 1.0f : -1.0f;
        const std::span<const float> of_class = std::as_const(labels).span();
        const List<Objective<L, L2>> one{
            rows.with_labels(of_class, label_statistics(LabelView(of_class)), loss, penalty)};
        taken.add(refine_models(store, variance_corrected, one)[0]);
      }
    });
  }
  const auto print = [](const char* name, const Taken& taken) {
    std::printf(
        "  %-22s %7.2f s, of it readings %6.2f s, %8.0f MB; readings of a class at most %d, gap %.1g\n", name,
        taken.seconds, taken.seconds_full, taken.megabytes, taken.most_readings, taken.worst_gap);
  };
  std::printf("%s\n", L::name);
  print("refine_classes", together);
  print("each class alone", apart);
  std::printf("  %.2f times the speed\n", apart.seconds / together.seconds);
}

}  // namespace

int main(int argc, char** argv) {
  long rows = 60'000, cols = 784;
  int turns = 3;
  for (int k = 1; k < argc; ++k) {
    if (std::strcmp(argv[k], "--turns") == 0 && k + 1 < argc)
      turns = std::max(1, std::atoi(argv[++k]));
    else if (std::sscanf(argv[k], "%ldx%ld", &rows, &cols) != 2 || rows < 100 || cols < classes)
      return std::fprintf(stderr, "refine_classes_bench [ROWSxCOLUMNS] [--turns N]\n"), 2;
  }
  try {
    const Dataset data = ten_classes(rows, cols);
    const AnyStore store = quantize(data, parse_representation("variance-corrected:4,outliers=0.003"));
    std::printf("%ld x %ld, %td classes, 4 bits, one core, to 1e-6, fastest of %d\n", rows, cols, classes,
                turns);
    compare(data, store, LeastSquaresSvm{}, turns);
    compare(data, store, LogisticLoss{}, turns);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "refine_classes_bench: %s\n", error.what());
    return 1;
  }
}
