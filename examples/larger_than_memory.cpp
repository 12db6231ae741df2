// A set four times as large as the memory that this program may take: generated row by row, packed as it comes, saved,
// trained on, to the same bits as a program without that limit. `larger_than_memory --help` tells the rest.

#if __has_include(<malloc.h>)
#include <malloc.h>
#endif
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <vector>
#include <zipml/estimators/any_store.hpp>
#include <zipml/zipml.hpp>

#include "program.hpp"

namespace {

using zipml::Index;

struct Options {
  Index limit_mib = 256;
  Index cols = 100;
  std::string representation = "variance-corrected:4,outliers=0.003";
  std::string file = "larger_than_memory.zipml";
  std::uint64_t seed = 1;
};

/// Rows that are nowhere: each is computed when it is read, the same each time.
class Generator {
 public:
  Generator(Index rows, Index cols, std::uint64_t seed) : rows_(rows), cols_(cols), random_(seed) {}
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }

  void read(Index first, Index count, float* out) const {
    for (Index i = first; i < first + count; ++i, out += cols_) {
      for (Index j = 0; j < cols_; j += 4) {
        const zipml::PhiloxWords words = random_.words(
            zipml::Stream::generated, 0, static_cast<std::uint32_t>(j / 4), static_cast<std::uint64_t>(i));
        for (Index k = 0; k < 4 && j + k < cols_; ++k) {
          // The sum of four bytes is bell-shaped; columns are of different scale.
          const std::uint32_t word = words[static_cast<std::size_t>(k)];
          const auto sum =
              static_cast<float>((word & 255u) + (word >> 8 & 255u) + (word >> 16 & 255u) + (word >> 24));
          out[j + k] = (sum - 510.0f) * 0.0068f * static_cast<float>(1 + (j + k) % 5);
        }
      }
    }
  }
  zipml::Buffer<float> labels() const {
    zipml::Buffer<float> all(rows_), row(cols_);
    for (Index i = 0; i < rows_; ++i) {
      read(i, 1, row.data());
      double label =
          3.0 + static_cast<double>(
                    random_.word(zipml::Stream::generated, 1, 0, static_cast<std::uint64_t>(i)) >> 8) /
                    16777216.0;
      for (Index j = 0; j < cols_; ++j)
        label += static_cast<double>(row[j]) * (static_cast<double>(j % 7) - 3.0) / 10.0;
      all[i] = static_cast<float>(label);
    }
    return all;
  }

 private:
  Index rows_, cols_;
  zipml::Random random_;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<double> weights_of(const zipml::AnyStore& store) {
  const zipml::Fit fit = zipml::visit_estimator(store.representation().estimator, [&](auto estimator) {
    return zipml::Sgd{}.fit(store, estimator, {.epochs = 10});
  });
  std::vector<double> weights(fit.model.weights.begin(), fit.model.weights.end());
  weights.push_back(fit.model.intercept);
  return weights;
}

std::vector<double> with_limit(const Options& options, const Generator& rows) {
  const auto bytes = static_cast<rlim_t>(options.limit_mib) << 20;
  const rlimit limit{bytes, bytes};
  if (setrlimit(RLIMIT_DATA, &limit) != 0) throw zipml::Error("the system sets no limit of memory");
#ifdef M_MMAP_THRESHOLD
  // Else the allocator puts what follows a large block that was freed into its heap, whose holes count.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
  try {
    const zipml::Buffer<float> matrix(rows.rows() * rows.cols());
    throw zipml::Error("the limit does not hold: the whole matrix was allocated");
  } catch (const std::bad_alloc&) {
    std::printf("the matrix in memory: refused by the system\n");
  }
  auto start = Clock::now();
  {
    const zipml::Buffer<float> labels = rows.labels();
    const zipml::AnyStore store =
        zipml::quantize(zipml::rows_of(rows), labels, zipml::parse_representation(options.representation),
                        {.seed = options.seed});
    zipml::save_store(options.file, store);
    std::printf("generated, packed and saved in %.1f s: %td bytes, %.2f stored bits a value\n",
                seconds_since(start), store.samples().store_bytes, store.samples().stored_bits);
  }
  start = Clock::now();
  std::vector<double> weights = weights_of(zipml::open_store(options.file));
  std::printf("opened and trained, 10 epochs: %.2f s\n", seconds_since(start));
  return weights;
}

std::vector<double> without_limit(const Options& options, const Generator& rows) {
  const auto start = Clock::now();
  zipml::Buffer<float> matrix(rows.rows() * rows.cols());
  rows.read(0, rows.rows(), matrix.data());
  const zipml::Buffer<float> labels = rows.labels();
  const zipml::MatrixView view{matrix.data(), rows.rows(), rows.cols(), rows.cols()};
  std::vector<double> weights = weights_of(zipml::quantize(
      view, labels, zipml::parse_representation(options.representation), {.seed = options.seed}));
  std::printf("generated, packed and trained in memory in %.1f s\n", seconds_since(start));
  return weights;
}

/// What `work` returns in a process of its own, and the most memory that it has had.
std::vector<double> in_process(const char* name, Index cols,
                               const std::function<std::vector<double>()>& work) {
  int ends[2];
  if (pipe(ends) != 0) throw zipml::Error("the system gives no pipe");
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw zipml::Error("the system starts no process");
  if (child == 0) {
    int code = 1;
    try {
      const std::vector<double> weights = work();
      const std::size_t bytes = weights.size() * sizeof(double);
      code = write(ends[1], weights.data(), bytes) == static_cast<ssize_t>(bytes) ? 0 : 1;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "larger_than_memory: %s: %s\n", name, error.what());
    }
    std::fflush(nullptr);
    _exit(code);
  }
  close(ends[1]);
  std::vector<double> weights(static_cast<std::size_t>(cols + 1));
  char* to = reinterpret_cast<char*>(weights.data());
  std::size_t left = weights.size() * sizeof(double);
  for (ssize_t got = 0; left > 0 && (got = read(ends[0], to, left)) > 0; to += got)
    left -= static_cast<std::size_t>(got);
  close(ends[0]);
  int status = 0;
  rusage used;
  if (wait4(child, &status, 0, &used) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0 || left > 0)
    throw zipml::Error(std::string(name) + " has failed");
  std::printf("peak of memory %s: %ld MiB\n\n", name, used.ru_maxrss / 1024);
  return weights;
}

void run(const Options& options) {
  const Index rows = 4 * (options.limit_mib << 20) / 4 / options.cols;
  const Generator generator(rows, options.cols, options.seed);
  std::printf("%td x %td values: %td MiB in float32, the limit is %td MiB\n\n", rows, options.cols,
              4 * options.limit_mib, options.limit_mib);
  const auto limited =
      in_process("with the limit", options.cols, [&] { return with_limit(options, generator); });
  const auto free = in_process("without it", options.cols, [&] { return without_limit(options, generator); });
  const bool same = std::memcmp(limited.data(), free.data(), limited.size() * sizeof(double)) == 0;
  std::printf("weights: %s\n", same ? "the same, bit for bit" : "DIFFERENT");
  if (!same) throw zipml::Error("the weights with and without the limit differ");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app{
      "Packs and trains on a generated set four times as large as the memory that it may take, and compares "
      "the "
      "weights with those of a program that may take all."};
  app.option_defaults()->always_capture_default();
  app.add_option("--limit", options.limit_mib,
                 "MiB of memory (RLIMIT_DATA); what is not of the rows takes some 50 of them")
      ->check(CLI::Range(Index{128}, Index{1} << 24));
  app.add_option("--cols", options.cols, "columns of the set")->check(CLI::Range(Index{1}, Index{100'000}));
  app.add_option("--representation", options.representation, "as of `train`");
  app.add_option("--output", options.file, "the packed file");
  app.add_option("--seed", options.seed, "of every random choice");
  return run_program("larger_than_memory", app, argc, argv, [&] { run(options); });
}
