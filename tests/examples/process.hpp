#pragma once
// A program as a user runs it: a process with arguments, exit code, stdout and stderr.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "folder.hpp"
#include "message.hpp"

using Arguments = std::vector<std::string>;

/// How a process ended and what it wrote.
struct Run {
  int code = -1;   // exit code
  int signal = 0;  // that killed it
  std::string out;
  std::string err;

  long err_lines() const { return std::count(err.begin(), err.end(), '\n'); }
};

/// Files of a process to start; -1 opens the null device.
struct Streams {
  int in = -1;
  int out = -1;
  int err = -1;
};

inline pid_t start(const char* program, const Arguments& arguments, Streams streams) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child > 0) return child;
  std::signal(SIGPIPE, SIG_DFL);  // as a shell starts it, whatever runs this test
  const int null = open("/dev/null", O_RDWR);
  dup2(streams.in >= 0 ? streams.in : null, STDIN_FILENO);
  dup2(streams.out >= 0 ? streams.out : null, STDOUT_FILENO);
  dup2(streams.err >= 0 ? streams.err : null, STDERR_FILENO);
  std::vector<char*> argv{const_cast<char*>(program)};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(program, argv.data());
  _exit(127);
}

inline void finish(pid_t child, Run& run) {
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) run.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) run.signal = WTERMSIG(status);
}

/// Runs a program to its end. Output goes to files, which never fill up as a pipe does.
inline Run run_process(const char* program, const Arguments& arguments, const std::string& input = {}) {
  const Folder folder;
  const int in = open(folder.write("in", input).c_str(), O_RDONLY | O_CLOEXEC);
  const int out = open((folder / "out").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  const int err = open((folder / "err").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  Run run;
  finish(start(program, arguments, {in, out, err}), run);
  for (const int file : {in, out, err}) close(file);
  run.out = contents(folder / "out");
  run.err = contents(folder / "err");
  return run;
}
