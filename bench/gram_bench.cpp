// The Gram matrix of packed codes in integers, beside float32: Eigen's rank update, compiled with -march=native, and ssyrk of
// OpenBLAS where libopenblas.so.0 is installed, on one thread. One core, samples out of cache.
//
//     gram_bench [TURNS]        5 turns, taken alternately; the fastest counts
//
// Times are the thread's own: other programs may run, but slow it down where they share its core.
// Figures are n d (d + 1) / 2 products a nanosecond, and their ratio to the faster float32.

#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "eigen_baseline.hpp"
#include "synthetic_store.hpp"

namespace {

using namespace zipml;

/// Null functions where it is not installed.
struct OpenBlas {
  void (*syrk)(const char*, const char*, const int*, const int*, const float*, const float*, const int*,
               const float*, float*, const int*) = nullptr;
  char* (*core_name)() = nullptr;

  OpenBlas() {
    void* const library = dlopen("libopenblas.so.0", RTLD_NOW);
    if (library == nullptr) return;
    find(library, "ssyrk_", syrk);
    find(library, "openblas_get_corename", core_name);
    void (*set_threads)(int) = nullptr;
    find(library, "openblas_set_num_threads", set_threads);
    if (set_threads != nullptr) set_threads(1);
  }

 private:
  template <class Function>
  static void find(void* library, const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
  }
};

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

struct Way {
  std::string name;
  int bits;
  std::function<void()> work;
  double seconds = 1e30;
};

void measure(const OpenBlas& blas, Index n, Index d, int turns) {
  std::vector<Way> ways;
  const DenseStore dense = bench::dense(n, d);
  Buffer<float> floats(d * d);
  ways.push_back({"eigen-native", 32, [&] { eigen_gram(dense.row(0), n, d, floats.data()); }});
  if (blas.syrk != nullptr)
    ways.push_back({"openblas", 32, [&] {
                      const auto size = static_cast<int>(d), rows = static_cast<int>(n);
                      const float one = 1.0f, zero = 0.0f;
                      blas.syrk("L", "N", &size, &rows, &one, dense.row(0), &size, &zero, floats.data(),
                                &size);
                    }});
  Buffer<std::int64_t> products(d * (d + 1) / 2), sums(d);
  std::vector<PackedStore<SeparateDraws<1>, AffineDecoder>> stores;
  for (int bits = 1; bits <= 8; ++bits) stores.push_back(bench::packed<SeparateDraws<1>>(n, d, bits));
  for (const Isa isa : all_isas) {
    if (!available(isa)) continue;
    const KernelTable kernels = kernels_for<AnyCode, kernel_families::gram>(isa);
    for (const auto& store : stores) {
      const SampleView samples = store.samples();
      ways.push_back({name_of(isa), samples.bits, [samples, kernels, &products, &sums] {
                        std::fill(products.begin(), products.end(), 0);
                        std::fill(sums.begin(), sums.end(), 0);
                        kernels.gram({samples.codes, samples.layout}, samples.planes(0), {nullptr, 0},
                                     {0, samples.layout.groups()}, {products.data(), sums.data()});
                      }});
    }
  }
  for (int turn = 0; turn < turns; ++turn)
    for (Way& way : ways) {
      if (turn > 0 && way.name == "scalar") continue;
      const double start = thread_seconds();
      way.work();
      way.seconds = std::min(way.seconds, thread_seconds() - start);
    }
  double floats_best = 1e30;
  for (const Way& way : ways)
    if (way.bits == 32) floats_best = std::min(floats_best, way.seconds);
  const double work = static_cast<double>(n) * static_cast<double>(d * (d + 1)) / 2.0 * 1e-9;
  for (const Way& way : ways)
    std::printf("%7td x %-5td %-13s %2d bits %8.1f ms %8.1f /ns  %5.2f\n", n, d, way.name.c_str(), way.bits,
                way.seconds * 1e3, work / way.seconds, floats_best / way.seconds);
}

}  // namespace

int main(int argc, char** argv) {
  const int turns = argc > 1 ? std::atoi(argv[1]) : 5;
  const OpenBlas blas;
  if (blas.core_name != nullptr) std::printf("OpenBLAS for %s\n", blas.core_name());
  measure(blas, 200'000, 100, turns);
  measure(blas, 100'000, 300, turns);
  measure(blas, 50'000, 1000, turns);
}
