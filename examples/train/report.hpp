#pragma once
// How results are shown: a table for people, one JSON object for programs.

#include <vector>

#include "experiment.hpp"

void print_table(const Options& options, const Samples& samples, const std::vector<Result>& results);
void print_summary(const Options& options, const Samples& samples, const Result& result);
void print_json(const Options& options, const Samples& samples, const std::vector<Result>& results);

/// Shows the results as the options say, writes history and model, and says what else there is to say on standard error. Returns what
/// the program ends with.
int report(const char* program, const Options& options, const Samples& samples,
           const std::vector<Result>& results);
