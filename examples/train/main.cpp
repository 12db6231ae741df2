// Trains a linear model from a file, end to end in low precision. `train --help` tells the rest.

#include <csignal>
#include <cstdio>
#include <exception>
#include <new>

#include "../interrupt.hpp"
#include "report.hpp"

int main(int argc, char** argv) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away ends the output, not the program
#endif
  try {
    Options options = parse_options(argc, argv);
    check_outputs(options);
    const Samples samples = load_samples(options);
    choose_representation(options, samples);
    const std::vector<Result> results = [&] {
      const interrupt::Guard guard;  // here, so that other programs that train keep their Ctrl-C
      return run(options, samples);
    }();
    return report("train", options, samples, results);
  } catch (const ExitWith& exit) {
    return exit.code;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "train: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
  }
  return 1;
}
