// Trains a linear model from a file, end to end in low precision. `train --help` tells the rest.

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include <zipml/io/class_model_file.hpp>
#include <zipml/io/model_file.hpp>

#include "../interrupt.hpp"
#include "report.hpp"

int main(int argc, char** argv) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away ends the output, not the program
#endif
  Options options = parse_options(argc, argv);
  try {
    check_outputs(options);
    const Samples samples = load_samples(options);
    choose_representation(options, samples);
    const std::vector<Result> results = [&] {
      const interrupt::Guard guard;  // here, so that other programs that train keep their Ctrl-C
      return run(options, samples);
    }();
    if (options.json)
      print_json(options, samples, results);
    else if (options.sweep)
      print_table(options, samples, results);
    else
      print_summary(options, samples, results.front());
    const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
    const int reason = errno;
    const Result& result = results.front();
    if (!options.history.empty()) write_history(options, result);
    if (!options.save_model.empty() && result.model) zipml::save_model(options.save_model, *result.model);
    if (!options.save_model.empty() && result.classes) zipml::save_model(options.save_model, *result.classes);
    if (!written && reason != EPIPE) {
      std::fprintf(stderr, "train: cannot write the results: %s\n", std::strerror(reason));
      return 1;
    }
    const bool interrupted = results.back().interrupted;
    if (interrupted && options.sweep)
      std::fprintf(stderr, "train: interrupted: the widths behind the last row are missing\n");
    // Every row of a sweep says how it ended; a single run that failed is a failure of the program.
    if (options.sweep) return interrupted ? 130 : 0;
    if (!result.advice.empty())
      std::fprintf(stderr, "train: %s: %s\n", result.status.c_str(), result.advice.c_str());
    if (result.success) return interrupted ? 130 : 0;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "train: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
  }
  return 1;
}
