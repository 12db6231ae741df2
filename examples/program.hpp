#pragma once
// What the small programs do alike: usage errors end with 2, failures with 1 and one line on standard error.

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <zipml/base/error.hpp>

template <class Run>
int run_program(const char* name, CLI::App& app, int argc, char** argv, const Run& run) {
#ifdef SIGPIPE
  std::signal(SIGPIPE, SIG_IGN);
#endif
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    std::fprintf(stderr, "%s: %s\nTry --help.\n", name, error.what());
    return 2;
  }
  try {
    run();
    if (std::fflush(stdout) != 0) throw zipml::Error("cannot write the results");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 1;
  }
  return 0;
}
