// train_distributed: `train` on the processes of mpirun or srun, each of which takes its share of every batch.
// `mpirun -np 4 train_distributed data.zipml`; `train_distributed --help` tells the rest.

#include <fcntl.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <zipml/distributed/mpi_reducer.hpp>
#include <zipml/distributed/together.hpp>

#include "report.hpp"

namespace {

constexpr const char* program = "train_distributed";

/// What is written to a descriptor goes nowhere, as long as this lives: one process speaks for all.
class Silence {
 public:
  Silence(int descriptor, bool silent) : descriptor_(descriptor) {
    if (!silent) return;
    kept_ = dup(descriptor);
    const int nowhere = open("/dev/null", O_WRONLY);
    if (nowhere >= 0) dup2(nowhere, descriptor);
    close(nowhere);
  }
  ~Silence() {
    if (kept_ < 0) return;
    std::fflush(nullptr);
    dup2(kept_, descriptor_);
    close(kept_);
  }
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

 private:
  int descriptor_;
  int kept_ = -1;
};

zipml::CodeExchange exchange_of(const Options& options) {
  if (options.exchange == "gather") return zipml::CodeExchange::gather;
  return options.exchange == "reduce-scatter" ? zipml::CodeExchange::reduce_scatter
                                              : zipml::CodeExchange::automatic;
}

int train(int argc, char** argv) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const bool is_first = rank == 0;
  const Silence results_of_others(STDOUT_FILENO, !is_first), warnings_of_others(STDERR_FILENO, !is_first);
  Options options = parse_options(argc, argv, program);
  zipml::MpiReducer reducer(MPI_COMM_WORLD, {.timeout = options.timeout, .codes = exchange_of(options)});
  options.reducer = &reducer;
  const Samples samples = zipml::together(reducer.communicator(), [&] {
    if (is_first) check_outputs(options);
    return load_samples(options);
  });
  const zipml::Exchanged before = reducer.exchanged();
  std::vector<Result> results = run(options, samples);
  Result& result = results.front();
  const double bytes = reducer.exchanged().bytes - before.bytes;
  // Of a refinement a step is a reading.
  const double batches =
      std::ceil(static_cast<double>(samples.sets.train.rows) / static_cast<double>(options.batch));
  const double steps = result.refinement ? result.refinement->full_passes : result.epochs * batches;
  result.exchange = Exchange{reducer.workers(), bytes, bytes / (std::max)(1.0, steps),
                             reducer.exchanged().seconds - before.seconds};
  if (!is_first) options.save_model = options.history = "";
  return report(program, options, samples, results);
}

}  // namespace

int main(int argc, char** argv) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);
#endif
  const zipml::MpiSession session(&argc, &argv);
  int code = 0;
  const int failed = zipml::run_together(program, MPI_COMM_WORLD, [&] {
    try {
      code = train(argc, argv);
    } catch (const ExitWith& exit) {
      code = exit.code;
    }
  });
  return failed != 0 ? failed : code;
}
