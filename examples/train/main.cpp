// Trains a linear model from a file, end to end in low precision. `train --help` tells the rest.

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "report.hpp"

int main(int argc, char** argv) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away ends the output, not the program
#endif
  Options options = parse_options(argc, argv);
  try {
    const Samples samples = load_samples(options);
    choose_representation(options, samples);
    const std::vector<Result> results = run(options, samples);
    if (options.json)
      print_json(options, samples, results);
    else if (options.sweep)
      print_table(options, samples, results);
    else
      print_summary(options, samples, results.front());
    if ((std::fflush(stdout) != 0 || std::ferror(stdout) != 0) && errno != EPIPE) {
      std::fprintf(stderr, "train: cannot write the results: %s\n", std::strerror(errno));
      return 1;
    }
    // Every row of a sweep says how it ended; a single run that failed is a failure of the program.
    if (options.sweep) return 0;
    const Result& result = results.front();
    if (!result.advice.empty())
      std::fprintf(stderr, "train: %s: %s\n", result.status.c_str(), result.advice.c_str());
    if (result.success) return 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "train: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
  }
  return 1;
}
