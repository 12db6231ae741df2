#pragma once
// How results are shown: a table for people, one JSON object for programs.

#include <vector>

#include "experiment.hpp"

void print_table(const Options& options, const Samples& samples, const std::vector<Result>& results);
void print_summary(const Options& options, const Samples& samples, const Result& result);
void print_json(const Options& options, const Samples& samples, const std::vector<Result>& results);
